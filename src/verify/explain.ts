/**
 * Explain: what happens to traffic from one party to another, and which written rule, or lack of one, decides at each end.
 *
 * Every pair of addresses of the same family is evaluated; traffic with the same verdicts for the same reasons is one answer. The verdicts
 * come from `semantics/`: this file only evaluates, groups and words them. Each question is evaluated in the part of the cluster that can
 * affect it, so that the cost is linear in the number of pairs.
 */
import { invariant } from "../lib/bug.ts";
import type { WorkloadKey } from "../model/endpoint.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import type { Cluster, ClusterPod } from "../semantics/cluster.ts";
import { type Journey, journey } from "../semantics/journey.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";
import { type ClassOf, classifier } from "./classes.ts";
import { append, byAddress, type EndKeys, indexed, isSame, type PartOf } from "./part.ts";
import { endpointToHost, type Stages, stagesAt } from "./host-stages.ts";
import { crossingsOf, failsafePorts, type HostStage, type HostWorld, type Place, placeOf } from "./hosts.ts";
import { isPlaceholder, UNKNOWN_NODE } from "./placeholders.ts";
import { representative, type Traffic, trafficClasses } from "./traffic.ts";
import { NOTHING_UNKNOWN, type Unknowns, Veil } from "./unknowns.ts";

/** The sender or receiver of traffic. */
export interface Party {
  /** As the operator writes it. */
  readonly label: string;
  /** undefined for a plain address. */
  readonly pod: WorkloadKey | undefined;
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
  /** At the interfaces of nodes, where host endpoints have a say; absent where none has. */
  readonly hosts?: readonly HostStage[];
  /** The other possible verdicts, where something unknown makes a difference; absent otherwise. With them, `allowed` is false. */
  readonly otherwise?: Journey;
}

/** Answers one question. Empty when the parties have no address family in common, so that nothing can pass. */
export type Explain = (question: Question) => Answer[];

/** Traffic of one fate. */
type Fate = Omit<Answer, "source" | "destination">;

const NO_HOSTS: HostWorld = { interfaces: [], settingsOf: () => DEFAULT_SETTINGS };

export function explainer(
  cluster: Cluster,
  unknowns: Unknowns = NOTHING_UNKNOWN,
  hosts: HostWorld = NO_HOSTS,
): Explain {
  const veil = new Veil(cluster, unknowns);
  const partOf = indexed(veil.cluster, veil.maySelect);
  const keyOf = keyOfPair(cluster, classifier(cluster));
  const wayOf = waysOf(cluster, hosts);
  const known = new Map<string, Map<string, readonly Fate[]>>();
  return ({ source, destination, traffic }) => {
    const ends = { source: source.pod, destination: destination.pod };
    const ofTraffic = entryOf(known, JSON.stringify(traffic ?? "all"), () => new Map<string, readonly Fate[]>());
    return pairs(source.addresses, destination.addresses).flatMap(([from, to]) => {
      const way = wayOf(from, to, ends);
      const compute = (): readonly Fate[] => fatesOf({ veil, partOf, hosts, way, from, to, ends, asked: traffic });
      const plain = keyOf(from, to, ends);
      const key = way === undefined || plain === undefined ? plain : `${plain} ${JSON.stringify(way)}`;
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

/** Where the ends of a packet are, if host endpoints or the settings of nodes may have a say. */
type Way = { readonly source: Place; readonly destination: Place } | undefined;

function waysOf(cluster: Cluster, hosts: HostWorld): (from: Addr, to: Addr, ends: EndKeys) => Way {
  const podsAt = byAddress(cluster.pods);
  const byName = new Map(cluster.pods.map((pod) => [formatKey(pod.key), pod]));
  const isForwarding = cluster.policies.some(({ hooks }) => hooks.some((hook) => hook !== "normal"));
  const isPlain = cluster.nodes.every(({ name }) => hosts.settingsOf(name).endpointToHost === "accept");
  if (hosts.interfaces.length === 0 && isPlain) return () => undefined;
  const placeAt = (addr: Addr, end: Key | undefined): Place => {
    const pod = end === undefined ? podsAt.get(addr)?.[0] : byName.get(formatKey(end));
    return placeOf(cluster, hosts, addr, pod?.node);
  };
  return (from, to, ends) => {
    const [source, destination] = [placeAt(from, ends.source), placeAt(to, ends.destination)];
    const hasHost = source.is === "host" || destination.is === "host";
    return hasHost || (isForwarding && hosts.interfaces.length > 0) ? { source, destination } : undefined;
  };
}

interface Pair {
  readonly veil: Veil;
  readonly partOf: PartOf;
  readonly hosts: HostWorld;
  readonly way: Way;
  readonly from: Addr;
  readonly to: Addr;
  readonly ends: EndKeys;
  readonly asked: Traffic | undefined;
}

function fatesOf({ veil, partOf, hosts, way, from, to, ends, asked }: Pair): readonly Fate[] {
  const packetOf = (traffic: Traffic): FlowPacket => ({
    source: from,
    destination: to,
    ...representative(traffic, familyOf(from)),
  });
  const met = way === undefined ? [] : crossingsOf(veil.cluster, hosts, [from, to], way.source, way.destination);
  const onTheWay = met.flatMap(({ candidates }) => candidates.filter((host) => host !== undefined));
  const part = partOf(from, to, ends, [...new Set(onTheWay)]);
  const isHookUsed = (hook: Hook): boolean =>
    hook === "normal" || part.policies.some(({ hooks }) => hooks.includes(hook));
  const failsafes = met.some(({ hook }) => hook !== "forward" && isHookUsed(hook)) ? failsafePorts(hosts) : [];
  const leave = met.filter(({ direction }) => direction === "egress");
  const arrive = met.filter(({ direction }) => direction === "ingress");
  const fates = new Map<string, Fate & { readonly traffic: Traffic[] }>();
  for (const each of trafficClasses(part, familyOf(from), asked, failsafes)) {
    const packet = packetOf(each);
    const [leaving, arriving] = [stagesAt(veil, part, packet, leave), stagesAt(veil, part, packet, arrive)];
    const toHost = way === undefined ? [] : endpointToHost(hosts, way.source, way.destination);
    const verdicts = possible(veil, part, packet, ends);
    const ingress = withUntracked(verdicts.ingress, arriving.untracked);
    const fate = fateOf({ egress: verdicts.egress, ingress }, [...leaving.stages, ...arriving.stages, ...toHost]);
    const text = JSON.stringify(fate);
    const same = fates.get(text);
    if (same === undefined) fates.set(text, { ...fate, traffic: [each] });
    else same.traffic.push(each);
  }
  return [...fates.values()];
}

/** POL-32: what is allowed before connection tracking is asked nothing more. */
function withUntracked(verdicts: readonly Verdict[], untracked: Stages["untracked"]): readonly Verdict[] {
  if (untracked === undefined || verdicts.every(({ reason }) => reason.type === "not-a-pod")) return verdicts;
  return untracked.isCertain ? [untracked.verdict] : [...verdicts, untracked.verdict];
}

/** The verdicts that are possible at each end, at least one. */
interface Possible {
  readonly egress: readonly Verdict[];
  readonly ingress: readonly Verdict[];
}

/** What all possible verdicts have in common is certain. */
function fateOf({ egress, ingress }: Possible, stages: readonly HostStage[]): Omit<Fate, "traffic"> {
  const [firstEgress, firstIngress] = [egress[0], ingress[0]];
  invariant(firstEgress !== undefined && firstIngress !== undefined, "there is a verdict at each end");
  const verdicts = { egress: firstEgress, ingress: firstIngress, ...(stages.length === 0 ? {} : { hosts: stages }) };
  const all: (readonly { readonly action: Verdict["action"] }[])[] = [egress, ingress];
  for (const stage of stages) all.push(stage.verdicts);
  // Denied for certain at one place, whatever the others would say.
  if (all.some((list) => list.every(({ action }) => action === "deny"))) return { ...verdicts, allowed: false };
  if (all.every((list) => list.every(({ action }) => action === "allow"))) return { ...verdicts, allowed: true };
  const other = <T extends { readonly action: Verdict["action"] }>(list: readonly T[], first: T): T =>
    list.find(({ action }) => action !== first.action) ?? first;
  const otherwise = { egress: other(egress, firstEgress), ingress: other(ingress, firstIngress) };
  return { ...verdicts, allowed: false, otherwise };
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
  end: WorkloadKey | undefined,
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
