/**
 * flow-bench: a node with pods in namespaces, policy from resources through graph, loop and the real drivers, and the cutter of denied flows as the
 * daemon runs it.
 */
import { readFileSync } from "node:fs";
import { Graph } from "../../src/calc/graph.ts";
import { type CutterStatus, FlowCutter } from "../../src/dataplane/flows/cutter.ts";
import type { FlowSource } from "../../src/dataplane/flows/source.ts";
import type { Driver } from "../../src/dataplane/driver.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { IptablesDriver } from "../../src/dataplane/iptables/driver.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Clock } from "../../src/host/clock.ts";
import type { Processes } from "../../src/host/processes.ts";
import type { Sys } from "../../src/host/sys.ts";
import { whyNoFlowtables } from "../../src/kernel/nftables/flowtables.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { RowUpdate } from "../../src/model/convert/rows.ts";
import type { Addr } from "../../src/net/addr.ts";
import { updateOf } from "../property/updates.ts";
import { makeBpfFs } from "./bpffs.ts";
import { type Kernel, type Namespace, processesIn, REAL } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod, runBatch } from "./pods.ts";

/** Families of addresses by name: both pods are on the node. */
export const CLIENT = ["10.65.0.1", "fd00:65::1"] as const;
export const SERVER = ["10.65.0.2", "fd00:65::2"] as const;
const NEVER_MS = 3_600_000;

/** Every socket and file is opened in the namespace, whenever that may be. */
export function sysIn(kernel: Kernel, namespace: Namespace): Sys {
  const { sys } = kernel;
  return {
    ...sys,
    socket: (domain, type, protocol) => namespace.enter(() => sys.socket(domain, type, protocol)),
    open: (path, flags) => namespace.enter(() => sys.open(path, flags)),
    bind: (...args) => sys.bind(...args),
    setSocketOption: (...args) => sys.setSocketOption(...args),
    send: (...args) => sys.send(...args),
    receive: (...args) => sys.receive(...args),
    close: (...args) => sys.close(...args),
    read: (...args) => sys.read(...args),
    write: (...args) => sys.write(...args),
    ioctl: (...args) => sys.ioctl(...args),
    setNamespace: (...args) => sys.setNamespace(...args),
  };
}

export function pod(
  name: string,
  addresses: readonly string[],
  labels: Readonly<Record<string, string>>,
): Resource<"Pod"> {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "a", labels: { app: name, ...labels } },
    spec: { nodeName: "n1", containers: [] },
    status: { podIPs: addresses.map((ip) => ({ ip })) },
  };
}

/** Allows, of what `from` sends to the server, TCP and UDP to the ports. */
export function allow(
  name: string,
  ports: readonly number[],
  from?: Readonly<Record<string, string>>,
): Resource<"KubernetesNetworkPolicy"> {
  const peers = from === undefined ? {} : { from: [{ podSelector: { matchLabels: from } }] };
  const all = ports.flatMap((port) => (["TCP", "UDP", "SCTP"] as const).map((protocol) => ({ protocol, port })));
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace: "a" },
    spec: {
      podSelector: { matchLabels: { app: "server" } },
      policyTypes: ["Ingress"],
      ingress: [{ ...peers, ports: all }],
    },
  };
}

/** Which dataplane a daemon has; `flowtable`: nftables, with established flows in a flowtable; of eBPF, a directory for pins; of iptables, programs in the node. */
export type Dataplane =
  | { readonly is: "nftables" | "flowtable" }
  | { readonly is: "ebpf"; readonly pins: string }
  | { readonly is: "iptables-nft" | "iptables-legacy"; readonly processes: Processes };

interface Opened {
  readonly driver: Driver;
  readonly flows?: () => FlowSource | undefined;
  readonly suspendOffload?: (isSuspended: boolean) => void;
  close(): void;
}

function openDataplane(sys: Sys, clock: Clock, dataplane: Dataplane): Opened {
  if (dataplane.is === "iptables-nft" || dataplane.is === "iptables-legacy") {
    const variant = dataplane.is === "iptables-nft" ? "nft" : "legacy";
    const { processes } = dataplane;
    const driver = new IptablesDriver(sys, { processes, variant, families: new Set([4, 6] as const), clock });
    return { driver, close: () => driver.close() };
  }
  if (dataplane.is !== "ebpf") {
    const driver = new NftablesDriver(sys, { ownsTable: false, clock });
    const suspendOffload = (isSuspended: boolean): void => driver.suspendOffload(isSuspended);
    return { driver, suspendOffload, close: () => driver.close() };
  }
  const object = new Uint8Array(readFileSync(new URL("../../bpf/path.o", import.meta.url)));
  const driver = new EbpfDriver(sys, {
    object: () => object,
    pins: dataplane.pins,
    clock,
    ownsTable: false,
    report: () => {},
  });
  return { driver, flows: () => driver.flows, close: () => driver.close() };
}

/** Of the kernel that runs the tests. */
export const WHY_NO_FLOWTABLES = whyNoFlowtables(REAL.sys);

/** What a daemon is made of, as far as flows go; several may follow one another on one node. */
export class Daemon {
  readonly graph: Graph;
  readonly loop: Loop;
  readonly cutter: FlowCutter;
  readonly reports: string[] = [];
  readonly dataplane: Opened;
  readonly #abort = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  constructor(sys: Sys, clock: Clock = openClock(), dataplane: Dataplane = { is: "nftables" }) {
    const given = dataplane.is === "flowtable" ? { nftablesFlowTableOffload: "all" } : {};
    this.graph = new Graph({ node: "n1", given });
    this.dataplane = openDataplane(sys, clock, dataplane);
    const { driver, ...flows } = this.dataplane;
    this.loop = new Loop({
      drivers: [driver],
      clock,
      watcher: openWatcher(),
      auditIntervalMs: NEVER_MS,
      report: (message) => this.reports.push(message),
      written: () => this.cutter.written(),
    });
    const report = (message: string): void => void this.reports.push(message);
    this.cutter = new FlowCutter({ sys, ...flows, clock, isWritten: () => this.loop.isWritten, report });
  }

  get status(): CutterStatus {
    return this.cutter.status;
  }

  /** Pods of the node are wired: `cali1` is the client, `cali2` the server. */
  attach(): void {
    for (const [i, [name, addresses]] of [["client", CLIENT] as const, ["server", SERVER] as const].entries())
      this.wire(name, `cali${i + 1}`, addresses);
  }

  wire(name: string, interfaceName: string, addresses: readonly string[]): void {
    this.graph.setCniRecord({
      containerId: name,
      pod: keyOf("Pod", pod(name, addresses, {})),
      interface: interfaceName,
      addresses: addresses as unknown as Addr[],
      mac: "",
      netns: "",
      podInterface: "eth0",
    });
  }

  apply(updates: readonly RowUpdate[]): void {
    this.graph.update(updates);
    const delta = this.graph.flush();
    this.loop.step(this.graph.program, delta);
    this.cutter.changed(this.graph.program, delta);
  }

  /** With `cuts` false, one that is killed between its commits and their passes. */
  async start(cuts = true): Promise<void> {
    await this.loop.start();
    this.#running = Promise.all([
      this.loop.run(this.#abort.signal),
      cuts ? this.cutter.run(this.#abort.signal) : undefined,
    ]);
  }

  /** The second time it does nothing. */
  async end(): Promise<void> {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    await this.#running;
    this.dataplane.close();
  }

  /** Waits until a pass that began after now has ended. */
  async passed(after: number): Promise<void> {
    await until(() => this.status.passes > after);
  }
}

export const PODS = [
  updateOf("Pod", pod("client", CLIENT, { tier: "front" })),
  updateOf("Pod", pod("server", SERVER, {})),
];

export interface Bench {
  readonly node: Namespace;
  readonly client: Namespace;
  readonly server: Namespace;
  readonly sys: Sys;
  readonly dataplane: Dataplane;
}

export async function withBench(run: (bench: Bench) => Promise<void>, is: Dataplane["is"] = "nftables"): Promise<void> {
  const fs = is === "ebpf" ? makeBpfFs() : undefined;
  const [node, client, server] = ["node", "client", "server"].map(REAL.makeNamespace) as [
    Namespace,
    Namespace,
    Namespace,
  ];
  try {
    makeRouter(node);
    for (const [i, [end, addresses]] of [[client, CLIENT] as const, [server, SERVER] as const].entries()) {
      connectPod(node, `cali${i + 1}`, end);
      for (const addr of addresses) {
        routePod(node, `cali${i + 1}`, addr);
        addAddress(end, addr);
      }
    }
    const dataplane = dataplaneOf(is, node, fs?.path ?? "");
    await run({ node, client, server, sys: sysIn(REAL, node), dataplane });
  } finally {
    fs?.remove();
    for (const each of [node, client, server]) REAL.removeNamespace(each);
  }
}

function dataplaneOf(is: Dataplane["is"], node: Namespace, pins: string): Dataplane {
  if (is === "ebpf") return { is, pins };
  return is === "iptables-nft" || is === "iptables-legacy" ? { is, processes: processesIn(node) } : { is };
}

export function connectPod(node: Namespace, interfaceName: string, end: Namespace): void {
  connect(node, interfaceName, end);
  routeDefault(end, "eth0");
  runBatch(
    end,
    ["169.254.7.7", "fe80::7"].map((gateway) => `neigh replace ${gateway} lladdr ${HOST_MAC} dev eth0`),
  );
}

export function addAddress(end: Namespace, addr: string): void {
  const isV6 = addr.includes(":");
  end.run(["ip", "addr", "add", `${addr}/${isV6 ? 128 : 32}`, "dev", "eth0", ...(isV6 ? ["nodad"] : [])]);
}

export async function until(holds: () => boolean, what = ""): Promise<void> {
  for (const end = performance.now() + 20_000; !holds(); await Bun.sleep(2))
    if (performance.now() > end) throw new Error(`waited 20 s in vain ${what}`);
}
