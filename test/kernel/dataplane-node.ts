/**
 * dataplane-node: a node on the machine's kernel with two pods and the rest of the world, its policy programmed by the dataplane of choice: the loop
 * and the drivers are those of the daemon. Datagrams of a millisecond's distance show what passes.
 */
import { programOf } from "../../src/calc/from-scratch.ts";
import { backendsOf, removeUpstreamTables } from "../../src/dataplane/backends.ts";
import { ChosenDriver } from "../../src/dataplane/chosen.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { droppingOthers } from "../../src/dataplane/others.ts";
import { readBpfObject } from "../../src/host/bun/bpf-object.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openFiles } from "../../src/host/bun/files.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Processes } from "../../src/host/processes.ts";
import type { Sys } from "../../src/host/sys.ts";
import type { CniRecord } from "../../src/model/endpoint.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { UDP } from "../../src/net/protocol.ts";
import { WORKLOAD_PREFIX } from "../../src/program/path.ts";
import type { DataplaneChoice, Program, ProgramDelta } from "../../src/program/program.ts";
import { makeBpfFs } from "./bpffs.ts";
import { makeNamespace, processesIn, REAL, removeNamespace } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod } from "./pods.ts";
import { Port } from "./wire.ts";

/** By name: the pod's interface on the node and its addresses. */
export const PODS = {
  web: { interface: "cali0", addresses: ["10.65.0.1", "fd00:65::1"] },
  closed: { interface: "cali1", addresses: ["10.65.0.2", "fd00:65::2"] },
} as const;
export const WORLD = ["198.51.100.7", "2001:db8::7"] as const;
/** Where the pod `web` is called, and may call. */
const ALLOWED_PORT = 80;
const DENIED_PORT = 81;

function pod(name: keyof typeof PODS): Resource<"Pod"> {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "a", labels: { app: name } },
    spec: { nodeName: "n1", containers: [] },
    status: { podIPs: PODS[name].addresses.map((ip) => ({ ip })) },
  };
}

function recordOf(name: keyof typeof PODS): CniRecord {
  return {
    containerId: name,
    pod: keyOf("Pod", pod(name)),
    interface: PODS[name].interface,
    addresses: PODS[name].addresses as unknown as Addr[],
    mac: "",
    netns: "",
    podInterface: "eth0",
  };
}

/** `web` may be called, and may call, at the port; `closed` may do nothing. */
export function nodeProgram(dataplane: DataplaneChoice, port = ALLOWED_PORT): Program {
  const rules = (to: object): object => ({
    podSelector: to,
    policyTypes: ["Ingress", "Egress"],
    ingress: [{ ports: [{ protocol: "UDP", port }] }],
    egress: [{ ports: [{ protocol: "UDP", port }] }],
  });
  const policy = (name: string, spec: object): Resource<"KubernetesNetworkPolicy"> =>
    ({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name, namespace: "a" },
      spec,
    }) as Resource<"KubernetesNetworkPolicy">;
  const program = programOf({
    pods: [pod("web"), pod("closed")],
    namespaces: [],
    serviceAccounts: [],
    blocks: [],
    nodes: [],
    networkPolicies: [
      policy("web", rules({ matchLabels: { app: "web" } })),
      policy("closed", { podSelector: { matchLabels: { app: "closed" } }, policyTypes: ["Ingress", "Egress"] }),
    ],
    pools: [],
    node: "n1",
    records: [recordOf("web"), recordOf("closed")],
  });
  return { ...program, settings: { ...program.settings, dataplane } };
}

/** All of a program, as a change. */
export function wholeOf({ sets, policies, endpoints, routes }: Program): ProgramDelta {
  return { sets, policies, endpoints, routes, members: new Map() };
}

export type Place = "world" | keyof typeof PODS;

interface SentDatagrams {
  readonly to: Exclude<Place, "closed">;
  readonly markers: readonly number[];
}

export interface Passed {
  /** Of each kind of datagram, by family: whether all (`true`), none (`false`) or some (a number) passed. */
  readonly allowed: readonly (boolean | number)[];
  readonly denied: readonly (boolean | number)[];
}
/** What must be. */
export const AS_POLICY_SAYS: Passed = { allowed: [true, true, true, true], denied: [false, false, false, false] };

export interface StartOptions {
  readonly auditIntervalMs?: number;
  readonly sys?: Sys;
  readonly processes?: Processes;
}

export class DataplaneNode {
  readonly node = makeNamespace("node");
  readonly reports: string[] = [];
  readonly #fs = makeBpfFs();
  readonly #world = makeNamespace("world");
  readonly #pods = { web: makeNamespace("web"), closed: makeNamespace("closed") };
  readonly #ports: { readonly world: Port; readonly web: Port; readonly closed: Port };
  #marker = 0xca11_0000;
  #daemon:
    | {
        readonly end: AbortController;
        readonly driver: ChosenDriver;
        readonly loop: Loop;
        readonly running: Promise<void>;
      }
    | undefined;

  constructor() {
    makeRouter(this.node);
    connect(this.node, "world", this.#world);
    routeDefault(this.node, "world");
    for (const name of ["web", "closed"] as const) {
      connect(this.node, PODS[name].interface, this.#pods[name]);
      for (const addr of PODS[name].addresses) routePod(this.node, PODS[name].interface, addr);
    }
    // The kernel drops what an interface that is up sends for some milliseconds when it gets its first.
    for (const name of ["world", ...Object.values(PODS).map((each) => each.interface)])
      this.node.run(["tc", "qdisc", "add", "dev", name, "clsact"]);
    this.#ports = {
      world: new Port(this.#world, "eth0", HOST_MAC),
      web: new Port(this.#pods.web, "eth0", HOST_MAC),
      closed: new Port(this.#pods.closed, "eth0", HOST_MAC),
    };
  }

  /** Starts what the daemon has of the dataplane; resolves when the kernel agrees with the program. */
  async start(program: Program, options: StartOptions = {}): Promise<void> {
    const clock = openClock();
    const end = new AbortController();
    const {
      sys: inside = sysIn(REAL, this.node),
      processes = processesIn(this.node),
      auditIntervalMs = 3_600_000,
    } = options;
    const report = (message: string, fields: object): void =>
      void this.reports.push(`${message} ${JSON.stringify(fields)}`);
    const driver = new ChosenDriver({
      backends: backendsOf({
        sys: inside,
        clock,
        processes,
        families: new Set([4, 6] as const),
        ownsTable: false,
        report,
        ebpf: { files: openFiles(), object: readBpfObject, pins: `${this.#fs.path}/calico` },
      }),
      removeForeign: () => removeUpstreamTables(inside),
      processes,
      clock,
      report,
    });
    const loop = new Loop({ drivers: [driver], clock, watcher: openWatcher(), auditIntervalMs, report });
    const running = loop.run(end.signal);
    this.#daemon = { end, driver, loop, running };
    loop.step(program, wholeOf(program));
    await loop.start();
  }

  get loop(): Loop {
    if (this.#daemon === undefined) throw new Error("nothing is started");
    return this.#daemon.loop;
  }

  /** What the node's status says of others' chains. */
  others(): Promise<readonly string[]> {
    if (this.#daemon === undefined) throw new Error("nothing is started");
    return droppingOthers({
      sys: sysIn(REAL, this.node),
      processes: processesIn(this.node),
      clock: openClock(),
      families: new Set([4, 6]),
      dataplane: this.#daemon.driver.name,
      prefixes: [WORKLOAD_PREFIX],
      hasSources: false,
    });
  }

  /** Leaves the kernel as it is. */
  async stop(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    daemon?.end.abort();
    await daemon?.running;
    daemon?.driver.close();
  }

  /** As `stop`, of a daemon whose calls of the kernel do nothing any more: it may never come to its end. */
  abandon(): void {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    daemon?.end.abort();
    daemon?.driver.close();
  }

  port(place: Place): Port {
    return this.#ports[place];
  }

  /** Sends datagrams, of which each is a flow of its own, and says what passed of those between the world and each pod, in both directions. */
  async passed(): Promise<Passed> {
    const kinds = {
      allowed: [0, 1].flatMap((family) => [
        this.#send("world", "web", family, ALLOWED_PORT),
        this.#send("web", "world", family, ALLOWED_PORT),
      ]),
      denied: [0, 1].flatMap((family) => [
        this.#send("world", "web", family, DENIED_PORT),
        this.#send("closed", "world", family, ALLOWED_PORT),
      ]),
    };
    await Bun.sleep(20);
    const seen = {
      world: new Set(this.#ports.world.markers()),
      web: new Set(this.#ports.web.markers()),
    };
    const judge = ({ to, markers }: SentDatagrams): boolean | number => {
      const count = markers.filter((marker) => seen[to].has(marker)).length;
      return count === markers.length ? true : count === 0 ? false : count;
    };
    return { allowed: kinds.allowed.map(judge), denied: kinds.denied.map(judge) };
  }

  #send(from: Place, to: SentDatagrams["to"], family: number, port: number): SentDatagrams {
    const addressOf = (place: Place): Addr =>
      (place === "world" ? WORLD : PODS[place].addresses)[family] as string as Addr;
    const markers = Array.from({ length: 5 }, () => {
      const marker = ++this.#marker;
      const packet = {
        source: addressOf(from),
        destination: addressOf(to),
        protocol: UDP,
        sourcePort: 1024 + (marker & 0x7fff),
        destinationPort: port,
      };
      this.#ports[from].send(packet, marker);
      return marker;
    });
    return { to, markers };
  }

  async remove(): Promise<void> {
    await this.stop();
    for (const port of Object.values(this.#ports)) port.close();
    for (const each of [this.node, this.#world, ...Object.values(this.#pods)]) removeNamespace(each);
    this.#fs.remove();
  }
}
