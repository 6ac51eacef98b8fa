/**
 * Explain: what becomes of traffic from one party to another, and which written rule, or which lack of one, decides at each end.
 *
 * Every pair of addresses of the same family is asked; traffic with the same fate for the same reasons is one answer. The verdicts are
 * those of `semantics/`: this file asks, groups and finds words, and judges nothing itself.
 */
import { assertNever } from "../lib/bug.ts";
import { equal } from "../lib/equal.ts";
import { formatKey, formatName, type Key } from "../model/key.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import type { Verdict } from "../model/verdict.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { ICMP, ICMPV6 } from "../net/protocol.ts";
import { type Cluster, findPod } from "../semantics/cluster.ts";
import { isAllowed, journey } from "../semantics/journey.ts";
import { allTraffic, type Traffic } from "./traffic.ts";

/** Who sends or gets the traffic. */
export interface Party {
  /** As the operator writes it. */
  readonly label: string;
  /** undefined for an address that is asked about as such. */
  readonly pod: Key<"Pod"> | undefined;
  readonly addresses: readonly Addr[];
}

export interface Question {
  readonly cluster: Cluster;
  readonly source: Party;
  readonly destination: Party;
  /** undefined asks about all traffic. */
  readonly traffic: Traffic | undefined;
}

/** One fate: this traffic between these two addresses. */
export interface Answer {
  readonly source: Addr;
  readonly destination: Addr;
  readonly traffic: readonly Traffic[];
  readonly egress: Verdict;
  readonly ingress: Verdict;
  readonly allowed: boolean;
}

/** Empty when the parties have no address family in common: then nothing can pass. */
export function explain({ cluster, source, destination, traffic }: Question): Answer[] {
  const target = destination.pod === undefined ? undefined : findPod(cluster, destination.pod);
  const asked = traffic === undefined ? allTraffic(cluster, target === undefined ? cluster.pods : [target]) : [traffic];
  const ends = { source: source.pod, destination: destination.pod };
  const answers: (Answer & { readonly traffic: Traffic[] })[] = [];
  for (const [from, to] of pairs(source.addresses, destination.addresses)) {
    for (const each of asked) {
      const { egress, ingress } = journey(cluster, packetOf(from, to, each), ends);
      const same = answers.find((answer) => answer.source === from && answer.destination === to && equal(answer.egress, egress) && equal(answer.ingress, ingress));
      if (same !== undefined) same.traffic.push(each);
      else answers.push({ source: from, destination: to, traffic: [each], egress, ingress, allowed: isAllowed({ egress, ingress }) });
    }
  }
  return answers;
}

function pairs(sources: readonly Addr[], destinations: readonly Addr[]): (readonly [Addr, Addr])[] {
  return sources.flatMap((from) => destinations.filter((to) => familyOf(to) === familyOf(from)).map((to) => [from, to] as const));
}

/** One packet that stands for its class. */
function packetOf(source: Addr, destination: Addr, traffic: Traffic): FlowPacket {
  if (traffic === "other") return { source, destination, protocol: familyOf(source) === 4 ? ICMP : ICMPV6, sourcePort: undefined, destinationPort: undefined };
  return { source, destination, protocol: traffic.protocol, sourcePort: 0, destinationPort: traffic.from };
}

/** Whether the families have different fates, reasons aside. */
export function familiesDiffer(answers: readonly Answer[]): boolean {
  const fate = (family: number): unknown => answers.filter(({ source }) => familyOf(source) === family).map(({ allowed, traffic }) => [allowed, traffic]);
  const families = new Set(answers.map(({ source }) => familyOf(source)));
  return families.size === 2 && !equal(fate(4), fate(6));
}

/** The verdict and what decided, in the operator's words: `denied: no ingress rule of NetworkPolicy a/b, which selects it, matched`. */
export function describeVerdict({ action, reason }: Verdict, cluster: Cluster): string {
  const word = action === "allow" ? "allowed" : "denied";
  switch (reason.type) {
    case "rule":
      return `${word} by ${reason.direction} rule ${reason.index + 1} of ${describeKey(reason.policy)} (spec.${reason.direction}[${reason.index}])`;
    case "no-rule-matched":
      return `${word}: no ${reason.direction} rule of ${describePolicies(reason.policies)} matched${describeErrors(reason.policies, cluster)}`;
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
  return policies.length === 1 ? `NetworkPolicy ${names}, which selects it,` : `NetworkPolicies ${names}, which select it,`;
}

function describeKey(key: Key): string {
  return `${key.kind === "KubernetesNetworkPolicy" ? "NetworkPolicy" : key.kind} ${formatName(key)}`;
}

function describeErrors(keys: readonly Key[], cluster: Cluster): string {
  const named = new Set(keys.map(formatKey));
  const invalid = cluster.policies.filter((policy) => policy.errors.length > 0 && named.has(formatKey(policy.key)));
  return invalid.map(({ key, errors }) => `; ${formatName(key)} allows nothing because it is invalid: ${errors.map(formatFieldError).join("; ")}`).join("");
}
