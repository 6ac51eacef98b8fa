/**
 * NetworkPolicy: converts a networking.k8s.io/v1 NetworkPolicy to the policy model: tier `default`, order 1000, every rule an allow.
 *
 * Never fails and never guesses: an invalid policy selects what its selector selects (every pod of its namespace if that is malformed)
 * and allows nothing, in both directions, with the reason in `error`.
 * Upstream: libcalico-go/lib/backend/k8s/conversion/conversion.go. Rules: docs/semantics.md.
 */
import { unwrap } from "../../lib/result.ts";
import { parseLegacyPrefix } from "../../net/legacy-prefix.ts";
import { prefixRange, rangesToPrefixes, subtractRanges } from "../../net/prefix.ts";
import { type Protocol, protocolByName, TCP } from "../../net/protocol.ts";
import { DEFAULT_TIER } from "../tier.ts";
import { NAMESPACE_LABEL, NAMESPACE_PREFIX, ORCHESTRATOR_LABEL } from "../labels.ts";
import type { AddressesModel, Entity, PolicyModel, PortModel, RuleModel } from "../policy.ts";
import { keyOf, type Resource } from "../resource.ts";
import { formatFieldError } from "../schema/field-error.ts";
import type { Selector } from "../selector/selector.ts";
import { termsOfLabelSelector } from "../kubernetes/label-selector.ts";
import { validateNetworkPolicy } from "../kubernetes/network-policy-validation.ts";
import type {
  NetworkPolicyEgressRule,
  NetworkPolicyIngressRule,
  NetworkPolicyPeer,
  NetworkPolicyPort,
} from "kubernetes-types/networking/v1";

type NetworkPolicyResource = Resource<"KubernetesNetworkPolicy">;

export const ORDER = 1000;
const IS_POD: Selector = { op: "equal", label: ORCHESTRATOR_LABEL, value: "k8s" };

export function policyOfNetworkPolicy(resource: NetworkPolicyResource): PolicyModel {
  const key = keyOf("KubernetesNetworkPolicy", resource);
  const namespace = key.namespace ?? "default";
  const errors = validateNetworkPolicy(resource);
  const unreadable = errors.some(
    ({ field }) => field === "<nil>" || field === "spec" || field.startsWith("spec.podSelector"),
  );
  const own = unreadable ? [] : termsOfLabelSelector(resource.spec?.podSelector, "");
  const selects: Selector = { op: "and", of: [IS_POD, inNamespace(namespace), ...own] };
  const common = { key, tier: DEFAULT_TIER, order: ORDER, selects, hooks: ["normal"] as const };
  if (errors.length > 0) return { ...common, ingress: [], egress: [], error: errors.map(formatFieldError).join("; ") };
  const { ingress, egress } = policyTypes(resource);
  const rules = resource.spec;
  return {
    ...common,
    ingress: ingress ? (rules?.ingress ?? []).map((rule) => ingressRule(rule, namespace, selects)) : undefined,
    egress: egress ? (rules?.egress ?? []).map((rule) => egressRule(rule, namespace)) : undefined,
    error: undefined,
  };
}

/** Only policyTypes decides; absent or empty it means Ingress, and Egress if there are egress rules. */
function policyTypes(resource: NetworkPolicyResource): { readonly ingress: boolean; readonly egress: boolean } {
  const types = resource.spec?.policyTypes ?? [];
  if (types.length === 0) return { ingress: true, egress: (resource.spec?.egress ?? []).length > 0 };
  return { ingress: types.includes("Ingress"), egress: types.includes("Egress") };
}

function inNamespace(namespace: string): Selector {
  return { op: "equal", label: NAMESPACE_LABEL, value: namespace };
}

/** Port names are those of the pods that the policy selects. */
function ingressRule({ from, ports }: NetworkPolicyIngressRule, namespace: string, selects: Selector): RuleModel {
  const peers = (from ?? []).map((peer) => peerModel(peer, namespace));
  return { action: "allow", source: among(peers), destination: portsOf(ports, selects) };
}

/** Port names are those of the peers if every peer is a selector, otherwise those of any pod. */
function egressRule({ to, ports }: NetworkPolicyEgressRule, namespace: string): RuleModel {
  const peers = (to ?? []).map((peer) => peerModel(peer, namespace));
  const selector = peers.length > 0 && peers.every((peer) => peer.nets === undefined) ? selectorOf(peers) : undefined;
  return {
    action: "allow",
    source: {},
    destination: { ...among(peers), ...portsOf(ports, selector ?? IS_POD) },
  };
}

/** An absent and an empty list of peers both mean "any". */
function among(peers: readonly AddressesModel[]): Entity {
  if (peers.length === 0) return {};
  const nets = peers.flatMap((peer) => peer.nets ?? []);
  const selector = selectorOf(peers);
  return { in: [{ selector, nets: rangesToPrefixes(nets.map(prefixRange)) }] };
}

/** undefined when no peer is a selector. */
function selectorOf(peers: readonly AddressesModel[]): Selector | undefined {
  const selectors = peers.flatMap(({ selector }) => (selector === undefined ? [] : [selector]));
  return selectors.length === 0 ? undefined : { op: "or", of: selectors };
}

/** An absent and an empty list of ports both mean "any". */
function portsOf(ports: readonly NetworkPolicyPort[] | null | undefined, holders: Selector): Entity {
  return ports && ports.length > 0 ? { ports: ports.map((port) => portModel(port, holders)) } : {};
}

function peerModel(peer: NetworkPolicyPeer, namespace: string): AddressesModel {
  if (peer.ipBlock) {
    const block = prefixRange(unwrap(parseLegacyPrefix(peer.ipBlock.cidr)).prefix);
    const except = (peer.ipBlock.except ?? []).map((text) => prefixRange(unwrap(parseLegacyPrefix(text)).prefix));
    return { nets: rangesToPrefixes(subtractRanges([block], except)) };
  }
  const where = peer.namespaceSelector
    ? termsOfLabelSelector(peer.namespaceSelector, NAMESPACE_PREFIX)
    : [inNamespace(namespace)];
  return { selector: { op: "and", of: [IS_POD, ...where, ...termsOfLabelSelector(peer.podSelector, "")] } };
}

function portModel(entry: NetworkPolicyPort, holders: Selector): PortModel {
  const protocol: Protocol = protocolByName(entry.protocol ?? "TCP") ?? TCP;
  const port: unknown = entry.port ?? undefined;
  if (typeof port === "string") return { type: "named", protocol, name: port, holders };
  if (typeof port === "number") return { type: "range", protocol, from: port, to: entry.endPort ?? port };
  return { type: "protocol", protocol };
}
