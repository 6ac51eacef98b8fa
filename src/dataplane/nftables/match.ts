/**
 * match: a rule's clauses as nf_tables expressions. An OR cannot be said inside one nftables rule unless a set says it, so the
 * clauses become alternatives: lists of expressions, one nftables rule each.
 *
 * Port lists become one lookup in a set of (protocol, port range), whose name says its content; a single port or range is
 * compared in place.
 */
import type { Expr, NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { assertNever, invariant } from "../../lib/bug.ts";
import type { Family } from "../../net/addr.ts";
import type { Atom, Clause, Rule, SetId, SetMembers, Side } from "../../program/policy.ts";
import { hex16, hex8, padField } from "./bytes.ts";
import { setName } from "./names.ts";

/** A set that a rule needs and that is no set of the program: a list of ports. */
export interface PortSet {
  readonly is: NftSet;
  readonly elements: readonly NftElement[];
}

export interface Alternative {
  readonly expressions: readonly Expr[];
  readonly portSets: ReadonlyMap<string, PortSet>;
}

export const PORT_SET: NftSet = { key: ["inet_proto", "inet_service"], interval: true, verdictMap: false };
/** Ranges a port set; keeps its name, which spells them, below the kernel's 255 bytes. */
const PORTS_PER_SET = 12;

type PortsAtom = Extract<Atom, { on: "ports" }>;
type SetTypeOf = (id: SetId) => SetMembers;

/** The nftables rules (without counter and verdict) that together match what the rule matches; none when nothing can match. */
export function lowerMatch(rule: Rule, setOf: SetTypeOf): Alternative[] {
  const needsFamily = rule.when.some((clause) => clause.any.some((atom) => atom.on === "set"));
  if (!needsFamily) return product(rule.when.map((clause) => lowerClause(clause, 4, setOf)));
  const families: readonly Family[] = [4, 6];
  return families.flatMap((family) =>
    product(rule.when.map((clause) => lowerClause(clause, family, setOf))).map((alternative) => ({
      ...alternative,
      expressions: [...isFamily(family), ...alternative.expressions],
    })),
  );
}

function product(clauses: readonly (readonly Alternative[])[]): Alternative[] {
  let result: Alternative[] = [{ expressions: [], portSets: new Map() }];
  for (const alternatives of clauses) {
    result = result.flatMap((left) =>
      alternatives.map((right) => ({
        expressions: [...left.expressions, ...right.expressions],
        portSets: new Map([...left.portSets, ...right.portSets]),
      })),
    );
  }
  return result;
}

function lowerClause(clause: Clause, family: Family, setOf: SetTypeOf): Alternative[] {
  if (clause.not) return product(clause.any.map((atom) => lowerNegated(atom, family, setOf)));
  const alternatives: Alternative[] = [];
  for (const side of ["source", "destination"] as const) {
    const ports = clause.any.filter((atom): atom is PortsAtom => atom.on === "ports" && atom.side === side);
    alternatives.push(...lowerPorts(ports, side));
  }
  for (const atom of clause.any) {
    if (atom.on === "protocol") alternatives.push(plain(isProtocol(atom.is, "eq")));
    else if (atom.on === "set") alternatives.push(...lowerSet(atom.set, atom.side, false, family, setOf));
  }
  return alternatives;
}

function lowerNegated(atom: Atom, family: Family, setOf: SetTypeOf): Alternative[] {
  switch (atom.on) {
    case "protocol":
      return [plain(isProtocol(atom.is, "neq"))];
    case "set":
      return lowerSet(atom.set, atom.side, true, family, setOf);
    case "ports":
      return [
        plain(isProtocol(atom.protocol, "neq")),
        plain([
          ...isProtocol(atom.protocol, "eq"),
          loadPort(atom.side, 1),
          { op: "range", compare: "neq", register: 1, from: hex16(atom.from), to: hex16(atom.to) },
        ]),
      ];
    default:
      return assertNever(atom);
  }
}

function lowerPorts(ports: readonly PortsAtom[], side: Side): Alternative[] {
  const [only] = ports;
  if (only === undefined) return [];
  if (ports.length === 1) {
    const compare: Expr =
      only.from === only.to
        ? { op: "cmp", compare: "eq", register: 1, data: hex16(only.from) }
        : { op: "range", compare: "eq", register: 1, from: hex16(only.from), to: hex16(only.to) };
    return [plain([...isProtocol(only.protocol, "eq"), loadPort(side, 1), compare])];
  }
  const merged = mergePorts(ports);
  const alternatives: Alternative[] = [];
  for (let i = 0; i < merged.length; i += PORTS_PER_SET) {
    const chunk = merged.slice(i, i + PORTS_PER_SET);
    const name = `ports-${chunk.map((p) => `${p.protocol}.${p.from}-${p.to}`).join(".")}`;
    const elements = chunk.map((p) => ({
      key: portKey(p.protocol, p.from),
      keyEnd: portKey(p.protocol, p.to),
      verdict: undefined,
    }));
    alternatives.push({
      expressions: [loadProtocol(0), loadPort(side, 1), { op: "lookup", set: name, register: 0, not: false }],
      portSets: new Map([[name, { is: PORT_SET, elements }]]),
    });
  }
  return alternatives;
}

/** Sorted, disjoint ranges for each protocol: an interval set refuses overlaps. */
function mergePorts(ports: readonly PortsAtom[]): { protocol: number; from: number; to: number }[] {
  const sorted = [...ports].sort((a, b) => a.protocol - b.protocol || a.from - b.from);
  const merged: { protocol: number; from: number; to: number }[] = [];
  for (const { protocol, from, to } of sorted) {
    const top = merged.at(-1);
    if (top !== undefined && top.protocol === protocol && from <= top.to + 1) top.to = Math.max(top.to, to);
    else merged.push({ protocol, from, to });
  }
  return merged;
}

function portKey(protocol: number, port: number): string {
  return padField(hex8(protocol)) + padField(hex16(port));
}

function lowerSet(id: SetId, side: Side, not: boolean, family: Family, setOf: SetTypeOf): Alternative[] {
  const set = setOf(id);
  if (set.type === "ranges" && !set.ranges.some((range) => range.first.includes(":") === (family === 6))) {
    return not ? [plain([])] : [];
  }
  const expressions: Expr[] = [loadAddr(side, family, 0)];
  if (set.type === "address-port") {
    invariant(!not, "an address-port set is not used negated: a packet without ports has no key to look up");
    const next = family === 4 ? 1 : 4;
    expressions.push(loadProtocol(next), loadPort(side, next + 1));
  }
  expressions.push({ op: "lookup", set: setName(id, family), register: 0, not });
  return [plain(expressions)];
}

function plain(expressions: readonly Expr[]): Alternative {
  return { expressions, portSets: new Map() };
}

/** `meta nfproto`: 2 is NFPROTO_IPV4, 10 NFPROTO_IPV6. */
export function isFamily(family: Family): Expr[] {
  return [
    { op: "meta", key: "nfproto", register: 0 },
    { op: "cmp", compare: "eq", register: 0, data: family === 4 ? "02" : "0a" },
  ];
}

export function isProtocol(protocol: number, compare: "eq" | "neq"): Expr[] {
  return [loadProtocol(0), { op: "cmp", compare, register: 0, data: hex8(protocol) }];
}

function loadProtocol(register: number): Expr {
  return { op: "meta", key: "l4proto", register };
}

/** Source and destination port are at the same place for TCP, UDP and SCTP. */
function loadPort(side: Side, register: number): Expr {
  return { op: "payload", base: "transport", offset: side === "source" ? 0 : 2, length: 2, register };
}

/** RFC 791 §3.1 and RFC 8200 §3: the address fields of the header. */
export function loadAddr(side: Side, family: Family, register: number): Expr {
  if (family === 4) return { op: "payload", base: "network", offset: side === "source" ? 12 : 16, length: 4, register };
  return { op: "payload", base: "network", offset: side === "source" ? 8 : 24, length: 16, register };
}
