/**
 * Judge: whether the program denies an established flow, by its first packet as the kernel's table still tells it.
 *
 * The endpoints of a flow are found by its addresses: the source, and the destination after translation. A TCP connection that the kernel met in
 * the middle may have been begun by either end: it is denied when it is whoever began it. The interface by which it comes or
 * goes outside is nowhere recorded, so a host endpoint counts only as far as that interface is certain: the one by which the node
 * reaches the other end now, and the one that has the node's own address in the flow must agree that the flow is denied. What cannot be
 * attributed is not denied: broadcast, an address that two pods have, an end that no route leads to, and flows that others announced (the
 * data of FTP), which no rule had to allow.
 */
import type { Sys } from "../../host/sys.ts";
import { AddressIndex, type EntryView } from "../../kernel/conntrack-entry.ts";
import { RouteClient } from "../../kernel/route/client.ts";
import type { Addr } from "../../net/addr.ts";
import type { FlowPacket } from "../../net/flow.ts";
import { type Prefix, prefixContains } from "../../net/prefix.ts";
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP } from "../../net/protocol.ts";
import { isWorkloadInterface } from "../../program/path.ts";
import { evaluatePacket } from "../../program/path-evaluate.ts";
import { EVERY_INTERFACE, type Endpoint, type EndpointId, type Program } from "../../program/program.ts";

/** The node as its flows see it. Throws KernelError. */
export interface Surroundings {
  /** Addresses of the node's own interfaces, each with the name of the interface. */
  readonly own: ReadonlyMap<Addr, string>;
  /** The only interface by which the node reaches the address, which is no broadcast or multicast address; undefined: there is none. */
  deviceTo(addr: Addr): string | undefined;
}

type Owner = { readonly is: "pod"; readonly device: EndpointId } | { readonly is: "node" } | { readonly is: "unclear" };

/** Stands for the interface of the other end where no host endpoint is looked at. */
const OUTSIDE = "outside";
/** Answers that are remembered at a time. */
const REMEMBERED = 10_000;

export class FlowJudge {
  readonly #program: Program;
  /** The same without host endpoints. */
  readonly #pods: Program;
  readonly #around: Surroundings;
  readonly #owners = new AddressIndex<Owner>();
  readonly #hasHosts: boolean;
  /** From which workloads may send though they are not theirs: whose a flow from there is, is not known. */
  readonly #sources: readonly Prefix[];
  readonly #looksAtSourcePorts: boolean;
  /** What is denied at pods. What was called before translation does not matter there: see PATH. */
  readonly #podVerdicts = new Map<string, boolean>();

  /** Of the program as it is: when it changes, a new judge is needed. */
  constructor(program: Program, around: Surroundings, looksAtSourcePorts: boolean) {
    this.#program = program;
    this.#looksAtSourcePorts = looksAtSourcePorts;
    this.#around = around;
    const pods = new Map<EndpointId, Endpoint>();
    const seen = new Set<Addr>();
    for (const addr of around.own.keys()) this.#owners.set(addr, { is: "node" });
    for (const [id, endpoint] of program.endpoints) {
      if (endpoint.kind === "host") continue;
      pods.set(id, endpoint);
      for (const addr of endpoint.addresses) {
        const isShared = seen.has(addr) || around.own.has(addr);
        this.#owners.set(addr, isShared ? { is: "unclear" } : { is: "pod", device: id });
        seen.add(addr);
      }
    }
    this.#pods = { ...program, endpoints: pods };
    this.#sources = [...pods.values()].flatMap(({ sources = [] }) => sources);
    this.#hasHosts = pods.size < program.endpoints.size;
  }

  /** Where host endpoints decide, the kernel is asked for routes, which overwrites what was received: then a question to ask later. */
  denies(entry: EntryView): boolean | (() => boolean) {
    if (entry.isExpected) return false;
    const { original, reply } = entry;
    const from = this.#owners.get(entry, original.source);
    const to = this.#owners.get(entry, reply.source);
    const hasPod = from?.is === "pod" || to?.is === "pod";
    if ((!hasPod && !this.#hasHosts) || from?.is === "unclear" || to?.is === "unclear") return false;
    if (from === undefined && this.#sources.some((prefix) => prefixContains(prefix, entry.addr(original.source))))
      return false;
    // What the node sends to its own pods always passes.
    if (from?.is === "node" && to !== undefined) return false;
    const isNodes = to?.is === "node" || isLoopback(entry, reply.source);
    if (from?.is === "node" && isNodes) return false;
    const source = from?.is === "pod" ? from.device : from?.is === "node" ? undefined : OUTSIDE;
    const destination = to?.is === "pod" ? to.device : isNodes ? undefined : OUTSIDE;
    // What has been in a flowtable may look like one that was met in the middle: then who began it is taken to be known.
    const isOffloaded = this.#program.settings.offloadsFlows && from?.is === "pod" && to?.is === "pod";
    const isPickedUp = entry.isPickedUp && !isOffloaded;
    if (isPickedUp && isNodes && from !== undefined) return false;
    const isAtPod = hasPod && this.#podsDeny(entry, source, destination);
    if (isAtPod && !isPickedUp) return true;
    const packets = this.#hasHosts || isAtPod ? packetsOf(entry) : undefined;
    if (packets === undefined) return false;
    const back = isPickedUp ? turned(packets) : undefined;
    if (isAtPod && back !== undefined && isDenied(this.#pods, back, destination, source)) return true;
    if (!this.#hasHosts || (source !== OUTSIDE && destination !== OUTSIDE)) return false;
    return () =>
      this.#hostsDeny(packets, source, destination) &&
      (back === undefined || this.#hostsDeny(back, destination, source));
  }

  /** Most flows differ from others in their source port alone. */
  #podsDeny(entry: EntryView, from: string | undefined, to: string | undefined): boolean {
    const { original, reply } = entry;
    const port = this.#looksAtSourcePorts ? original.sourcePort : "";
    const fields = [original.protocol, reply.sourcePort, original.icmpType, original.icmpCode, port].join(" ");
    const key = `${entry.hex(original.source)} ${entry.hex(reply.source)} ${fields}`;
    const known = this.#podVerdicts.get(key);
    if (known !== undefined) return known;
    const packets = packetsOf(entry);
    const denies = packets !== undefined && isDenied(this.#pods, packets, from, to);
    if (this.#podVerdicts.size >= REMEMBERED) this.#podVerdicts.clear();
    this.#podVerdicts.set(key, denies);
    return denies;
  }

  #hostsDeny(packets: Packets, from: string | undefined, to: string | undefined): boolean {
    const { own } = this.#around;
    const { original, packet } = packets;
    const called = [own.get(original.destination), to === undefined ? own.get(packet.destination) : undefined];
    const froms = from === OUTSIDE ? this.#outside(original.source, called) : [from];
    const tos = to === OUTSIDE ? this.#outside(packet.destination, [own.get(original.source)]) : [to];
    if (froms === undefined || tos === undefined) return false;
    return froms.every((each) => tos.every((other) => isDenied(this.#program, packets, each, other)));
  }

  /** Every interface by which the flow may come from or go to the address outside; undefined: that is not known. */
  #outside(addr: Addr, own: readonly (string | undefined)[]): readonly string[] | undefined {
    const device = this.#around.deviceTo(addr);
    if (device === undefined) return undefined;
    const all = [device, ...own.filter((name) => name !== undefined && name !== "lo")] as readonly string[];
    return all.some((name) => isWorkloadInterface(name, this.#program.settings)) ? undefined : all;
  }
}

interface Packets {
  readonly original: FlowPacket;
  /** After translation of the destination; the source is translated after policy. */
  readonly packet: FlowPacket;
}

/** As if the other end had begun the flow. */
function turned({ packet }: Packets): Packets {
  const { source, destination, sourcePort, destinationPort } = packet;
  const back = {
    ...packet,
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
  };
  return { original: back, packet: back };
}

function isDenied(program: Program, packets: Packets, from: string | undefined, to: string | undefined): boolean {
  return evaluatePacket(program, { ...packets, from, to, connection: "new" }).action === "drop";
}

/** Of IPv6 the only loopback address is one of the node's own. */
function isLoopback(entry: EntryView, at: number): boolean {
  return entry.family === 4 && entry.tail(at) >>> 24 === 127;
}

const WITH_PORTS: ReadonlySet<number> = new Set([TCP, UDP, SCTP]);

/** undefined: a field that policy may look at is not there. */
function packetsOf(entry: EntryView): Packets | undefined {
  const { original: tuple, reply } = entry;
  if (tuple.protocol === undefined || tuple.destination === 0) return undefined;
  const protocol = tuple.protocol as Protocol;
  const base = { source: entry.addr(tuple.source), destination: entry.addr(tuple.destination), protocol };
  const destination = entry.addr(reply.source);
  if (WITH_PORTS.has(protocol)) {
    const { sourcePort, destinationPort } = tuple;
    if (sourcePort === undefined || destinationPort === undefined || reply.sourcePort === undefined) return undefined;
    const original = { ...base, sourcePort, destinationPort };
    return { original, packet: { ...original, destination, destinationPort: reply.sourcePort } };
  }
  const original = { ...base, sourcePort: undefined, destinationPort: undefined };
  if (protocol !== ICMP && protocol !== ICMPV6) return { original, packet: { ...original, destination } };
  const { icmpType: type, icmpCode: code } = tuple;
  if (type === undefined || code === undefined) return undefined;
  const icmp = { type, code };
  return { original: { ...original, icmp }, packet: { ...original, destination, icmp } };
}

/** The node as it is now, each question asked once. Throws KernelError. */
export class KernelSurroundings implements Surroundings {
  readonly own: ReadonlyMap<Addr, string>;
  readonly #client: RouteClient;
  readonly #names: ReadonlyMap<number, string>;
  readonly #devices = new Map<Addr, string | undefined>();

  /** Only host endpoints need the names of devices, of which a node has as many as pods. */
  constructor(sys: Sys, { endpoints }: Pick<Program, "endpoints">) {
    this.#client = new RouteClient(sys);
    try {
      const hasHosts = [...endpoints.values()].some(({ kind }) => kind === "host");
      this.#names = new Map(hasHosts ? this.#client.links().map(({ index, name }) => [index, name]) : []);
      this.own = new Map(
        this.#client.addresses().map(({ addr, interfaceIndex }) => [addr, this.#names.get(interfaceIndex) ?? "lo"]),
      );
    } catch (error) {
      this.#client.close();
      throw error;
    }
  }

  deviceTo(addr: Addr): string | undefined {
    if (this.#devices.has(addr)) return this.#devices.get(addr);
    const route = this.#client.routeTo(addr);
    const device =
      route?.type === "unicast" && route.interfaceIndex !== undefined
        ? this.#names.get(route.interfaceIndex)
        : undefined;
    if (this.#devices.size >= REMEMBERED) this.#devices.clear();
    this.#devices.set(addr, device === EVERY_INTERFACE ? undefined : device);
    return this.#devices.get(addr);
  }

  close(): void {
    this.#client.close();
  }
}
