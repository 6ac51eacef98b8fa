/**
 * Cluster network policy: converts a ClusterNetworkPolicy of policy.networking.k8s.io to the policy model: tier `kube-admin` or `kube-baseline`,
 * its priority as order.
 *
 * An invalid one denies what it selects, every pod if that is malformed. Peers that the kernel cannot tell apart, nodes and domain names,
 * make a rule that does not accept deny everything, and match nothing in one that accepts; `error` says so.
 * Upstream: libcalico-go/lib/backend/k8s/conversion/clusternetworkpolicy.go. Rules: docs/semantics.md, POL-51.
 */
import { unwrap } from "../../lib/result.ts";
import { parsePrefix } from "../../net/prefix.ts";
import { type Protocol, SCTP, TCP, UDP } from "../../net/protocol.ts";
import { termsOfLabelSelector } from "../kubernetes/label-selector.ts";
import type { ClusterNetworkPolicySpec } from "../kinds/cluster-network-policy.ts";
import { validateClusterNetworkPolicy } from "../kinds/validation/cluster-network-policy.ts";
import type { Key } from "../key.ts";
import { NAMESPACE_PREFIX, ORCHESTRATOR_LABEL } from "../labels.ts";
import type { AddressesModel, Entity, PolicyModel, PortModel, RuleModel, RuleWords } from "../policy.ts";
import { keyOf, type Resource } from "../resource.ts";
import { type FieldError, formatFieldError } from "../schema/field-error.ts";
import type { Selector } from "../selector/selector.ts";
import type { LabelSelector } from "kubernetes-types/meta/v1";

/** Without a priority it comes last. */
export type ClusterSpec = Omit<ClusterNetworkPolicySpec, "priority"> & { readonly priority?: number | undefined };
type IngressRule = NonNullable<ClusterNetworkPolicySpec["ingress"]>[number];
type EgressRule = NonNullable<ClusterNetworkPolicySpec["egress"]>[number];
type Peer = EgressRule["to"][number];

const IS_POD: Selector = { op: "equal", label: ORCHESTRATOR_LABEL, value: "k8s" };
const DENY_ALL: RuleModel = { action: "deny", source: {}, destination: {} };
const ACTIONS = { Accept: "allow", Deny: "deny", Pass: "pass" } as const;

export function policyOfClusterNetworkPolicy(resource: Resource<"ClusterNetworkPolicy">): PolicyModel {
  return policyOfClusterSpec(
    keyOf("ClusterNetworkPolicy", resource),
    resource.spec,
    validateClusterNetworkPolicy(resource),
  );
}

/** What a policy with this spec is; of one that is not valid only tier, priority and subject are read. */
export function policyOfClusterSpec(key: Key, spec: ClusterSpec, errors: readonly FieldError[]): PolicyModel {
  const common = {
    key,
    tier: spec?.tier === "Baseline" ? "kube-baseline" : "kube-admin",
    order: typeof spec?.priority === "number" ? spec.priority : Number.POSITIVE_INFINITY,
    hooks: ["normal"] as const,
  };
  if (errors.length > 0) {
    const isUnreadable = errors.some(
      ({ field }) => field === "<nil>" || field === "spec" || field.startsWith("spec.subject"),
    );
    const selects = isUnreadable ? IS_POD : (podsOf(spec.subject) ?? IS_POD);
    return {
      ...common,
      selects,
      ingress: [DENY_ALL],
      egress: [DENY_ALL],
      error: errors.map(formatFieldError).join("; "),
    };
  }
  const selects = podsOf(spec.subject) ?? IS_POD;
  const unknown = (spec.egress ?? []).flatMap(({ to }, i) =>
    to.some(isUnknown)
      ? [`spec.egress[${i}].to: nodes and domainNames have no effect; what else they may be is denied`]
      : [],
  );
  return {
    ...common,
    selects,
    ingress: unlessEmpty(spec.ingress?.map((rule) => ingressRule(rule, selects))),
    egress: unlessEmpty(spec.egress?.map(egressRule)),
    error: unknown.length === 0 ? undefined : unknown.join("; "),
  };
}

/** A direction without rules is not meant. */
function unlessEmpty(rules: readonly RuleModel[] | undefined): readonly RuleModel[] | undefined {
  return rules === undefined || rules.length === 0 ? undefined : rules;
}

function ingressRule({ name, action, from, protocols }: IngressRule, subject: Selector): RuleModel {
  return {
    action: ACTIONS[action],
    words: wordsOf(name),
    source: among(from),
    destination: portsOf(protocols, subject),
  };
}

function wordsOf(name: string | undefined): RuleWords | undefined {
  return name === undefined || name === "" ? undefined : { name };
}

function egressRule({ name, action, to, protocols }: EgressRule): RuleModel {
  const words = wordsOf(name);
  if (action !== "Accept" && to.some(isUnknown)) return { ...DENY_ALL, words };
  const holders: Selector = { op: "or", of: to.flatMap((peer) => podsOf(peer) ?? []) };
  return {
    action: ACTIONS[action],
    words,
    source: {},
    destination: { ...among(to), ...portsOf(protocols, holders) },
  };
}

function isUnknown({ nodes, domainNames }: Peer): boolean {
  return nodes !== undefined || domainNames !== undefined;
}

function among(peers: readonly Peer[]): Entity {
  const selectors = peers.flatMap((peer) => podsOf(peer) ?? []);
  const nets = peers.flatMap(({ networks = [] }) => networks.map((text) => unwrap(parsePrefix(text))));
  const addresses: AddressesModel = {
    ...(selectors.length === 0 && nets.length > 0 ? {} : { selector: { op: "or", of: selectors } }),
    nets,
  };
  return { in: [addresses] };
}

function podsOf({ namespaces, pods }: Pick<Peer, "namespaces" | "pods">): Selector | undefined {
  const terms = (selector: unknown, prefix: string): readonly Selector[] =>
    termsOfLabelSelector(selector as LabelSelector | undefined, prefix);
  if (namespaces !== undefined) return { op: "and", of: [IS_POD, ...terms(namespaces, NAMESPACE_PREFIX)] };
  if (pods === undefined) return undefined;
  return {
    op: "and",
    of: [IS_POD, ...terms(pods.namespaceSelector, NAMESPACE_PREFIX), ...terms(pods.podSelector, "")],
  };
}

function portsOf(protocols: IngressRule["protocols"], holders: Selector): Entity {
  if (protocols === undefined) return {};
  return {
    ports: protocols.flatMap(({ tcp, udp, sctp, destinationNamedPort: name }): PortModel[] => {
      if (name !== undefined) return [TCP, UDP, SCTP].map((protocol) => ({ type: "named", protocol, name, holders }));
      return [...portOf(TCP, tcp), ...portOf(UDP, udp), ...portOf(SCTP, sctp)];
    }),
  };
}

function portOf(protocol: Protocol, written: NonNullable<IngressRule["protocols"]>[number]["tcp"]): PortModel[] {
  if (written === undefined) return [];
  const { number, range } = written.destinationPort ?? {};
  if (range !== undefined) return [{ type: "range", protocol, from: range.start, to: range.end }];
  return number === undefined
    ? [{ type: "protocol", protocol }]
    : [{ type: "range", protocol, from: number, to: number }];
}
