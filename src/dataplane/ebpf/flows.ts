/**
 * EbpfFlows: the flows that the eBPF path knows: judged and cut where a change denies them.
 *
 * The map says which interface a flow came from and left by, and how its first packet was sent, so nothing has to be guessed. A flow that is cut
 * stays for some seconds as such: what answers it meanwhile begins no flow of its own. Its entry in the kernel's table of connections goes too.
 */
import type { Sys } from "../../host/sys.ts";
import type { MapEntry } from "../../kernel/bpf/map.ts";
import { ConntrackTable, countConnections } from "../../kernel/conntrack.ts";
import { type EntryView, tupleOf } from "../../kernel/conntrack-entry.ts";
import { nanosecondsSinceBoot } from "../../kernel/uptime.ts";
import { RouteClient } from "../../kernel/route/client.ts";
import { type Addr, familyOf } from "../../net/addr.ts";
import { type Protocol, SCTP, TCP, UDP } from "../../net/protocol.ts";
import { type Prefix, prefixContains } from "../../net/prefix.ts";
import { isWorkloadInterface } from "../../program/path.ts";
import { evaluatePacket } from "../../program/path-evaluate.ts";
import type { Endpoint, EndpointId, Program } from "../../program/program.ts";
import type { FlowPass, FlowSource, Judged } from "../flows/source.ts";
import {
  ANSWERED,
  ANSWERER_FINISHED,
  CALLER_FINISHED,
  type Connection,
  type ConnectionKey,
  CUT,
  decodeConnection,
  decodeConnectionKey,
  encodeConnection,
  encodeConnectionKey,
  firstPacketOf,
  type FlowEnd,
  PICKED_UP,
} from "./connections.ts";
import { decodeAddressKey } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";

export interface EbpfFlowsOptions {
  readonly sys: Sys;
  readonly maps: Pick<DataplaneMaps, "connections">;
}

/** Elements in one read. */
const READ = 512;
/** Verdicts that are remembered at a time. */
const REMEMBERED = 10_000;
/** Stands for an interface that is not known. */
const UNKNOWN_INTERFACE = "outside";
const WHAT = "this node";
/** What the kernel's table keeps under ports alone. */
const TRACKED: ReadonlySet<number> = new Set<Protocol>([TCP, UDP, SCTP]);

export class EbpfFlows implements FlowSource {
  readonly #options: EbpfFlowsOptions;
  /** The map itself ends what answers a flow that was cut. */
  readonly dueMs = Infinity;

  constructor(options: EbpfFlowsOptions) {
    this.#options = options;
  }

  hasFlows(): boolean {
    return true;
  }

  open(): FlowPass {
    return new EbpfPass(this.#options);
  }

  cutAnswers(): void {}
}

interface Flow {
  readonly key: ConnectionKey;
  readonly connection: Connection;
}

class EbpfPass implements FlowPass {
  readonly #options: EbpfFlowsOptions;
  readonly #batches: Generator<MapEntry[], void>;
  readonly #names: ReadonlyMap<number, string>;
  readonly #verdicts = new Map<string, boolean>();
  #version: number | undefined;
  #pods: Program | undefined;
  #denied: Flow[] = [];

  constructor(options: EbpfFlowsOptions) {
    this.#options = options;
    this.#batches = options.maps.connections.batches(READ);
    const routes = new RouteClient(options.sys);
    try {
      this.#names = new Map(routes.links().map(({ index, name }) => [index, name]));
    } finally {
      routes.close();
    }
  }

  read(judged: Judged): boolean {
    const { program, version } = judged;
    if (version !== this.#version) {
      this.#version = version;
      this.#verdicts.clear();
      this.#pods = withoutHosts(program);
    }
    const { done, value } = this.#batches.next();
    for (const entry of value ?? []) {
      const key = decodeConnectionKey(entry.key);
      const connection = decodeConnection(entry.value, familyOf(key.source));
      if (!connection.isAlias && (connection.flags & CUT) === 0 && this.#denies(judged, key, connection))
        this.#denied.push({ key, connection });
    }
    return done === true;
  }

  #denies({ program, looksAtSourcePorts }: Judged, key: ConnectionKey, connection: Connection): boolean {
    const { ends, original, flags } = connection;
    const text = [
      ...ends.flatMap(({ kind, interfaceIndex }) => [kind, interfaceIndex]),
      key.protocol,
      original.source,
      original.destination,
      original.destinationPort,
      key.destination,
      key.destinationPort,
      original.icmp.type,
      original.icmp.code,
      flags & PICKED_UP,
      looksAtSourcePorts ? original.sourcePort : "",
    ].join(" ");
    const known = this.#verdicts.get(text);
    if (known !== undefined) return known;
    const denies = this.#judge(program, key, connection);
    if (this.#verdicts.size >= REMEMBERED) this.#verdicts.clear();
    this.#verdicts.set(text, denies);
    return denies;
  }

  #judge(program: Program, key: ConnectionKey, connection: Connection): boolean {
    const [from, to] = connection.ends.map((end) => this.#nameOf(program, end));
    // The workload is gone, and nobody else gets into its flows.
    if (from === GONE || to === GONE) return false;
    // At an interface that is not known no host endpoint counts.
    const isCertain = from !== UNKNOWN_INTERFACE && to !== UNKNOWN_INTERFACE;
    const by = isCertain ? program : (this.#pods ?? program);
    const packets = firstPacketOf(key, connection);
    const isDenied = (path: Parameters<typeof evaluatePacket>[1]): boolean =>
      evaluatePacket(by, path).action === "drop";
    if (!isDenied({ ...packets, from, to, connection: "new" })) return false;
    if ((connection.flags & PICKED_UP) === 0) return true;
    const { packet } = packets;
    const {
      source: destination,
      destination: source,
      sourcePort: destinationPort,
      destinationPort: sourcePort,
    } = packet;
    const back = { ...packet, source, destination, sourcePort, destinationPort };
    return isDenied({ original: back, packet: back, from: to, to: from, connection: "new" });
  }

  /** undefined: the node itself. */
  #nameOf(program: Program, { kind, interfaceIndex }: FlowEnd): string | undefined {
    if (kind === "node") return undefined;
    const name = this.#names.get(interfaceIndex);
    if (kind === "outside") return name ?? UNKNOWN_INTERFACE;
    return name !== undefined && isWorkloadInterface(name, program.settings) ? name : GONE;
  }

  cut(): number {
    const flows = this.#denied.splice(0);
    const { sys, maps } = this.#options;
    if (flows.length === 0) return 0;
    const seen = nanosecondsSinceBoot(sys);
    for (const { key, connection } of flows) {
      const cut = { ...connection, seen, flags: connection.flags | CUT };
      maps.connections.update(encodeConnectionKey(key), encodeConnection(cut));
      this.#forgetAlias(key, connection);
    }
    if ((countConnections(sys) ?? 0) > 0) this.#cutTracked(flows);
    return flows.length;
  }

  /** The tuple before translation, which stands for a flow that is answered. */
  #forgetAlias({ protocol }: ConnectionKey, { original }: Connection): void {
    const { connections } = this.#options.maps;
    const alias = encodeConnectionKey({ protocol, ...original });
    const found = connections.lookup(alias);
    if (found !== undefined && decodeConnection(found, familyOf(original.source)).isAlias) connections.delete(alias);
  }

  #cutTracked(flows: readonly Flow[]): void {
    const table = new ConntrackTable(this.#options.sys);
    try {
      const tuples = flows
        .filter(({ key }) => TRACKED.has(key.protocol))
        .map(({ key: { protocol }, connection: { original } }) => {
          const { source, sourcePort, destination, destinationPort } = original;
          return tupleOf(protocol, { addr: source, port: sourcePort }, { addr: destination, port: destinationPort });
        });
      table.delete(WHAT, table.begunBy(WHAT, tuples));
    } finally {
      table.close();
    }
  }

  close(): void {}
}

const GONE = "";

function withoutHosts(program: Program): Program {
  const pods = [...program.endpoints].filter(([, { kind }]) => kind === "workload");
  return { ...program, endpoints: new Map<EndpointId, Endpoint>(pods) };
}

/** enum tcp_conntrack: LAST_ACK, TIME_WAIT and CLOSE follow. */
const TCP_CLOSE_WAIT = 5;

/** A prefix from which the workload of the interface may send. */
export interface SourcePrefix {
  readonly net: Prefix;
  readonly interfaceIndex: number;
}

/** Those of the program's workloads, whose interfaces are there. */
export function sourcePrefixes(
  { endpoints }: Pick<Program, "endpoints">,
  indexOf: (name: string) => number | undefined,
): readonly SourcePrefix[] {
  return [...endpoints].flatMap(([id, { sources = [] }]) => {
    const interfaceIndex = sources.length === 0 ? undefined : indexOf(id);
    return interfaceIndex === undefined ? [] : sources.map((net) => ({ net, interfaceIndex }));
  });
}

/**
 * Makes the flows that the kernel's table of connections knows, begun under another dataplane, known to the path too: TCP, UDP and SCTP. For when
 * the path sees every packet and connection tracking still answers for the others (Gate). Throws KernelError.
 */
export function* adoptingFlows(
  sys: Sys,
  maps: Pick<DataplaneMaps, "connections" | "addresses">,
  sources: readonly SourcePrefix[],
): Generator<undefined, void> {
  if ((countConnections(sys) ?? 0) === 0) return;
  const routes = new RouteClient(sys);
  const endOf = endsBy(routes, maps, sources);
  const seen = nanosecondsSinceBoot(sys);
  let found: Tracked[] = [];
  // What the path has begun to know meanwhile, it knows better.
  const write = (): void => {
    const entries = found.flatMap((tracked) => {
      const flow = flowOf(tracked, seen, endOf);
      return flow === undefined
        ? []
        : [{ key: encodeConnectionKey(flow.key), value: encodeConnection(flow.connection) }];
    });
    maps.connections.updateAll(entries.filter(({ key }) => maps.connections.lookup(key) === undefined));
    found = [];
  };
  const table = new ConntrackTable(sys);
  try {
    for (const _ of table.reading(WHAT, (entry) => {
      const tracked = trackedOf(entry);
      if (tracked !== undefined) found.push(tracked);
    })) {
      write();
      yield undefined;
    }
    write();
  } finally {
    table.close();
    routes.close();
  }
}

type EndOf = (addr: Addr) => FlowEnd | undefined;

/** undefined: the address is that of several. */
function endsBy(routes: RouteClient, maps: Pick<DataplaneMaps, "addresses">, sources: readonly SourcePrefix[]): EndOf {
  const ends = new Map<Addr, FlowEnd | undefined>();
  for (const { addr } of routes.addresses()) ends.set(addr, { kind: "node", interfaceIndex: 0 });
  for (const { key } of maps.addresses.entries()) {
    const { addr, interfaceIndex } = decodeAddressKey(key);
    ends.set(addr, ends.has(addr) ? undefined : { kind: "workload", interfaceIndex });
  }
  // Others may have an address of a source prefix too: it is the workload's where the route leads there.
  const endBehind = (addr: Addr): FlowEnd => {
    const indices = sources.flatMap(({ net, interfaceIndex }) => (prefixContains(net, addr) ? [interfaceIndex] : []));
    const index = indices.length === 0 ? undefined : routes.routeTo(addr)?.interfaceIndex;
    return index !== undefined && indices.includes(index)
      ? { kind: "workload", interfaceIndex: index }
      : { kind: "outside", interfaceIndex: 0 };
  };
  return (addr) => {
    if (!ends.has(addr)) ends.set(addr, endBehind(addr));
    return ends.get(addr);
  };
}

/** Of an entry of the kernel's table. */
interface Tracked {
  readonly key: ConnectionKey;
  readonly original: Connection["original"];
  readonly flags: number;
}

/** undefined: it is not of a kind that is taken over. */
function trackedOf(entry: EntryView): Tracked | undefined {
  const { original, reply } = entry;
  const { protocol, sourcePort, destinationPort } = original;
  if (protocol === undefined || !TRACKED.has(protocol) || sourcePort === undefined || destinationPort === undefined)
    return undefined;
  const sent = { source: entry.addr(original.source), destination: entry.addr(original.destination) };
  const key: ConnectionKey = {
    protocol: protocol as Protocol,
    source: entry.addr(reply.destination),
    destination: entry.addr(reply.source),
    sourcePort: reply.destinationPort ?? 0,
    destinationPort: reply.sourcePort ?? 0,
  };
  const isClosed = (entry.tcpState ?? 0) > TCP_CLOSE_WAIT;
  const flags =
    (entry.isAnswered ? ANSWERED : 0) |
    (isClosed ? CALLER_FINISHED | ANSWERER_FINISHED : 0) |
    (entry.isPickedUp ? PICKED_UP : 0);
  return { key, flags, original: { ...sent, sourcePort, destinationPort, icmp: { type: 0, code: 0 } } };
}

/** undefined: it is of the node with itself, or whose it is is not known. */
function flowOf({ key, flags, original }: Tracked, seen: bigint, endOf: EndOf): Flow | undefined {
  const [caller, answerer] = [endOf(original.source), endOf(key.destination)];
  if (caller === undefined || answerer === undefined || (caller.kind === "node" && answerer.kind === "node"))
    return undefined;
  return { key, connection: { seen, flags, ends: [caller, answerer], isAlias: false, original } };
}
