/**
 * NetworkPolicy: networking.k8s.io/v1 NetworkPolicy to the policy model: tier `default`, order 1000, every rule an allow.
 *
 * Never fails and never guesses: an invalid policy selects what it says (every pod of its namespace if even that cannot be read) and
 * allows nothing, in both directions, with the reason in `error`.
 * Upstream: libcalico-go/lib/backend/k8s/conversion/conversion.go. Rules: docs/semantics.md.
 */
import { unwrap } from "../../lib/result.ts";
import { parseLegacyPrefix } from "../../net/legacy-prefix.ts";
import { prefixRange, subtractRanges } from "../../net/prefix.ts";
import { type Protocol, protocolByName, TCP } from "../../net/protocol.ts";
import { NAMESPACE_LABEL, NAMESPACE_PREFIX, ORCHESTRATOR_LABEL } from "../labels.ts";
import type { PeerModel, PolicyModel, PortModel, RuleModel } from "../policy.ts";
import { keyOf, type Resource } from "../resource.ts";
import { formatFieldError } from "../schema/field-error.ts";
import type { Selector } from "../selector/selector.ts";
import { termsOfLabelSelector } from "./label-selector.ts";
import { validateNetworkPolicy } from "./network-policy-validation.ts";
import type { NetworkPolicyPeer, NetworkPolicyPort } from "kubernetes-types/networking/v1";

type NetworkPolicyResource = Resource<"KubernetesNetworkPolicy">;

export const TIER = "default";
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
  const common = { key, tier: TIER, order: ORDER, selects };
  if (errors.length > 0) return { ...common, ingress: [], egress: [], error: errors.map(formatFieldError).join("; ") };
  const { ingress, egress } = policyTypes(resource);
  return {
    ...common,
    ingress: ingress
      ? (resource.spec?.ingress ?? []).map((rule) => ruleModel(rule.from, rule.ports, namespace))
      : undefined,
    egress: egress ? (resource.spec?.egress ?? []).map((rule) => ruleModel(rule.to, rule.ports, namespace)) : undefined,
    error: undefined,
  };
}

/** The types alone decide; left out or empty they mean Ingress, and Egress if there are egress rules. */
function policyTypes(resource: NetworkPolicyResource): { readonly ingress: boolean; readonly egress: boolean } {
  const types = resource.spec?.policyTypes ?? [];
  if (types.length === 0) return { ingress: true, egress: (resource.spec?.egress ?? []).length > 0 };
  return { ingress: types.includes("Ingress"), egress: types.includes("Egress") };
}

function inNamespace(namespace: string): Selector {
  return { op: "equal", label: NAMESPACE_LABEL, value: namespace };
}

/** Absent and empty lists of peers or ports mean "any" alike. */
function ruleModel(
  peers: readonly NetworkPolicyPeer[] | null | undefined,
  ports: readonly NetworkPolicyPort[] | null | undefined,
  namespace: string,
): RuleModel {
  return {
    action: "allow",
    peers: peers && peers.length > 0 ? peers.map((peer) => peerModel(peer, namespace)) : undefined,
    ports: ports && ports.length > 0 ? ports.map(portModel) : undefined,
  };
}

function peerModel(peer: NetworkPolicyPeer, namespace: string): PeerModel {
  if (peer.ipBlock) {
    const block = prefixRange(unwrap(parseLegacyPrefix(peer.ipBlock.cidr)).prefix);
    const except = (peer.ipBlock.except ?? []).map((text) => prefixRange(unwrap(parseLegacyPrefix(text)).prefix));
    return { type: "ranges", ranges: subtractRanges([block], except) };
  }
  const where = peer.namespaceSelector
    ? termsOfLabelSelector(peer.namespaceSelector, NAMESPACE_PREFIX)
    : [inNamespace(namespace)];
  return {
    type: "selector",
    selector: { op: "and", of: [IS_POD, ...where, ...termsOfLabelSelector(peer.podSelector, "")] },
  };
}

function portModel(entry: NetworkPolicyPort): PortModel {
  const protocol: Protocol = protocolByName(entry.protocol ?? "TCP") ?? TCP;
  const port: unknown = entry.port ?? undefined;
  if (typeof port === "string") return { type: "named", protocol, name: port };
  if (typeof port === "number") return { type: "range", protocol, from: port, to: entry.endPort ?? port };
  return { type: "protocol", protocol };
}
