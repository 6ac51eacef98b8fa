/** cni: ADD and DEL, from exec to exit, against Debian's ptp with host-local, interleaved on one node. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { BareNode } from "../conformance/bare-node.ts";
import { execute, type Lab, list, namespace, until } from "../conformance/fixture.ts";
import { percentile, ratio, row } from "./figures.ts";

const PODS = Number(process.env["BENCH_PODS"] ?? "60");

function timed(
  command: string,
  config: object,
  environment: Record<string, string>,
): { readonly ms: number; readonly stdout: string } {
  const start = Bun.nanoseconds();
  const result = Bun.spawnSync([command], {
    stdin: Buffer.from(JSON.stringify(config)),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "", ...environment },
  });
  const ms = (Bun.nanoseconds() - start) / 1e6;
  if (result.exitCode !== 0)
    throw new Error(`${command} ${environment["CNI_COMMAND"]}: ${result.stdout.toString()}${result.stderr.toString()}`);
  return { ms, stdout: result.stdout.toString() };
}

export async function benchCni(lab: Lab): Promise<void> {
  console.log("\n== CNI, exec to exit");
  const bare = new BareNode(lab);
  await bare.up();
  const node = bare.asNode;
  const scratch = mkdtempSync(`${tmpdir()}/calico-bench-`);
  const host = `${lab.name}-ptp`;
  const names = Array.from({ length: PODS }, (_, i) => `bench-${i}`);
  // Pods of a node without a kubelet: this program is their runtime.
  const pods = names.map((name) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "bench" },
    spec: { nodeName: "bare", containers: [{ name: "main", image: "none" }] },
  }));
  await lab.apply(list(namespace("bench"), ...pods));
  await execute(["ip", "netns", "add", host]);
  const ours = {
    cniVersion: "1.0.0",
    name: "k8s-pod-network",
    type: "calico",
    daemon_socket: `${node.root}/var/run/calico/cni.sock`,
    ipam: { type: "calico-ipam" },
  };
  const ptp = {
    cniVersion: "1.0.0",
    name: "bench",
    type: "ptp",
    ipam: { type: "host-local", subnet: "10.67.0.0/24", dataDir: `${scratch}/ipam` },
  };
  const figures = {
    ourAdd: [] as number[],
    ptpAdd: [] as number[],
    ourDel: [] as number[],
    ptpDel: [] as number[],
    start: [] as number[],
  };
  const environment = (command: string, i: number, netns: string): Record<string, string> => ({
    CNI_COMMAND: command,
    CNI_CONTAINERID: `bench${i}`,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/usr/lib/cni",
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=bench-${i}`,
  });
  try {
    for (let i = 0; i < PODS; i++) {
      const [a, b] = [`${lab.name}-a${i}`, `${lab.name}-b${i}`];
      for (const name of [a, b]) await execute(["ip", "netns", "add", name]);
      figures.start.push(timed(`${node.cniBinDir}/calico`, {}, { CNI_COMMAND: "VERSION" }).ms);
      figures.ourAdd.push(timed(`${node.cniBinDir}/calico`, ours, environment("ADD", i, `/run/netns/${a}`)).ms);
      figures.ptpAdd.push(timedIn(host, "/usr/lib/cni/ptp", ptp, environment("ADD", i, `/run/netns/${b}`)));
      await until("the daemon to be idle again", async () => (await lab.daemon(node)).backlog === 0);
    }
    for (let i = 0; i < PODS; i++) {
      const [a, b] = [`${lab.name}-a${i}`, `${lab.name}-b${i}`];
      figures.ourDel.push(timed(`${node.cniBinDir}/calico`, ours, environment("DEL", i, `/run/netns/${a}`)).ms);
      figures.ptpDel.push(timedIn(host, "/usr/lib/cni/ptp", ptp, environment("DEL", i, `/run/netns/${b}`)));
      for (const name of [a, b]) await execute(["ip", "netns", "del", name]);
      await until("the daemon to be idle again", async () => (await lab.daemon(node)).backlog === 0);
    }
  } finally {
    for (let i = 0; i < PODS; i++)
      for (const kind of ["a", "b"]) await execute(["ip", "netns", "del", `${lab.name}-${kind}${i}`]);
    await execute(["ip", "netns", "del", host]);
    rmSync(scratch, { recursive: true, force: true });
    await bare.down();
    await lab.must("delete", "namespace", "bench", "--wait=false");
  }
  row("ADD calico", figures.ourAdd, "ms");
  row("ADD ptp + host-local", figures.ptpAdd, "ms");
  row("DEL calico", figures.ourDel, "ms");
  row("DEL ptp + host-local", figures.ptpDel, "ms");
  row("of which start of the calico executable (VERSION)", figures.start, "ms");
  ratio("ADD p50, calico : ptp", percentile(figures.ourAdd, 0.5) / percentile(figures.ptpAdd, 0.5), "1.0 at most");
  ratio("ADD p99, calico : ptp", percentile(figures.ourAdd, 0.99) / percentile(figures.ptpAdd, 0.99), "1.0 at most");
  ratio("DEL p50, calico : ptp", percentile(figures.ourDel, 0.5) / percentile(figures.ptpDel, 0.5), "0.5 at most");
  ratio("DEL p99, calico : ptp", percentile(figures.ourDel, 0.99) / percentile(figures.ptpDel, 0.99), "0.5 at most");
}

/** ptp works in the namespace that it is started in; entering it costs a start of nsenter, which is measured and taken off. */
function timedIn(netns: string, command: string, config: object, environment: Record<string, string>): number {
  const empty = Bun.nanoseconds();
  Bun.spawnSync(["nsenter", `--net=/run/netns/${netns}`, "--", "true"]);
  const enter = (Bun.nanoseconds() - empty) / 1e6;
  const plain = Bun.nanoseconds();
  Bun.spawnSync(["true"]);
  const program = (Bun.nanoseconds() - plain) / 1e6;
  const start = Bun.nanoseconds();
  const result = Bun.spawnSync(["nsenter", `--net=/run/netns/${netns}`, "--", command], {
    stdin: Buffer.from(JSON.stringify(config)),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "", ...environment },
  });
  const ms = (Bun.nanoseconds() - start) / 1e6;
  if (result.exitCode !== 0) throw new Error(`${command}: ${result.stdout.toString()}${result.stderr.toString()}`);
  return Math.max(0, ms - Math.max(0, enter - program));
}
