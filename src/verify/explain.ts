/**
 * Explain: what happens to traffic from one party to another, and which written rule, or lack of one, decides at each end.
 *
 * Every pair of addresses of the same family is evaluated; traffic with the same verdicts for the same reasons is one answer. The verdicts
 * come from `semantics/`: this file only evaluates, groups and words them. Each question is evaluated in the part of the cluster that can
 * affect it, so that the cost is linear in the number of pairs.
 */
import { invariant } from "../lib/bug.ts";
import type { Key } from "../model/key.ts";
import type { Direction } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import type { Cluster, ClusterPod } from "../semantics/cluster.ts";
import { isAllowed, type Journey, journey } from "../semantics/journey.ts";
import { type ClassOf, classifier } from "./classes.ts";
import { append, byAddress, type EndKeys, indexed, isSame, type PartOf } from "./part.ts";
import { isPlaceholder, UNKNOWN_NODE } from "./placeholders.ts";
import { representative, type Traffic, trafficClasses } from "./traffic.ts";
import { NOTHING_UNKNOWN, type Unknowns, Veil } from "./unknowns.ts";

/** The sender or receiver of traffic. */
export interface Party {
  /** As the operator writes it. */
  readonly label: string;
  /** undefined for a plain address. */
  readonly pod: Key<"Pod"> | undefined;
  readonly addresses: readonly Addr[];
}

export interface Question {
  readonly source: Party;
  readonly destination: Party;
  /** undefined: all traffic. */
  readonly traffic: Traffic | undefined;
}

/** What happens to some traffic between two addresses. */
export interface Answer extends Journey {
  readonly source: Addr;
  readonly destination: Addr;
  readonly traffic: readonly Traffic[];
  readonly allowed: boolean;
  /** The other possible verdicts, where something unknown makes a difference; absent otherwise. With them, `allowed` is false. */
  readonly otherwise?: Journey;
}

/** Answers one question. Empty when the parties have no address family in common, so that nothing can pass. */
export type Explain = (question: Question) => Answer[];

/** Traffic of one fate. */
type Fate = Pick<Answer, "egress" | "ingress" | "allowed" | "otherwise" | "traffic">;

export function explainer(cluster: Cluster, unknowns: Unknowns = NOTHING_UNKNOWN): Explain {
  const veil = new Veil(cluster, unknowns);
  const partOf = indexed(veil.cluster, veil.maySelect);
  const keyOf = keyOfPair(cluster, classifier(cluster));
  const known = new Map<string, Map<string, readonly Fate[]>>();
  return ({ source, destination, traffic }) => {
    const ends = { source: source.pod, destination: destination.pod };
    const ofTraffic = entryOf(known, JSON.stringify(traffic ?? "all"), () => new Map<string, readonly Fate[]>());
    return pairs(source.addresses, destination.addresses).flatMap(([from, to]) => {
      const compute = (): readonly Fate[] => fatesOf(veil, partOf, from, to, ends, traffic);
      const key = keyOf(from, to, ends);
      const fates = key === undefined ? compute() : entryOf(ofTraffic, key, compute);
      return fates.map((fate) => ({ source: from, destination: to, ...fate }));
    });
  };
}

function entryOf<V>(map: Map<string, V>, key: string, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}

/** Pairs with the same key have the same fates; undefined where an address is shared, or a pod speaks to itself. */
function keyOfPair(
  { pods, nodes }: Cluster,
  classOf: ClassOf,
): (from: Addr, to: Addr, ends: EndKeys) => string | undefined {
  const podsAt = byAddress(pods);
  const nodesAt = new Map<Addr, string[]>();
  for (const { name, addresses } of nodes) for (const addr of addresses) append(nodesAt, addr, name);
  const isPlain = (pod: ClusterPod | undefined, end: Key | undefined): boolean =>
    end === undefined || (pod !== undefined && isSame(pod.key, end));
  return (from, to, ends) => {
    const [source, ...moreSources] = podsAt.get(from) ?? [];
    const [destination, ...moreDestinations] = podsAt.get(to) ?? [];
    if (moreSources.length + moreDestinations.length > 0 || (source !== undefined && source === destination))
      return undefined;
    if (!isPlain(source, ends.source) || !isPlain(destination, ends.destination)) return undefined;
    const key = `${classOf(from, source)} ${classOf(to, destination)}`;
    const senders = nodesAt.get(from);
    // POL-10: of what a node may have sent, it decides whether the node is, or may be, the receiver's own.
    if (senders === undefined && (source !== undefined || !isPlaceholder(from))) return key;
    const isOwn = destination !== undefined && senders?.includes(destination.node) === true;
    const isOpen = source?.node === UNKNOWN_NODE || destination?.node === UNKNOWN_NODE;
    return `${key} ${senders === undefined ? "host" : "node"} ${isOwn} ${isOpen}`;
  };
}

function fatesOf(
  veil: Veil,
  partOf: PartOf,
  from: Addr,
  to: Addr,
  ends: EndKeys,
  asked: Traffic | undefined,
): readonly Fate[] {
  const part = partOf(from, to, ends);
  const fates = new Map<string, Fate & { readonly traffic: Traffic[] }>();
  for (const each of trafficClasses(part, familyOf(from), asked)) {
    const packet = { source: from, destination: to, ...representative(each, familyOf(from)) };
    const fate = fateOf(possible(veil, part, packet, ends));
    const text = JSON.stringify(fate);
    const same = fates.get(text);
    if (same === undefined) fates.set(text, { ...fate, traffic: [each] });
    else same.traffic.push(each);
  }
  return [...fates.values()];
}

/** The verdicts that are possible at each end, at least one. */
interface Possible {
  readonly egress: readonly Verdict[];
  readonly ingress: readonly Verdict[];
}

/** What all possible verdicts have in common is certain. */
function fateOf({ egress, ingress }: Possible): Omit<Fate, "traffic"> {
  const [firstEgress, firstIngress] = [egress[0], ingress[0]];
  invariant(firstEgress !== undefined && firstIngress !== undefined, "there is a verdict at each end");
  const verdicts = { egress: firstEgress, ingress: firstIngress };
  const allowed = isAllowed(verdicts);
  const other = {
    egress: egress.find(({ action }) => action !== firstEgress.action) ?? firstEgress,
    ingress: ingress.find(({ action }) => action !== firstIngress.action) ?? firstIngress,
  };
  const isClosed = (list: readonly Verdict[]): boolean => list.every(({ action }) => action === "deny");
  if (other.egress === firstEgress && other.ingress === firstIngress) return { ...verdicts, allowed };
  // Denied for certain at one end: name that end's reason, whatever the other end would say.
  if (isClosed(egress) || isClosed(ingress)) return { ...verdicts, allowed: false };
  return { ...verdicts, allowed: false, otherwise: other };
}

function possible(veil: Veil, part: Cluster, packet: FlowPacket, ends: EndKeys): Possible {
  const { egress, ingress } = journey(part, packet, ends);
  if (!veil.concerns(part, packet)) return withOwnNode(part, packet, { egress: [egress], ingress: [ingress] });
  if (egress.reason.type === "itself") return { egress: [egress], ingress: [ingress] };
  return withOwnNode(part, packet, {
    egress: possibleAt(veil, part, packet, ends.source, "egress", egress),
    ingress: possibleAt(veil, part, packet, ends.destination, "ingress", ingress),
  });
}

/** Of several pods with one address the first that denies decides. */
function possibleAt(
  veil: Veil,
  part: Cluster,
  packet: FlowPacket,
  end: Key<"Pod"> | undefined,
  direction: Direction,
  known: Verdict,
): readonly Verdict[] {
  if (known.reason.type === "own-node" || known.reason.type === "not-a-pod") return [known];
  const addr = direction === "egress" ? packet.source : packet.destination;
  const named = part.pods.filter(({ key }) => end !== undefined && isSame(key, end));
  const pods = named.length > 0 ? named : part.pods.filter(({ addresses }) => addresses.includes(addr));
  const each = pods
    .filter(({ node }) => direction === "egress" || !isNode(part, node, packet.source))
    .map((pod) =>
      veil.verdicts(part, packet, { endpoint: pod.key, direction, fromOwnNode: false }, { is: "pod", ...pod }),
    );
  const [first] = each;
  if (first === undefined) return [known];
  if (each.length === 1) return first;
  const denied = each.flat().filter(({ action }) => action === "deny");
  const mayPass = each.every((list) => list.some(({ action }) => action === "allow"));
  return [...(mayPass ? first.filter(({ action }) => action === "allow") : []), ...denied];
}

function isNode(cluster: Cluster, name: string, addr: Addr): boolean {
  return cluster.nodes.some((node) => node.name === name && node.addresses.includes(addr));
}

/** A pod that is not scheduled yet may be scheduled to the very node that sends (POL-10). */
function withOwnNode(part: Cluster, { source }: FlowPacket, { egress, ingress }: Possible): Possible {
  const isHost =
    (isPlaceholder(source) && part.pods.every(({ addresses }) => !addresses.includes(source))) ||
    part.nodes.some(({ addresses }) => addresses.includes(source));
  const mayBe =
    isHost &&
    ingress.some(({ action }) => action === "deny") &&
    (isPlaceholder(source) || part.pods.some(({ node }) => node === UNKNOWN_NODE));
  return mayBe
    ? { egress, ingress: [...ingress, { action: "allow", reason: { type: "own-node" } }] }
    : { egress, ingress };
}

function pairs(sources: readonly Addr[], destinations: readonly Addr[]): (readonly [Addr, Addr])[] {
  return sources.flatMap((from) =>
    destinations.filter((to) => familyOf(to) === familyOf(from)).map((to) => [from, to] as const),
  );
}
