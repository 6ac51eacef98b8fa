/**
 * Hosts: where a packet passes the interfaces of nodes, and what the policy of their host endpoints says there (POL-31, POL-32, POL-36, POL-49). The
 * interface is known where a host endpoint expects the address in question, or is for all interfaces; else every one that may be meant is asked.
 */
import type { Direction, Hook } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import type { Addr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { prefixContains } from "../net/prefix.ts";
import type { Settings } from "../program/program.ts";
import type { Cluster, ClusterHostEndpoint } from "../semantics/cluster.ts";
import { isPlaceholder, UNKNOWN_NODE } from "./placeholders.ts";

/** A host endpoint and the interface that it protects. */
export interface HostInterface {
  readonly node: string;
  /** `*`: every interface that no other protects; undefined: those with an expected address. */
  readonly interfaceName: string | undefined;
  readonly endpoint: ClusterHostEndpoint;
}

export interface HostWorld {
  readonly interfaces: readonly HostInterface[];
  readonly settingsOf: (node: string) => Settings;
}

/** Where an end of a packet is. */
export interface Place {
  readonly is: "pod" | "host" | "outside";
  /** undefined: not known, or outside. */
  readonly node: string | undefined;
}

export type HostReason =
  | Verdict["reason"]
  /** POL-36. */
  | { readonly type: "failsafe" }
  /** The settings of the node deny what pods send to it. */
  | { readonly type: "endpoint-to-host" }
  | { readonly type: "no-host-endpoint" };

export interface HostVerdict extends Omit<Verdict, "reason"> {
  readonly reason: HostReason;
  /** The name of the host endpoint. */
  readonly endpoint?: string;
}

/** The policy of a node's interface at one hook. */
export interface HostStage {
  readonly node: string;
  readonly hook: Hook;
  readonly direction: Direction;
  /** Those that are possible. */
  readonly verdicts: readonly HostVerdict[];
}

export function placeOf(cluster: Cluster, { interfaces }: HostWorld, addr: Addr, podNode: string | undefined): Place {
  if (podNode !== undefined) return { is: "pod", node: podNode === UNKNOWN_NODE ? undefined : podNode };
  if (isPlaceholder(addr)) return { is: "host", node: undefined };
  const node =
    cluster.nodes.find(({ addresses }) => addresses.includes(addr))?.name ??
    interfaces.find(({ endpoint }) => endpoint.addresses.includes(addr))?.node;
  return node === undefined ? { is: "outside", node } : { is: "host", node };
}

/** One stage that the packet has to pass, and the host endpoints of which one has it; undefined: none does. */
export interface Crossing {
  readonly node: string;
  readonly hook: Hook;
  readonly direction: Direction;
  readonly candidates: readonly (ClusterHostEndpoint | undefined)[];
  /** POL-36. */
  readonly isFailsafe: (packet: FlowPacket) => boolean;
}

/** In the order in which the packet meets them. */
export function crossingsOf(
  cluster: Cluster,
  world: HostWorld,
  [from, to]: readonly [Addr, Addr],
  source: Place,
  destination: Place,
): readonly Crossing[] {
  if (source.node !== undefined && source.node === destination.node) return [];
  /** Both may be on one node. */
  const mayBeOne = [source, destination].every(({ is }) => is !== "outside") && !(source.node && destination.node);
  const isBetweenNodes = source.is !== "outside" && destination.is !== "outside";
  const addressAt = (place: Place, addr: Addr): Addr | undefined => {
    if (place.is === "host") return addr;
    const node = cluster.nodes.find(({ name }) => name === place.node);
    return isBetweenNodes ? node?.addresses.find((own) => own.includes(":") === addr.includes(":")) : undefined;
  };
  const at = (place: Place, addr: Addr, direction: Direction, hooks: readonly Hook[]): Crossing[] => {
    if (place.is === "outside") return [];
    const found = candidatesOf(world, place.node, addressAt(place, addr));
    const candidates = mayBeOne && found.length > 0 ? [...found, undefined] : found;
    if (candidates.every((each) => each === undefined)) return [];
    const node = place.node ?? UNKNOWN_NODE;
    const settings = place.node === undefined ? undefined : world.settingsOf(place.node);
    return hooks.map((hook) => ({
      node,
      hook,
      direction,
      candidates,
      isFailsafe: (packet) => settings !== undefined && hook !== "forward" && isFailsafe(settings, packet, direction),
    }));
  };
  return [
    ...at(source, from, "egress", source.is === "pod" ? ["forward"] : ["untracked", "normal"]),
    ...at(destination, to, "ingress", ["untracked", "pre-dnat", destination.is === "pod" ? "forward" : "normal"]),
  ];
}

/** Those that may protect the interface in question, which has the address; undefined among them: none may. */
function candidatesOf(
  { interfaces }: HostWorld,
  node: string | undefined,
  addr: Addr | undefined,
): readonly (ClusterHostEndpoint | undefined)[] {
  const own = interfaces
    .filter((each) => node === undefined || each.node === node)
    .sort((a, b) => (a.endpoint.key.name < b.endpoint.key.name ? -1 : 1));
  if (own.length === 0) return [];
  if (node === undefined) return [...own.map(({ endpoint }) => endpoint), undefined];
  const named = own.filter(({ interfaceName }) => interfaceName !== "*");
  const every = own.find(({ interfaceName }) => interfaceName === "*")?.endpoint;
  // Of several for one interface the first by name counts.
  const expecting = addr === undefined ? [] : named.filter(({ endpoint }) => endpoint.addresses.includes(addr));
  const names = new Set(expecting.flatMap(({ interfaceName }) => interfaceName ?? []));
  const same = named.filter((each) => expecting.includes(each) || names.has(each.interfaceName ?? ""));
  const [first] = same;
  if (first !== undefined && names.size < 2) return [first.endpoint];
  if (first !== undefined) return same.map(({ endpoint }) => endpoint);
  const maybe = named.filter(({ interfaceName }) => interfaceName !== undefined || addr === undefined);
  return [...maybe.map(({ endpoint }) => endpoint), every];
}

function isFailsafe({ failsafes }: Settings, packet: FlowPacket, direction: Direction): boolean {
  const other = direction === "ingress" ? packet.source : packet.destination;
  return failsafes[direction].some(
    ({ protocol, port, net }) =>
      packet.protocol === protocol &&
      packet.destinationPort === port &&
      (net === undefined || prefixContains(net, other)),
  );
}

/** Where the ports begin that a node's failsafe ports treat differently. */
export function failsafePorts({
  interfaces,
  settingsOf,
}: HostWorld): readonly Settings["failsafes"]["ingress"][number][] {
  const nodes = new Set(interfaces.map(({ node }) => node));
  return [...nodes].flatMap((node) => {
    const { ingress, egress } = settingsOf(node).failsafes;
    return [...ingress, ...egress];
  });
}
