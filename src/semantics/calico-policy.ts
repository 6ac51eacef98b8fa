/** Calico policy: how NetworkPolicies and GlobalNetworkPolicies of projectcalico.org/v3 read (POL-38 to POL-48). */
import { invariant } from "../lib/bug.ts";
import type { Key } from "../model/key.ts";
import type { GlobalNetworkPolicySpec } from "../model/kinds/global-network-policy.ts";
import type { NetworkPolicySpec } from "../model/kinds/network-policy.ts";
import type { EntityRule, Rule } from "../model/kinds/rule.ts";
import {
  validateGlobalNetworkPolicy,
  validateNetworkPolicy,
  validateProfile,
} from "../model/kinds/validation/policy.ts";
import type { Action, Hook } from "../model/policy.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { FieldError } from "../model/schema/field-error.ts";
import { parseNet, type Prefix, prefixFamily } from "../net/prefix.ts";
import { ICMP, ICMPV6, type Protocol, protocolByName, SCTP, TCP, UDP } from "../net/protocol.ts";
import type {
  CalicoPort,
  CalicoSelector,
  ClusterPolicy,
  WrittenIcmp,
  WrittenPeer,
  WrittenRule,
  WrittenSide,
} from "./cluster.ts";

export function readNetworkPolicy(policy: Resource<"NetworkPolicy">): ClusterPolicy {
  const key = keyOf("NetworkPolicy", policy);
  const namespace = key.namespace ?? "default";
  const spec: NetworkPolicySpec = policy.spec ?? {};
  return readPolicy({ key, namespace, spec, errors: validateNetworkPolicy(policy), hooks: ["normal"] });
}

export function readGlobalNetworkPolicy(policy: Resource<"GlobalNetworkPolicy">): ClusterPolicy {
  const spec: GlobalNetworkPolicySpec = policy.spec ?? {};
  return readPolicy({
    key: keyOf("GlobalNetworkPolicy", policy),
    namespace: undefined,
    spec,
    errors: validateGlobalNetworkPolicy(policy),
    hooks: hooksOf(spec),
  });
}

/** POL-50: a policy that selects nothing by itself. */
export function readProfile(profile: Resource<"Profile">): ClusterPolicy {
  const { ingress = [], egress = [] } = profile.spec ?? {};
  return readPolicy({
    key: keyOf("Profile", profile),
    namespace: undefined,
    spec: { types: ["Ingress", "Egress"], ingress, egress },
    errors: validateProfile(profile),
    hooks: ["normal"],
  });
}

interface Read {
  readonly key: Key;
  readonly namespace: string | undefined;
  readonly spec: GlobalNetworkPolicySpec;
  readonly errors: readonly FieldError[];
  readonly hooks: readonly Hook[];
}

/** POL-31. */
function hooksOf({ doNotTrack, preDNAT, applyOnForward }: GlobalNetworkPolicySpec): readonly Hook[] {
  if (doNotTrack === true) return ["untracked"];
  if (preDNAT === true) return ["pre-dnat"];
  return applyOnForward === true ? ["normal", "forward"] : ["normal"];
}

const DENY_ALL: readonly WrittenRule[] = [{ action: "deny", source: {}, destination: {} }];

function readPolicy({ key, namespace, spec, errors, hooks }: Read): ClusterPolicy {
  const common = {
    key,
    namespace,
    tier: typeof spec.tier === "string" && spec.tier !== "" ? spec.tier : "default",
    order: typeof spec.order === "number" ? spec.order : Number.POSITIVE_INFINITY,
    hooks,
    errors,
  };
  if (errors.length > 0) {
    const state = errors.some(({ field }) => isAboutSelection(field)) ? "closed-to-all" : "closed";
    // Before translation there is only what arrives.
    const isPreDnat = hooks.includes("pre-dnat");
    const selector = state === "closed" ? selectionOf(spec, namespace) : {};
    return { ...common, state, selector, ingress: DENY_ALL, egress: isPreDnat ? undefined : DENY_ALL };
  }
  const types = typesOf(spec);
  const read = (rules: readonly Rule[] | undefined): readonly WrittenRule[] =>
    (rules ?? []).map((rule) => readRule(rule, namespace));
  return {
    ...common,
    state: "valid",
    selector: selectionOf(spec, namespace),
    ingress: types.includes("Ingress") ? read(spec.ingress) : undefined,
    egress: types.includes("Egress") ? read(spec.egress) : undefined,
  };
}

/** POL-46. */
function isAboutSelection(field: string): boolean {
  return ["<nil>", "spec", "spec.selector", "spec.namespaceSelector", "spec.serviceAccountSelector"].includes(field);
}

/** POL-38. */
function selectionOf(spec: GlobalNetworkPolicySpec, namespace: string | undefined): CalicoSelector {
  const { selector, namespaceSelector, serviceAccountSelector } = spec;
  return { selector, serviceAccountSelector, ...(namespace === undefined ? { namespaceSelector } : { namespace }) };
}

/** POL-39. */
function typesOf({ types, ingress, egress }: GlobalNetworkPolicySpec): readonly ("Ingress" | "Egress")[] {
  if (types !== undefined && types.length > 0) return types;
  if (egress === undefined) return ["Ingress"];
  return ingress === undefined ? ["Egress"] : ["Ingress", "Egress"];
}

const ACTIONS: Readonly<Record<Rule["action"], Action>> = { Allow: "allow", Deny: "deny", Pass: "pass", Log: "log" };

function readRule(rule: Rule, namespace: string | undefined): WrittenRule {
  const protocol = protocolOf(rule.protocol);
  const notProtocol = protocolOf(rule.notProtocol);
  const ipVersion = familyOf(rule, protocol);
  const { icmp, notICMP } = rule;
  return {
    action: ACTIONS[rule.action],
    ...(ipVersion === undefined ? {} : { ipVersion }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(notProtocol === undefined ? {} : { notProtocol }),
    ...(protocol === undefined || icmp?.type === undefined ? {} : { icmp: icmpOf(protocol, icmp) }),
    ...(notICMP?.type === undefined ? {} : { notIcmp: [icmpOf(ICMP, notICMP), icmpOf(ICMPV6, notICMP)] }),
    source: withService(readSide(rule.source ?? {}, protocol, namespace), rule.source, namespace),
    destination: withServicePorts(
      readSide(rule.destination ?? {}, protocol, namespace),
      rule.destination,
      protocol,
      namespace,
    ),
  };
}

/** POL-45. */
function protocolOf(written: Rule["protocol"]): Protocol | undefined {
  if (written === undefined) return undefined;
  const protocol = protocolByName(String(written)) ?? (Number(written) as Protocol);
  invariant(protocol > 0 && protocol < 256, `${written} is no protocol`);
  return protocol;
}

/** POL-42, POL-45: the one family whose packets the rule matches; undefined: both. */
function familyOf({ ipVersion, action, source, destination }: Rule, protocol: Protocol | undefined): 4 | 6 | undefined {
  if (ipVersion !== undefined) return ipVersion;
  if (protocol === ICMP) return 4;
  if (protocol === ICMPV6) return 6;
  if (action === "Deny" || action === "Log") return undefined;
  const [net] = [source, destination].flatMap((side) => [...netsOf(side?.nets), ...netsOf(side?.notNets)]);
  return net === undefined ? undefined : prefixFamily(net);
}

function icmpOf(protocol: Protocol, { type, code }: NonNullable<Rule["icmp"]>): WrittenIcmp {
  return { protocol, ...(type === undefined ? {} : { type }), ...(code === undefined ? {} : { code }) };
}

/** POL-41 to POL-43. */
function readSide(side: EntityRule, protocol: Protocol | undefined, namespace: string | undefined): WrittenSide {
  const nets = netsOf(side.nets);
  const notNets = netsOf(side.notNets).map((net): WrittenPeer => ({ net }));
  const { selector, notSelector, namespaceSelector, serviceAccounts } = side;
  const selected: CalicoSelector = {
    selector,
    notSelector,
    namespaceSelector,
    serviceAccountSelector: serviceAccounts?.selector,
    serviceAccountNames: serviceAccounts?.names,
    ...(namespace === undefined || namespaceSelector ? {} : { namespace }),
  };
  const positive =
    selector || namespaceSelector || serviceAccounts?.selector || (serviceAccounts?.names ?? []).length > 0;
  const selects = Boolean(positive) || (namespace !== undefined && Boolean(notSelector));
  const excluded: readonly WrittenPeer[] = !selects && notSelector ? [{ selected: { selector: notSelector } }] : [];
  const among = [...(nets.length === 0 ? [] : [nets.map((net) => ({ net }))]), ...(selects ? [[{ selected }]] : [])];
  const notAmong = [...notNets, ...excluded];
  return {
    ...(among.length === 0 ? {} : { among }),
    ...(notAmong.length === 0 ? {} : { notAmong }),
    ...(side.ports === undefined || side.ports.length === 0 ? {} : { ports: side.ports.map(portWith(protocol)) }),
    ...(side.notPorts === undefined || side.notPorts.length === 0
      ? {}
      : { notPorts: side.notPorts.map(portWith(protocol)) }),
  };
}

/** POL-48: as the source of packets, the addresses of a Service's endpoints. */
function withService(side: WrittenSide, written: EntityRule | undefined, namespace: string | undefined): WrittenSide {
  const service = serviceOf(written, namespace);
  return service === undefined ? side : { ...side, among: [...(side.among ?? []), [{ service }]] };
}

/** POL-48: as their destination, the endpoints at their own ports. */
function withServicePorts(
  side: WrittenSide,
  written: EntityRule | undefined,
  protocol: Protocol | undefined,
  namespace: string | undefined,
): WrittenSide {
  const service = serviceOf(written, namespace);
  const protocols = protocol === undefined ? [TCP, UDP, SCTP] : [protocol];
  return service === undefined ? side : { ...side, ports: [{ protocols, port: { service } }] };
}

function serviceOf(written: EntityRule | undefined, namespace: string | undefined): string | undefined {
  const { name, namespace: given } = written?.services ?? {};
  return name ? `${given || namespace}/${name}` : undefined;
}

function netsOf(texts: readonly string[] | undefined): Prefix[] {
  return (texts ?? []).map((text) => {
    const net = parseNet(text);
    invariant(net.ok, `${text} is no net`);
    return net.value;
  });
}

/** POL-43. */
function portWith(protocol: Protocol | undefined): (written: number | string) => CalicoPort {
  return (written) => {
    const [, from, to] = /^(\d+)(?::(\d+))?$/.exec(String(written)) ?? [];
    const protocols = protocol === undefined ? [TCP, UDP, SCTP] : [protocol];
    if (from === undefined) return { protocols, port: { name: String(written) } };
    return { protocols, port: { from: Number(from), to: Number(to ?? from) } };
  };
}
