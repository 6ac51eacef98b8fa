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
}

/** POL-4, POL-19, POL-38, POL-46, POL-51, POL-54. */
export function selects(policy: ClusterPolicy, endpoint: Endpoint): boolean {
  if (policy.namespace !== undefined && policy.namespace !== endpoint.namespace) return false;
  if (isKubernetes(policy) && !isKubernetesPod(endpoint)) return false;
  if (policy.state === "closed-to-all") return endpoint.is === "pod";
  const { selector } = policy;
  if ("pods" in selector) return endpoint.is === "pod" && isPeerPod(policy, selector.pods, endpoint);
  return isKubernetes(policy)
    ? matchesLabels(selector as LabelSelector, endpoint.labels, "")
    : isSelected(selector as CalicoSelector, endpoint);
}

/** POL-54. */
function isKubernetesPod({ labels }: Labelled): boolean {
  return labels["projectcalico.org/orchestrator"] === "k8s";
}

function isKubernetes({ key }: ClusterPolicy): boolean {
  return key.kind === "KubernetesNetworkPolicy" || key.kind === "ClusterNetworkPolicy";
}

/** POL-11, POL-29, POL-30: everything that is given must hold. */
export function matches(question: Question, policy: ClusterPolicy, rule: WrittenRule): boolean {
  const { packet } = question;
  const { ipVersion, protocol, notProtocol, icmp, notIcmp = [] } = rule;
  if (ipVersion !== undefined && familyOf(packet.source) !== ipVersion) return false;
  if (protocol !== undefined && packet.protocol !== protocol) return false;
  if (notProtocol !== undefined && packet.protocol === notProtocol) return false;
  if (icmp !== undefined && !matchesIcmp(icmp, packet)) return false;
  if (notIcmp.some((each) => matchesIcmp(each, packet))) return false;
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
  const { cluster, packet } = question;
  const addr = packet[side];
  const port = side === "source" ? packet.sourcePort : packet.destinationPort;
  const isPeer = (peer: WrittenPeer): boolean => matchesPeer(cluster, policy, peer, addr);
  const isPort = (entry: WrittenPort): boolean =>
    matchesPort(entry, question, addr, port, () => portHolders(question, policy, written, addr));
  return (
    (written.among ?? []).every((peers) => peers.some(isPeer)) &&
    !(written.notAmong ?? []).some(isPeer) &&
    (written.ports === undefined || written.ports.some(isPort)) &&
    !(written.notPorts ?? []).some(isPort)
  );
}

function isCalicoPeer(peer: WrittenPeer): peer is CalicoPeer {
  return "net" in peer || "selected" in peer || "service" in peer;
}

/** POL-12, POL-14, POL-41, POL-42, POL-48. */
function matchesPeer(cluster: Cluster, policy: ClusterPolicy, peer: WrittenPeer, addr: Addr): boolean {
  if (!isCalicoPeer(peer))
    return peer.ipBlock
      ? isInBlock(peer.ipBlock, addr)
      : podsAt(cluster, addr).some((pod) => isPeerPod(policy, peer, pod));
  if ("net" in peer) return prefixContains(peer.net, addr);
  if ("service" in peer)
    return cluster.endpoints.some(({ service, addresses }) => service === peer.service && addresses.includes(addr));
  return labelledAt(cluster, addr).some((each) => isSelected(peer.selected, each));
}

/** POL-38, POL-41. */
function isSelected(written: CalicoSelector, { namespace, labels }: Labelled): boolean {
  const valueOf = (label: string): string | undefined => (Object.hasOwn(labels, label) ? labels[label] : undefined);
  const holds = (text: string, prefix: string): boolean =>
    selectorHolds(text, {
      value: (label) => valueOf(prefix + label),
      all: true,
      global: namespace === undefined,
    });
  const { selector, notSelector, namespaceSelector, serviceAccountSelector, serviceAccountNames = [] } = written;
  const account = valueOf("projectcalico.org/serviceaccount");
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
function isPeerPod(policy: ClusterPolicy, peer: NetworkPolicyPeer, pod: ClusterPod): boolean {
  const isThere = peer.namespaceSelector
    ? matchesLabels(peer.namespaceSelector, pod.labels, "pcns.")
    : policy.namespace === undefined || pod.namespace === policy.namespace;
  return isThere && isKubernetesPod(pod) && matchesLabels(peer.podSelector ?? {}, pod.labels, "");
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
  { cluster, packet }: Question,
  addr: Addr,
  found: number | undefined,
  holders: () => readonly (ClusterPod | ClusterHostEndpoint)[],
): boolean {
  const { protocols, port } = portOf(entry);
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
    : pods.filter((pod) => peers.every((list) => list.some((peer) => isPeerPod(policy, peer, pod))));
}

/** POL-5; `prefix` stands before the names under which the labels are kept. */
function matchesLabels(selector: LabelSelector | undefined, labels: LabelMap, prefix: string): boolean {
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
