/**
 * Calico rule: converts a rule of projectcalico.org/v3, which must be valid, to the policy model. Rules: docs/semantics.md, POL-41 to POL-45.
 * Upstream: libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go.
 */
import { unwrap } from "../../lib/result.ts";
import type { Family } from "../../net/addr.ts";
import { parseNet, type Prefix, prefixFamily } from "../../net/prefix.ts";
import { ICMP, ICMPV6, parseProtocol, type Protocol, SCTP, TCP, UDP } from "../../net/protocol.ts";
import type { EntityRule, Rule } from "../kinds/rule.ts";
import type { Action, AddressesModel, Entity, IcmpModel, PortModel, RuleModel, RuleWords } from "../policy.ts";
import type { Selector } from "../selector/selector.ts";
import { type ServiceName, serviceName } from "../service-name.ts";
import { selectorOf } from "./selection.ts";

const ACTIONS: Readonly<Record<Rule["action"], Action>> = { Allow: "allow", Deny: "deny", Pass: "pass", Log: "log" };
/** Protocols that a named port may have. */
const NAMED: readonly Protocol[] = [TCP, UDP, SCTP];

/** `namespace`: that of the policy; undefined for one of the whole cluster. */
export function ruleOf(rule: Rule, namespace: string | undefined): RuleModel {
  const protocol = rule.protocol === undefined ? undefined : parseProtocol(rule.protocol);
  const nets = { source: netsOf(rule.source), destination: netsOf(rule.destination) };
  return {
    action: ACTIONS[rule.action],
    words: wordsOf(rule),
    ipVersion: familyOf(rule, protocol, Object.values(nets)),
    protocol,
    notProtocol: rule.notProtocol === undefined ? undefined : parseProtocol(rule.notProtocol),
    icmp: protocol === undefined || rule.icmp?.type === undefined ? undefined : icmpOf(protocol, rule.icmp),
    notIcmp: rule.notICMP?.type === undefined ? [] : [ICMP, ICMPV6].map((each) => icmpOf(each, rule.notICMP ?? {})),
    source: entityOf(rule.source ?? {}, "source", nets.source, protocol, namespace),
    destination: entityOf(rule.destination ?? {}, "destination", nets.destination, protocol, namespace),
  };
}

function wordsOf({ metadata }: Rule): RuleWords | undefined {
  const annotations = metadata?.annotations ?? {};
  return Object.keys(annotations).length === 0 ? undefined : { annotations };
}

interface Nets {
  readonly nets: readonly Prefix[];
  readonly notNets: readonly Prefix[];
}

function netsOf({ nets = [], notNets = [] }: EntityRule = {}): Nets {
  return {
    nets: nets.map((text) => unwrap(parseNet(text))),
    notNets: notNets.map((text) => unwrap(parseNet(text))),
  };
}

/**
 * All nets of a rule are of one family. A rule that allows or passes means that family alone; one that denies whatever is outside some
 * nets denies the other family as well.
 */
function familyOf(
  { ipVersion, action }: Rule,
  protocol: Protocol | undefined,
  nets: readonly Nets[],
): Family | undefined {
  if (ipVersion !== undefined) return ipVersion;
  if (protocol === ICMP) return 4;
  if (protocol === ICMPV6) return 6;
  if (action === "Deny" || action === "Log") return undefined;
  const [net] = nets.flatMap((side) => [...side.nets, ...side.notNets]);
  return net === undefined ? undefined : prefixFamily(net);
}

function icmpOf(protocol: Protocol, { type = 0, code }: NonNullable<Rule["icmp"]>): IcmpModel {
  return { protocol, type, code };
}

function entityOf(
  written: EntityRule,
  side: "source" | "destination",
  { nets, notNets }: Nets,
  protocol: Protocol | undefined,
  namespace: string | undefined,
): Entity {
  const { selector, notSelector, namespaceSelector, serviceAccounts, services, ports = [], notPorts = [] } = written;
  const service = services?.name ? serviceName(services.namespace || (namespace ?? ""), services.name) : undefined;
  const selection = {
    selector,
    notSelector,
    namespace: namespaceSelector ? undefined : namespace,
    namespaceSelector,
    serviceAccountSelector: serviceAccounts?.selector,
    serviceAccountNames: serviceAccounts?.names,
  };
  const isPositive =
    Boolean(selector || namespaceSelector || serviceAccounts?.selector) || (serviceAccounts?.names ?? []).length > 0;
  // Within a namespace even what is not selected is something of that namespace.
  const selected = isPositive || (Boolean(notSelector) && namespace !== undefined) ? selectorOf(selection) : undefined;
  const into: AddressesModel[] = [];
  if (nets.length > 0) into.push({ nets });
  if (selected !== undefined) into.push({ selector: selected });
  if (service !== undefined && side === "source") into.push({ service });
  const notIn: AddressesModel[] = [];
  if (notNets.length > 0) notIn.push({ nets: notNets });
  if (selected === undefined && notSelector) notIn.push({ selector: selectorOf({ selector: notSelector }) });
  const holders: Selector = selected ?? { op: "all" };
  return {
    ...(into.length === 0 ? {} : { in: into }),
    ...(notIn.length === 0 ? {} : { notIn }),
    ...(service === undefined || side === "source" ? {} : { ports: portsOfService(service, protocol) }),
    ...(ports.length === 0 ? {} : { ports: ports.flatMap((port) => portsOf(port, protocol, holders)) }),
    ...(notPorts.length === 0 ? {} : { notPorts: notPorts.flatMap((port) => portsOf(port, protocol, holders)) }),
  };
}

/** What goes to a Service has been translated: its endpoints, at their own ports. */
function portsOfService(service: ServiceName, protocol: Protocol | undefined): PortModel[] {
  return (protocol === undefined ? NAMED : [protocol]).map((each) => ({ type: "service", protocol: each, service }));
}

/** A number, a range `80:90`, or a name of a port of the holders. */
function portsOf(written: number | string, protocol: Protocol | undefined, holders: Selector): PortModel[] {
  const protocols = protocol === undefined ? NAMED : [protocol];
  const [, from, to] = /^(\d+)(?::(\d+))?$/.exec(String(written)) ?? [];
  if (from === undefined)
    return protocols.map((each) => ({ type: "named", protocol: each, name: String(written), holders }));
  return protocols.map((each) => ({ type: "range", protocol: each, from: Number(from), to: Number(to ?? from) }));
}
