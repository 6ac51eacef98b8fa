/** Match: whether a policy selects an endpoint, and whether a rule matches a packet (POL-4, POL-5, POL-11 to POL-18, POL-29, POL-30, POL-38 to POL-45, POL-48). */
import type { Direction } from "../model/policy.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { parseLegacyPrefix } from "../net/legacy-prefix.ts";
import { prefixContains } from "../net/prefix.ts";
import { protocolByName } from "../net/protocol.ts";
import {
  type CalicoPeer,
  type CalicoPort,
  type CalicoSelector,
  type Cluster,
  type ClusterHostEndpoint,
  type ClusterPod,
  type ClusterPolicy,
  endpointsAt,
  type Labelled,
  labelledAt,
  type LabelMap,
  podsAt,
  type WrittenIcmp,
  type WrittenPeer,
  type WrittenPort,
  type WrittenRule,
  type WrittenSide,
} from "./cluster.ts";
import type { Applied, RuleNumber } from "./applied.ts";
import { selectorHolds } from "./selector.ts";
import type { LabelSelector } from "kubernetes-types/meta/v1";
import type { IPBlock, NetworkPolicyPeer } from "kubernetes-types/networking/v1";

/** What policy knows of the endpoint that it is asked for. */
export type Endpoint = ({ readonly is: "pod" } & ClusterPod) | ({ readonly is: "host" } & ClusterHostEndpoint);

/** A packet at an endpoint of the cluster. */
export interface Question {
  readonly cluster: Cluster;
  readonly packet: FlowPacket;
  readonly direction: Direction;
  /** Told of the numbered rules that are applied; undefined: nobody wants to know. */
  readonly applied?: Applied | undefined;
}

/** POL-4, POL-19, POL-38, POL-46, POL-51, POL-54. */
export function selects(policy: ClusterPolicy, endpoint: Endpoint, applied?: Applied): boolean {
  if (policy.namespace !== undefined && policy.namespace !== endpoint.namespace) return false;
  if (isKubernetes(policy) && !isKubernetesPod(endpoint)) return false;
  if (policy.state !== "valid") applied?.note(isKubernetes(policy) ? "POL-19" : "POL-46");
  if (policy.state === "closed-to-all") return endpoint.is === "pod";
  const { selector } = policy;
  if ("pods" in selector) return endpoint.is === "pod" && isPeerPod(policy, selector.pods, endpoint, applied);
  return isKubernetes(policy)
    ? matchesLabels(selector as LabelSelector, endpoint.labels, "", applied)
    : isSelected(selector as CalicoSelector, endpoint, applied);
}

/** POL-54. */
function isKubernetesPod({ labels }: Labelled): boolean {
  return labels["projectcalico.org/orchestrator"] === "k8s";
}

function isKubernetes({ key }: ClusterPolicy): boolean {
  return /^(Kubernetes|Cluster|Admin|BaselineAdmin)NetworkPolicy$/.test(key.kind);
}

/** POL-11, POL-29, POL-30: everything that is given must hold. */
export function matches(question: Question, policy: ClusterPolicy, rule: WrittenRule): boolean {
  const holds = holdsAll(question, policy, rule);
  question.applied?.end(holds);
  return holds;
}

function holdsAll(question: Question, policy: ClusterPolicy, rule: WrittenRule): boolean {
  const { packet, applied } = question;
  const { ipVersion, protocol, notProtocol, icmp, notIcmp = [] } = rule;
  const condition = (holds: boolean, ...rules: readonly RuleNumber[]): boolean => {
    applied?.beginCondition();
    applied?.note(...rules);
    return holds;
  };
  if (ipVersion !== undefined && !condition(familyOf(packet.source) === ipVersion, "POL-42")) return false;
  if (protocol !== undefined && !condition(packet.protocol === protocol, "POL-45")) return false;
  if (notProtocol !== undefined && !condition(packet.protocol !== notProtocol, "POL-45", "POL-29")) return false;
  if (icmp !== undefined && !condition(matchesIcmp(icmp, packet), "POL-30")) return false;
  if (notIcmp.length > 0 && !condition(!notIcmp.some((each) => matchesIcmp(each, packet)), "POL-30", "POL-29"))
    return false;
  return (["source", "destination"] as const).every((side) => matchesSide(question, policy, rule[side], side));
}

/** POL-30. */
function matchesIcmp(wanted: WrittenIcmp, { protocol, icmp }: FlowPacket): boolean {
  if (protocol !== wanted.protocol || icmp === undefined) return false;
  return (
    (wanted.type === undefined || icmp.type === wanted.type) && (wanted.code === undefined || icmp.code === wanted.code)
  );
}

/** POL-11, POL-29. */
function matchesSide(
  question: Question,
  policy: ClusterPolicy,
  written: WrittenSide,
  side: "source" | "destination",
): boolean {
  const { cluster, packet, applied } = question;
  const { among = [], notAmong = [], ports, notPorts = [] } = written;
  const addr = packet[side];
  const port = side === "source" ? packet.sourcePort : packet.destinationPort;
  const isPeer = (peer: WrittenPeer): boolean => matchesPeer(cluster, policy, peer, addr, applied);
  const isPort = (entry: WrittenPort): boolean =>
    matchesPort(entry, question, addr, port, () => portHolders(question, policy, written, addr));
  const some = <T>(list: readonly T[], holds: (each: T) => boolean, ...rules: readonly RuleNumber[]): boolean => {
    applied?.beginCondition();
    applied?.note(...rules);
    return applied === undefined ? list.some(holds) : applied.some(list, holds);
  };
  const both: readonly RuleNumber[] = isKubernetes(policy) ? ["POL-11"] : [];
  return (
    among.every((peers) => some(peers, isPeer, ...both)) &&
    (notAmong.length === 0 || !some(notAmong, isPeer, "POL-29")) &&
    (ports === undefined || some(ports, isPort, ...both)) &&
    (notPorts.length === 0 || !some(notPorts, isPort, "POL-29"))
  );
}

function isCalicoPeer(peer: WrittenPeer): peer is CalicoPeer {
  return "net" in peer || "selected" in peer || "service" in peer;
}

/** POL-12, POL-14, POL-41, POL-42, POL-48. */
function matchesPeer(
  cluster: Cluster,
  policy: ClusterPolicy,
  peer: WrittenPeer,
  addr: Addr,
  applied: Applied | undefined,
): boolean {
  if (!isCalicoPeer(peer)) {
    if (peer.ipBlock) {
      applied?.note("POL-14");
      return isInBlock(peer.ipBlock, addr);
    }
    applied?.note("POL-1", "POL-12");
    const pods = podsAt(cluster, addr);
    if (pods.length > 1) applied?.note("POL-3");
    return pods.some((pod) => isPeerPod(policy, peer, pod, applied));
  }
  if ("net" in peer) {
    applied?.note("POL-42");
    return prefixContains(peer.net, addr);
  }
  if ("service" in peer) {
    applied?.note("POL-48");
    return cluster.endpoints.some(({ service, addresses }) => service === peer.service && addresses.includes(addr));
  }
  const labelled = labelledAt(cluster, addr);
  applied?.note("POL-41", ...rulesOfLabelled(cluster, addr, labelled.length));
  return labelled.some((each) => isSelected(peer.selected, each, applied));
}

/** By what the address stands for: several, network sets, host endpoints. */
function rulesOfLabelled(cluster: Cluster, addr: Addr, count: number): readonly RuleNumber[] {
  const hosts = cluster.hostEndpoints.filter(({ addresses }) => addresses.includes(addr)).length;
  const pods = podsAt(cluster, addr).length;
  return [
    ...(count > 1 ? (["POL-3"] as const) : []),
    ...(count > hosts + pods ? (["POL-44"] as const) : []),
    ...(hosts > 0 ? (["POL-49"] as const) : []),
  ];
}

/** POL-38, POL-41. */
function isSelected(written: CalicoSelector, { namespace, labels }: Labelled, applied?: Applied): boolean {
  const valueOf = (label: string): string | undefined => (Object.hasOwn(labels, label) ? labels[label] : undefined);
  const holds = (text: string, prefix: string): boolean =>
    selectorHolds(text, {
      value: (label) => valueOf(prefix + label),
      all: true,
      global: namespace === undefined,
    });
  const { selector, notSelector, namespaceSelector, serviceAccountSelector, serviceAccountNames = [] } = written;
  const account = valueOf("projectcalico.org/serviceaccount");
  if (selector || notSelector || namespaceSelector || serviceAccountSelector) applied?.note("POL-37");
  if (namespaceSelector || serviceAccountSelector || serviceAccountNames.length > 0) applied?.note("POL-2");
  if (written.namespace !== undefined && written.namespace !== namespace) return false;
  if (namespaceSelector && /^\s*global\(\s*\)\s*$/.test(namespaceSelector)) {
    if (namespace !== undefined) return false;
  } else if (namespaceSelector && (namespace === undefined || !holds(namespaceSelector, "pcns."))) return false;
  if (serviceAccountSelector && (account === undefined || !holds(serviceAccountSelector, "pcsa."))) return false;
  if (serviceAccountNames.length > 0 && (account === undefined || !serviceAccountNames.includes(account))) return false;
  if (selector && !holds(selector, "")) return false;
  return !notSelector || !holds(notSelector, "");
}

/** POL-12, POL-13. */
function isPeerPod(
  policy: ClusterPolicy,
  peer: NetworkPolicyPeer,
  pod: ClusterPod,
  applied: Applied | undefined,
): boolean {
  if (peer.namespaceSelector) applied?.note("POL-13", "POL-2");
  const isThere = peer.namespaceSelector
    ? matchesLabels(peer.namespaceSelector, pod.labels, "pcns.", applied)
    : policy.namespace === undefined || pod.namespace === policy.namespace;
  return isThere && isKubernetesPod(pod) && matchesLabels(peer.podSelector ?? {}, pod.labels, "", applied);
}

/** POL-14: an exception applies to its own block only. */
function isInBlock(block: IPBlock, addr: Addr): boolean {
  return isInCidr(block.cidr, addr) && !(block.except ?? []).some((cidr) => isInCidr(cidr, addr));
}

function isInCidr(text: string, addr: Addr): boolean {
  const block = parseLegacyPrefix(text);
  return block.ok && prefixContains(block.value.prefix, addr);
}

/** POL-15, POL-16, POL-17, POL-18, POL-43, POL-48. */
function matchesPort(
  entry: WrittenPort,
  { cluster, packet, applied }: Question,
  addr: Addr,
  found: number | undefined,
  holders: () => readonly (ClusterPod | ClusterHostEndpoint)[],
): boolean {
  const { protocols, port } = portOf(entry);
  applied?.note(...rulesOfPort(entry, port));
  if (packet.destinationPort === undefined) applied?.note("POL-18");
  if (!protocols.includes(packet.protocol)) return false;
  if (port === undefined) return true;
  if (found === undefined) return false;
  if ("from" in port) return found >= port.from && found <= port.to;
  if ("service" in port)
    return cluster.endpoints.some(
      ({ service, addresses, ports }) =>
        service === port.service &&
        addresses.includes(addr) &&
        ports.some((own) => own.protocol === packet.protocol && own.port === found),
    );
  return holders().some((pod) =>
    pod.ports.some((own) => own.name === port.name && own.protocol === packet.protocol && own.port === found),
  );
}

function rulesOfPort(entry: WrittenPort, port: CalicoPort["port"] | undefined): readonly RuleNumber[] {
  if (port !== undefined && "service" in port) return ["POL-48"];
  if ("protocols" in entry) return ["POL-43"];
  if (port === undefined) return ["POL-15"];
  return ["POL-15", "from" in port ? "POL-16" : "POL-17"];
}

/** `port`: undefined for every port of the protocols. */
export function portOf(entry: WrittenPort): {
  readonly protocols: CalicoPort["protocols"];
  readonly port: CalicoPort["port"] | undefined;
} {
  if ("protocols" in entry) return entry;
  const protocol = protocolByName(entry.protocol ?? "TCP");
  const protocols = protocol === undefined ? [] : [protocol];
  const { port, endPort } = entry;
  if (port === undefined || port === null) return { protocols, port: undefined };
  return { protocols, port: typeof port === "number" ? { from: port, to: endPort ?? port } : { name: port } };
}

/** POL-17, POL-43: the endpoints at the address whose port names count. */
function portHolders(
  { cluster, direction }: Question,
  policy: ClusterPolicy,
  { among = [] }: WrittenSide,
  addr: Addr,
): readonly (ClusterPod | ClusterHostEndpoint)[] {
  if (!isKubernetes(policy)) {
    const selectors = among.flat().flatMap((peer) => ("selected" in peer ? [peer.selected] : []));
    return endpointsAt(cluster, addr).filter((each) => selectors.every((selector) => isSelected(selector, each)));
  }
  const pods = podsAt(cluster, addr).filter(isKubernetesPod);
  if (direction === "ingress") return pods.filter((pod) => selects(policy, { is: "pod", ...pod }));
  const peers = among.map((list) => list.flatMap((peer) => (isCalicoPeer(peer) ? [] : [peer])));
  const isAnyone = peers.length === 0 || peers.some((list) => list.some((peer) => peer.ipBlock));
  return isAnyone
    ? pods
    : pods.filter((pod) => peers.every((list) => list.some((peer) => isPeerPod(policy, peer, pod, undefined))));
}

/** POL-5; `prefix` stands before the names under which the labels are kept. */
function matchesLabels(
  selector: LabelSelector | undefined,
  labels: LabelMap,
  prefix: string,
  applied: Applied | undefined,
): boolean {
  if (selector?.matchLabels !== undefined || selector?.matchExpressions !== undefined) applied?.note("POL-5");
  const valueOf = (key: string): string | undefined =>
    Object.hasOwn(labels, prefix + key) ? labels[prefix + key] : undefined;
  const hasLabels = Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => valueOf(key) === value);
  return (
    hasLabels &&
    (selector?.matchExpressions ?? []).every(({ key, operator, values }) => {
      const value = valueOf(key);
      if (operator === "Exists") return value !== undefined;
      if (operator === "DoesNotExist") return value === undefined;
      const isListed = value !== undefined && (values ?? []).includes(value);
      return operator === "In" ? isListed : !isListed;
    })
  );
}
