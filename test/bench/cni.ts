/** cni: ADD and DEL, from exec to exit, against Debian's ptp with host-local on one node: interleaved, and many at once. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { BareNode } from "../conformance/bare-node.ts";
import { execute, type Lab, list, namespace, until } from "../conformance/fixture.ts";
import { percentile, ratio, row } from "./figures.ts";
import { type PluginCall, runPlugin, runPlugins } from "./plugin.ts";

const PODS = Number(process.env["BENCH_PODS"] ?? "60");
const AT_ONCE = 100;
const OWN_NAMESPACE = "/proc/thread-self/ns/net";

/** Both contenders' calls for pod i, each with a network namespace of its own for the pod. */
class Contenders {
  readonly #lab: Lab;
  readonly #binDir: string;
  readonly #socket: string;
  readonly #scratch = mkdtempSync(`${tmpdir()}/calico-bench-`);

  constructor(lab: Lab, bare: BareNode) {
    this.#lab = lab;
    this.#binDir = bare.cniBinDir;
    this.#socket = bare.socket;
  }

  get #names(): readonly string[] {
    const pods = Array.from({ length: PODS + AT_ONCE }, (_, i) => i);
    return [`${this.#lab.name}-ptp`, ...pods.flatMap((i) => [this.#netns("a", i), this.#netns("b", i)])];
  }

  #netns(kind: "a" | "b", i: number): string {
    return `${this.#lab.name}-${kind}${i}`;
  }

  async #batch(verb: "add" | "del"): Promise<void> {
    const input = this.#names.map((name) => `netns ${verb} ${name}\n`).join("");
    await execute(["ip", "-force", "-batch", "-"], { input });
  }

  up(): Promise<void> {
    return this.#batch("add");
  }

  async down(): Promise<void> {
    await this.#batch("del");
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  calico(command: "ADD" | "DEL" | "VERSION", i: number): PluginCall {
    const config = {
      cniVersion: "1.0.0",
      name: "k8s-pod-network",
      type: "calico",
      daemon_socket: this.#socket,
      ipam: { type: "calico-ipam" },
    };
    return this.#call(`${this.#binDir}/calico`, OWN_NAMESPACE, config, command, i, "a");
  }

  /** ptp works in the namespace that it is started in. */
  ptp(command: "ADD" | "DEL", i: number): PluginCall {
    const ipam = { type: "host-local", subnet: "10.67.0.0/22", dataDir: `${this.#scratch}/ipam` };
    const config = { cniVersion: "1.0.0", name: "bench", type: "ptp", ipam };
    return this.#call("/usr/lib/cni/ptp", `/run/netns/${this.#lab.name}-ptp`, config, command, i, "b");
  }

  #call(program: string, netns: string, config: object, command: string, i: number, kind: "a" | "b"): PluginCall {
    const environment = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: `bench${i}`,
      CNI_NETNS: `/run/netns/${this.#netns(kind, i)}`,
      CNI_IFNAME: "eth0",
      CNI_PATH: "/usr/lib/cni",
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=bench-${i}`,
    };
    return { command: program, netns, config, environment };
  }
}

interface Figures {
  readonly ourAdd: number[];
  readonly ptpAdd: number[];
  readonly ourDel: number[];
  readonly ptpDel: number[];
  readonly start: number[];
  /** Since the first of them was started. */
  readonly ourAtOnce: number[];
  readonly ptpAtOnce: number[];
}

export async function benchCni(lab: Lab): Promise<void> {
  console.log("\n== CNI, exec to exit");
  const bare = new BareNode(lab);
  await bare.up();
  const contenders = new Contenders(lab, bare);
  // Pods of a node without a kubelet: this program is their runtime.
  const pods = Array.from({ length: PODS + AT_ONCE }, (_, i) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `bench-${i}`, namespace: "bench" },
    spec: { nodeName: "bare", containers: [{ name: "main", image: "none" }] },
  }));
  await lab.apply(list(namespace("bench"), ...pods));
  const idle = async (): Promise<void> =>
    void (await until("the daemon to be idle", async () => (await lab.daemon(bare.asNode)).backlog === 0));
  try {
    await contenders.up();
    say(await measure(contenders, idle));
  } finally {
    await contenders.down();
    await bare.down();
    await lab.must("delete", "namespace", "bench", "--wait=false");
  }
}

async function measure(contenders: Contenders, idle: () => Promise<void>): Promise<Figures> {
  const figures: Figures = {
    ourAdd: [],
    ptpAdd: [],
    ourDel: [],
    ptpDel: [],
    start: [],
    ourAtOnce: [],
    ptpAtOnce: [],
  };
  for (let i = 0; i < PODS; i++) {
    figures.start.push(runPlugin(contenders.calico("VERSION", i)).ms);
    figures.ourAdd.push(runPlugin(contenders.calico("ADD", i)).ms);
    figures.ptpAdd.push(runPlugin(contenders.ptp("ADD", i)).ms);
    await idle();
  }
  const rest = Array.from({ length: AT_ONCE }, (_, i) => PODS + i);
  for (const { ms } of await runPlugins(rest.map((i) => contenders.calico("ADD", i)))) figures.ourAtOnce.push(ms);
  await idle();
  for (const { ms } of await runPlugins(rest.map((i) => contenders.ptp("ADD", i)))) figures.ptpAtOnce.push(ms);
  for (let i = 0; i < PODS; i++) {
    figures.ourDel.push(runPlugin(contenders.calico("DEL", i)).ms);
    figures.ptpDel.push(runPlugin(contenders.ptp("DEL", i)).ms);
    await idle();
  }
  return figures;
}

function say(figures: Figures): void {
  row("ADD calico", figures.ourAdd, "ms");
  row("ADD ptp + host-local", figures.ptpAdd, "ms");
  row(`${AT_ONCE} ADDs at once, each answer, calico`, figures.ourAtOnce, "ms");
  row(`${AT_ONCE} ADDs at once, each answer, ptp + host-local`, figures.ptpAtOnce, "ms");
  row("DEL calico", figures.ourDel, "ms");
  row("DEL ptp + host-local", figures.ptpDel, "ms");
  row("of which start of the calico executable (VERSION)", figures.start, "ms");
  const against = (name: string, ours: readonly number[], ptp: readonly number[], at: number, aim: string): void =>
    ratio(`${name}, calico : ptp`, percentile(ours, at) / percentile(ptp, at), aim);
  against("ADD p50", figures.ourAdd, figures.ptpAdd, 0.5, "1.0 at most");
  against("ADD p99", figures.ourAdd, figures.ptpAdd, 0.99, "1.0 at most");
  against(`${AT_ONCE} ADDs at once, last answer`, figures.ourAtOnce, figures.ptpAtOnce, 1, "1.0 at most");
  against("DEL p50", figures.ourDel, figures.ptpDel, 0.5, "0.5 at most");
  against("DEL p99", figures.ourDel, figures.ptpDel, 0.99, "0.5 at most");
}
