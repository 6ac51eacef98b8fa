/**
 * Lower a rule: a policy of the model to a policy of the program, and the definitions of the sets that its rules name.
 *
 * One written rule becomes one program rule of at most two clauses: peers (the address on the other side) and ports (always of the
 * destination). All selector peers of a rule share one set, all its blocks another. What the sets hold is for the calculation to find
 * out; what they are called follows from their definition, so that equal definitions are one set.
 */
import { sha256 } from "../lib/sha256.ts";
import { formatKey } from "../model/key.ts";
import type { Direction, PeerModel, PolicyModel, PortModel, RuleModel } from "../model/policy.ts";
import { formatSelector } from "../model/selector/canonical.ts";
import type { Selector } from "../model/selector/selector.ts";
import { type AddrRange, formatRange, mergeRanges } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";
import type { Atom, Clause, Policy, PolicyId, Rule, SetId } from "./policy.ts";

/** Which addresses (or which addresses with the number of a named port) belong to a set. */
export type SetDefinition =
  | { readonly type: "address"; readonly selector: Selector }
  | { readonly type: "address-port"; readonly selector: Selector; readonly protocol: Protocol; readonly port: string }
  /** Sorted and disjoint. */
  | { readonly type: "ranges"; readonly ranges: readonly AddrRange[] };

export interface LoweredPolicy {
  readonly policy: Policy;
  readonly sets: ReadonlyMap<SetId, SetDefinition>;
}

export function policyIdOf(model: PolicyModel): PolicyId {
  return formatKey(model.key) as string as PolicyId;
}

export function lowerPolicy(model: PolicyModel): LoweredPolicy {
  const sets = new Map<SetId, SetDefinition>();
  const lowerAll = (direction: Direction): readonly Rule[] | undefined =>
    model[direction]?.map((rule, index) => lowerRule(model, direction, rule, index, sets));
  const policy = { source: model.key, ingress: lowerAll("ingress"), egress: lowerAll("egress"), error: model.error };
  return { policy, sets };
}

function lowerRule(
  model: PolicyModel,
  direction: Direction,
  rule: RuleModel,
  index: number,
  sets: Map<SetId, SetDefinition>,
): Rule {
  const when: Clause[] = [];
  if (rule.peers !== undefined) when.push({ not: false, any: lowerPeers(rule.peers, direction, sets) });
  if (rule.ports !== undefined) {
    const holders = direction === "ingress" ? model.selects : destinations(rule.peers);
    when.push({ not: false, any: rule.ports.map((port) => lowerPort(port, holders, sets)) });
  }
  return { id: { source: model.key, direction, index }, when, action: rule.action };
}

function lowerPeers(peers: readonly PeerModel[], direction: Direction, sets: Map<SetId, SetDefinition>): Atom[] {
  const side = direction === "ingress" ? "source" : "destination";
  const selector = unionOfSelectors(peers);
  const ranges = mergeRanges(peers.flatMap((peer) => (peer.type === "ranges" ? peer.ranges : [])));
  const atoms: Atom[] = [];
  if (selector !== undefined) atoms.push({ on: "set", side, set: define({ type: "address", selector }, sets) });
  if (ranges.length > 0) atoms.push({ on: "set", side, set: define({ type: "ranges", ranges }, sets) });
  return atoms;
}

/** undefined when no peer is a selector. */
function unionOfSelectors(peers: readonly PeerModel[]): Selector | undefined {
  const selectors = peers.flatMap((peer) => (peer.type === "selector" ? [peer.selector] : []));
  return selectors.length === 0 ? undefined : { op: "or", of: selectors };
}

/** Whose port names count for an egress rule: the peers', if they are all selectors, else any endpoint's. */
function destinations(peers: readonly PeerModel[] | undefined): Selector {
  const bySelectorOnly = peers !== undefined && peers.every((peer) => peer.type === "selector");
  return (bySelectorOnly ? unionOfSelectors(peers) : undefined) ?? { op: "all" };
}

function lowerPort(port: PortModel, holders: Selector, sets: Map<SetId, SetDefinition>): Atom {
  switch (port.type) {
    case "protocol":
      return { on: "protocol", is: port.protocol };
    case "range":
      return { on: "ports", side: "destination", protocol: port.protocol, from: port.from, to: port.to };
    case "named":
      return {
        on: "set",
        side: "destination",
        set: define({ type: "address-port", selector: holders, protocol: port.protocol, port: port.name }, sets),
      };
  }
}

function define(definition: SetDefinition, sets: Map<SetId, SetDefinition>): SetId {
  const id = setIdOf(definition);
  sets.set(id, definition);
  return id;
}

/** `s-`, `n-` or `r-` and 128 bits of the SHA-256 of the canonical definition: nobody can craft two selectors that share a set. */
function setIdOf(definition: SetDefinition): SetId {
  switch (definition.type) {
    case "address":
      return `s-${digest(formatSelector(definition.selector))}` as SetId;
    case "address-port":
      return `n-${digest(`${definition.protocol} ${definition.port} ${formatSelector(definition.selector)}`)}` as SetId;
    case "ranges":
      return `r-${digest(definition.ranges.map(formatRange).join(" "))}` as SetId;
  }
}

function digest(text: string): string {
  return sha256(text).slice(0, 32);
}
