/**
 * Lower a rule: lowers a policy of the model to a policy of the program and the definitions of the sets that its rules name.
 *
 * One written rule becomes one program rule: every field is a clause, every list an OR inside one. The calculation computes the members
 * of the sets; the name of a set is derived from its definition, so that equal definitions are one set.
 */
import { formatKey } from "../model/key.ts";
import type {
  AddressesModel,
  Direction,
  Entity,
  IcmpModel,
  PolicyModel,
  PortModel,
  RuleModel,
} from "../model/policy.ts";
import { formatSelector } from "../model/selector/canonical.ts";
import type { Selector } from "../model/selector/selector.ts";
import type { ServiceName } from "../model/service-name.ts";
import { sha256 } from "../lib/sha256.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";
import type { Atom, Clause, Policy, PolicyId, Rule, SetId, Side } from "./policy.ts";

/** Which addresses (or which addresses with the number of a named port) belong to a set. */
export type SetDefinition =
  | { readonly type: "address"; readonly selector: Selector }
  | { readonly type: "address-port"; readonly selector: Selector; readonly protocol: Protocol; readonly port: string }
  /** The endpoints of a Service: their addresses, or with `ports` their addresses, protocols and ports. */
  | { readonly type: "service"; readonly service: ServiceName; readonly ports: boolean }
  /** Sorted as text, without duplicates. */
  | { readonly type: "nets"; readonly nets: readonly Prefix[] };

export interface LoweredPolicy {
  readonly policy: Policy;
  readonly sets: ReadonlyMap<SetId, SetDefinition>;
}

type Define = (definition: SetDefinition) => SetId;

export function policyIdOf(model: Pick<PolicyModel, "key">): PolicyId {
  return formatKey(model.key) as string as PolicyId;
}

export function lowerPolicy(model: PolicyModel): LoweredPolicy {
  const sets = new Map<SetId, SetDefinition>();
  const define: Define = (definition) => {
    const id = setIdOf(definition);
    sets.set(id, definition);
    return id;
  };
  const lowerAll = (direction: Direction): readonly Rule[] | undefined =>
    model[direction]?.map((rule, index) => {
      const id = { source: model.key, direction, index };
      const words = rule.words === undefined ? {} : { words: rule.words };
      return { id, when: lowerMatch(rule, define), action: rule.action, ...words };
    });
  const policy = {
    source: model.key,
    tier: model.tier,
    ingress: lowerAll("ingress"),
    egress: lowerAll("egress"),
    error: model.error,
  };
  return { policy, sets };
}

/** Cheap comparisons first, look-ups in the middle, negations last. */
function lowerMatch(rule: RuleModel, define: Define): Clause[] {
  const { ipVersion, protocol, notProtocol, icmp, notIcmp = [], source, destination } = rule;
  return [
    ...(ipVersion === undefined ? [] : [any({ on: "ip-version", is: ipVersion })]),
    ...(protocol === undefined ? [] : [any({ on: "protocol", is: protocol })]),
    ...(icmp === undefined ? [] : [any(lowerIcmp(icmp))]),
    ...lowerEntity(source, "source", define),
    ...lowerEntity(destination, "destination", define),
    ...(notProtocol === undefined ? [] : [none({ on: "protocol", is: notProtocol })]),
    ...(notIcmp.length === 0 ? [] : [none(...notIcmp.map(lowerIcmp))]),
    ...lowerExclusions(source, "source", define),
    ...lowerExclusions(destination, "destination", define),
  ];
}

function any(...atoms: readonly Atom[]): Clause {
  return { not: false, any: atoms };
}

function none(...atoms: readonly Atom[]): Clause {
  return { not: true, any: atoms };
}

function lowerIcmp({ protocol, type, code }: IcmpModel): Atom {
  return { on: "icmp", protocol, type, code };
}

function lowerEntity(entity: Entity, side: Side, define: Define): Clause[] {
  const clauses = (entity.in ?? []).map((addresses) => any(...lowerAddresses(addresses, side, define)));
  if (entity.ports !== undefined) clauses.push(any(...entity.ports.map((port) => lowerPort(port, side, define))));
  return clauses;
}

function lowerExclusions(entity: Entity, side: Side, define: Define): Clause[] {
  const clauses: Clause[] = [];
  const addresses = (entity.notIn ?? []).flatMap((each) => lowerAddresses(each, side, define));
  if (addresses.length > 0) clauses.push(none(...addresses));
  const ports = (entity.notPorts ?? []).map((port) => lowerPort(port, side, define));
  if (ports.length > 0) clauses.push(none(...ports));
  return clauses;
}

function lowerAddresses({ selector, nets = [], service }: AddressesModel, side: Side, define: Define): Atom[] {
  const atoms: Atom[] = [];
  if (selector !== undefined) atoms.push({ on: "set", side, set: define({ type: "address", selector }) });
  if (nets.length > 0) atoms.push({ on: "set", side, set: define({ type: "nets", nets: [...new Set(nets)].sort() }) });
  if (service !== undefined) atoms.push({ on: "set", side, set: define({ type: "service", service, ports: false }) });
  return atoms;
}

function lowerPort(port: PortModel, side: Side, define: Define): Atom {
  const { protocol } = port;
  switch (port.type) {
    case "protocol":
      return { on: "protocol", is: protocol };
    case "range":
      return { on: "ports", side, protocol, from: port.from, to: port.to };
    case "named": {
      const set = define({ type: "address-port", selector: port.holders, protocol, port: port.name });
      return { on: "named-port", side, protocol, set };
    }
    case "service":
      return {
        on: "named-port",
        side,
        protocol,
        set: define({ type: "service", service: port.service, ports: true }),
      };
  }
}

/** `s-`, `n-`, `v-` or `r-` and 128 bits of the SHA-256 of the canonical definition: two selectors that share a set cannot be crafted. */
function setIdOf(definition: SetDefinition): SetId {
  switch (definition.type) {
    case "address":
      return `s-${digest(formatSelector(definition.selector))}` as SetId;
    case "address-port":
      return `n-${digest(`${definition.protocol} ${definition.port} ${formatSelector(definition.selector)}`)}` as SetId;
    case "service":
      return `v-${digest(`${definition.ports ? "ports" : "addresses"} ${definition.service}`)}` as SetId;
    case "nets":
      return `r-${digest(definition.nets.join(" "))}` as SetId;
  }
}

function digest(text: string): string {
  return sha256(text).slice(0, 32);
}
