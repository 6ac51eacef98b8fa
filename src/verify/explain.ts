/**
 * Explain: what happens to traffic from one party to another, and which written rule, or lack of one, decides at each end.
 *
 * Every pair of addresses of the same family is evaluated; traffic with the same verdicts for the same reasons is one answer. The verdicts
 * come from `semantics/`: this file only evaluates, groups and words them. Each question is evaluated in the part of the cluster that can
 * affect it, so that the cost is linear in the number of pairs.
 */
import { assertNever, invariant } from "../lib/bug.ts";
import { equal } from "../lib/equal.ts";
import { formatKey, formatName, type Key } from "../model/key.ts";
import type { Direction } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { ICMP, ICMPV6 } from "../net/protocol.ts";
import type { Cluster, ClusterPod, ClusterPolicy } from "../semantics/cluster.ts";
import { decide } from "../semantics/decide.ts";
import { isAllowed, type Journey, journey } from "../semantics/journey.ts";
import { type ClassOf, classifier } from "./classes.ts";
import { allTraffic, type Traffic } from "./traffic.ts";
import { isPlaceholder, readingsOf, UNKNOWN_NODE } from "./unknowns.ts";

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

/** `unknownNamespaces`: those whose labels are not known (`readingsOf`). */
export function explainer(cluster: Cluster, unknownNamespaces: readonly string[] = []): Explain {
  const { least, most } = readingsOf(cluster, unknownNamespaces);
  const partOf = indexed(least);
  const partOfMost = most === least ? undefined : indexed(most);
  const keyOf = keyOfPair(cluster, classifier(cluster));
  const known = new Map<string, Map<string, readonly Fate[]>>();
  return ({ source, destination, traffic }) => {
    const ends = { source: source.pod, destination: destination.pod };
    const ofTraffic = entryOf(known, textOf(traffic), () => new Map<string, readonly Fate[]>());
    return pairs(source.addresses, destination.addresses).flatMap(([from, to]) => {
      const compute = (): readonly Fate[] => {
        const part = partOf(from, to, ends);
        return fatesOf(cluster, part, partOfMost?.(from, to, ends) ?? part, from, to, ends, traffic);
      };
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

function textOf(traffic: Traffic | undefined): string {
  if (traffic === undefined || traffic === "other") return traffic ?? "all";
  return `${traffic.protocol} ${traffic.from}-${traffic.to}`;
}

/** Pairs with the same key have the same fates; undefined where an address is shared, or a pod speaks to itself. */
function keyOfPair(
  { pods, nodes }: Cluster,
  classOf: ClassOf,
): (from: Addr, to: Addr, ends: EndKeys) => string | undefined {
  const byAddress = podsByAddress(pods);
  const nodesAt = new Map<Addr, string[]>();
  for (const { name, addresses } of nodes) for (const addr of addresses) append(nodesAt, addr, name);
  const isPlain = (pod: ClusterPod | undefined, end: Key | undefined): boolean =>
    end === undefined || (pod !== undefined && isSame(pod.key, end));
  return (from, to, ends) => {
    const [source, ...moreSources] = byAddress.get(from) ?? [];
    const [destination, ...moreDestinations] = byAddress.get(to) ?? [];
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
  cluster: Cluster,
  part: Cluster,
  other: Cluster,
  from: Addr,
  to: Addr,
  ends: EndKeys,
  traffic: Traffic | undefined,
): readonly Fate[] {
  const target =
    ends.destination === undefined
      ? part.pods.filter(({ addresses }) => addresses.includes(to))
      : part.pods.filter(({ key }) => isSame(key, ends.destination));
  const fates = new Map<string, Fate & { readonly traffic: Traffic[] }>();
  for (const each of traffic === undefined ? allTraffic(part, target) : [traffic]) {
    const packet = packetOf(from, to, each);
    const verdicts = journey(part, packet, ends);
    const fate = fateOf(
      verdicts,
      ownNode(cluster, part, packet, other === part ? verdicts : journey(other, packet, ends)),
    );
    const text = JSON.stringify(fate);
    const same = fates.get(text);
    if (same === undefined) fates.set(text, { ...fate, traffic: [each] });
    else same.traffic.push(each);
  }
  return [...fates.values()];
}

function fateOf(verdicts: Journey, otherwise: Journey): Omit<Fate, "traffic"> {
  const allowed = isAllowed(verdicts);
  return allowed === isAllowed(otherwise) ? { ...verdicts, allowed } : { ...verdicts, allowed, otherwise };
}

/** A pod that is not scheduled yet may be scheduled to the very node that sends (POL-10). */
function ownNode(cluster: Cluster, part: Cluster, { source }: FlowPacket, verdicts: Journey): Journey {
  const isHost =
    (isPlaceholder(source) && part.pods.every(({ addresses }) => !addresses.includes(source))) ||
    cluster.nodes.some(({ addresses }) => addresses.includes(source));
  const mayBe =
    isHost &&
    verdicts.ingress.action === "deny" &&
    (isPlaceholder(source) || part.pods.some(({ node }) => node === UNKNOWN_NODE));
  return mayBe ? { egress: verdicts.egress, ingress: { action: "allow", reason: { type: "own-node" } } } : verdicts;
}

interface EndKeys {
  readonly source: Key<"Pod"> | undefined;
  readonly destination: Key<"Pod"> | undefined;
}

/** The part of the cluster that can affect a packet: the pods at its two addresses, and the policies that select one of them. */
function indexed(cluster: Cluster): (source: Addr, destination: Addr, ends: EndKeys) => Cluster {
  const byAddress = podsByAddress(cluster.pods);
  const byName = new Map(cluster.pods.map((pod) => [formatName(pod.key), pod]));
  const byNamespace = new Map<string | undefined, ClusterPolicy[]>();
  for (const policy of cluster.policies) append(byNamespace, policy.namespace, policy);
  /** POL-8: in order of evaluation. */
  const rank = new Map(cluster.policies.map((policy, index) => [policy, index]));
  const selecting = new Map<ClusterPod, readonly ClusterPolicy[]>();
  const policiesOf = (pod: ClusterPod): readonly ClusterPolicy[] => {
    const known = selecting.get(pod);
    if (known !== undefined) return known;
    const candidates = [...(byNamespace.get(pod.namespace) ?? []), ...(byNamespace.get(undefined) ?? [])];
    const found = candidates.filter((policy) => selects(policy, pod, cluster));
    selecting.set(pod, found);
    return found;
  };
  return (source, destination, ends) => {
    const named = [ends.source, ends.destination].flatMap((key) =>
      key === undefined ? [] : (byName.get(formatName(key)) ?? []),
    );
    const pods = new Set([...named, ...(byAddress.get(source) ?? []), ...(byAddress.get(destination) ?? [])]);
    const policies = [...new Set([...pods].flatMap(policiesOf))].sort(
      (a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0),
    );
    return { ...cluster, pods: [...pods], policies };
  };
}

/** Whether the policy applies to the pod, in either direction: evaluates the definition in a cluster of these two. */
function selects(policy: ClusterPolicy, pod: ClusterPod, { tiers }: Cluster): boolean {
  const alone: Cluster = {
    pods: [pod],
    hostEndpoints: [],
    networkSets: [],
    endpoints: [],
    tiers,
    policies: [policy],
    nodes: [],
  };
  const [addr] = pod.addresses;
  invariant(addr !== undefined, "a pod of the cluster has an address");
  const packet = packetOf(addr, addr, "other");
  return DIRECTIONS.some(
    (direction) =>
      decide(alone, packet, { endpoint: pod.key, direction, fromOwnNode: false }).reason.type !== "not-isolated",
  );
}

const DIRECTIONS: readonly Direction[] = ["ingress", "egress"];

function podsByAddress(pods: readonly ClusterPod[]): ReadonlyMap<Addr, readonly ClusterPod[]> {
  const found = new Map<Addr, ClusterPod[]>();
  for (const pod of pods) for (const addr of pod.addresses) append(found, addr, pod);
  return found;
}

function append<K, T>(map: Map<K, T[]>, key: K, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function isSame(a: Key, b: Key | undefined): boolean {
  return a === b || (b !== undefined && formatKey(a) === formatKey(b));
}

function pairs(sources: readonly Addr[], destinations: readonly Addr[]): (readonly [Addr, Addr])[] {
  return sources.flatMap((from) =>
    destinations.filter((to) => familyOf(to) === familyOf(from)).map((to) => [from, to] as const),
  );
}

/** One packet that represents its class. */
function packetOf(source: Addr, destination: Addr, traffic: Traffic): FlowPacket {
  if (traffic === "other")
    return {
      source,
      destination,
      protocol: familyOf(source) === 4 ? ICMP : ICMPV6,
      sourcePort: undefined,
      destinationPort: undefined,
    };
  return { source, destination, protocol: traffic.protocol, sourcePort: 0, destinationPort: traffic.from };
}

/** Whether the families have different fates, reasons aside. */
export function familiesDiffer(answers: readonly Answer[]): boolean {
  const fate = (family: number): unknown =>
    answers.filter(({ source }) => familyOf(source) === family).map(({ allowed, traffic }) => [allowed, traffic]);
  const families = new Set(answers.map(({ source }) => familyOf(source)));
  return families.size === 2 && !equal(fate(4), fate(6));
}

/** The verdict and what decided, for the operator: `denied: no ingress rule of NetworkPolicy a/b, which selects it, matched`. */
export function describeVerdict({ action, reason }: Verdict, cluster: Cluster): string {
  const word = action === "allow" ? "allowed" : "denied";
  switch (reason.type) {
    case "rule":
      return `${word} by ${reason.direction} rule ${reason.index + 1} of ${describeKey(reason.policy)} (spec.${reason.direction}[${reason.index}])`;
    case "no-rule-matched":
      return `${word}: no ${reason.direction} rule of ${describePolicies(reason.policies)} matched${describeErrors(reason.policies, cluster)}`;
    case "end":
      return `${word}: every tier passed it on, and no profile decided`;
    case "not-isolated":
      return `${word}: no policy selects it for ${reason.direction}`;
    case "own-node":
      return `${word}: comes from the pod's own node`;
    case "itself":
      return `${word}: a pod's traffic to itself does not leave it`;
    case "not-a-pod":
      return `${word}: not a pod with a network of its own, so no policy applies here`;
    default:
      return assertNever(reason);
  }
}

function describePolicies(policies: readonly Key[]): string {
  const names = policies.map(formatName).join(", ");
  return policies.length === 1
    ? `NetworkPolicy ${names}, which selects it,`
    : `NetworkPolicies ${names}, which select it,`;
}

function describeKey(key: Key): string {
  return `${key.kind === "KubernetesNetworkPolicy" ? "NetworkPolicy" : key.kind} ${formatName(key)}`;
}

function describeErrors(keys: readonly Key[], cluster: Cluster): string {
  const named = new Set(keys.map(formatKey));
  const invalid = cluster.policies.filter((policy) => policy.errors.length > 0 && named.has(formatKey(policy.key)));
  return invalid.map(({ key }) => `; ${formatName(key)} is invalid and allows nothing`).join("");
}
