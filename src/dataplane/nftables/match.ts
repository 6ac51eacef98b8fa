/**
 * match: a rule's clauses as nf_tables expressions. An OR cannot be said inside one nftables rule unless a set says it, so the
 * clauses become alternatives: lists of expressions, one nftables rule each. Their number grows with the *kinds* of things that a
 * clause names, never with how many there are: a list of ports, negated or not, is one look-up.
 *
 * Port lists become one lookup in a set of (protocol, port range), whose name says its content; a single port or range is
 * compared in place.
 */
import type { Expr, NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { invariant } from "../../lib/bug.ts";
import { bitsOf, FAMILIES, type Family } from "../../net/addr.ts";
import type { Protocol } from "../../net/protocol.ts";
import type { Atom, Clause, Rule, SetId, SetMembers, Side } from "../../program/policy.ts";
import { hex16, hex8, hexFamily, padField } from "./bytes.ts";
import { netsSetNames, setName } from "./names.ts";
import type { NetsByFamily } from "./sets.ts";

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

type AtomOn<On extends Atom["on"]> = Extract<Atom, { on: On }>;
/** What a rule has to know of a set that it names. */
export interface NamedSet {
  readonly type: SetMembers["type"];
  readonly nets: NetsByFamily;
}

type NamedSetOf = (id: SetId) => NamedSet;

/** In which a clause is compiled: of one family, in a rule that is known to match packets of one protocol alone, if any. */
interface Context {
  readonly family: Family;
  readonly protocol: Protocol | undefined;
  readonly setOf: NamedSetOf;
}

const NEVER: readonly Alternative[] = [];
const ALWAYS: readonly Alternative[] = [plain([])];

/** The nftables rules (without counter and verdict) that together match what the rule matches; none when nothing can match. */
export function lowerMatch(rule: Rule, setOf: NamedSetOf): Alternative[] {
  const protocol = onlyProtocol(rule);
  const lowerAll = (family: Family): Alternative[] =>
    product(rule.when.map((clause) => lowerClause(clause, { family, protocol, setOf })));
  if (!rule.when.some((clause) => clause.any.some(isOfFamily))) return lowerAll(4);
  return FAMILIES.flatMap((family) =>
    lowerAll(family).map((alternative) => ({
      ...alternative,
      expressions: [...isFamily(family), ...alternative.expressions],
    })),
  );
}

/** Whether it reads differently in the two families. */
function isOfFamily({ on }: Atom): boolean {
  return on === "ip-version" || on === "set" || on === "named-port";
}

/** The one protocol of every packet that the rule can match, where a clause says so. */
function onlyProtocol(rule: Rule): Protocol | undefined {
  for (const { not, any } of rule.when) {
    const protocols = new Set(any.map(protocolOf));
    const [first] = protocols;
    if (!not && protocols.size === 1 && first !== undefined) return first;
  }
  return undefined;
}

function protocolOf(atom: Atom): Protocol | undefined {
  if (atom.on === "protocol") return atom.is;
  return atom.on === "ip-version" || atom.on === "set" ? undefined : atom.protocol;
}

function product(clauses: readonly (readonly Alternative[])[]): Alternative[] {
  let result: readonly Alternative[] = ALWAYS;
  for (const alternatives of clauses) result = result.flatMap((left) => alternatives.map((right) => both(left, right)));
  return [...result];
}

function both(left: Alternative, right: Alternative): Alternative {
  return {
    expressions: [...left.expressions, ...right.expressions],
    portSets: new Map([...left.portSets, ...right.portSets]),
  };
}

function atomsOn<On extends Atom["on"]>(atoms: readonly Atom[], on: On): AtomOn<On>[] {
  return atoms.filter((atom): atom is AtomOn<On> => atom.on === on);
}

function lowerClause(clause: Clause, context: Context): readonly Alternative[] {
  return clause.not ? lowerNone(clause.any, context) : lowerAny(clause.any, context);
}

function lowerAny(atoms: readonly Atom[], context: Context): readonly Alternative[] {
  if (atomsOn(atoms, "ip-version").some(({ is }) => is === context.family)) return ALWAYS;
  return [
    ...SIDES.flatMap((side) => lowerPorts(portsAt(atoms, side), side)),
    ...atomsOn(atoms, "protocol").map(({ is }) => plain(isProtocol(is, "eq"))),
    ...atomsOn(atoms, "icmp").map((atom) => plain([...isProtocol(atom.protocol, "eq"), ...icmpIs(atom, "eq")])),
    ...atomsOn(atoms, "set").flatMap((atom) => lookUps(atom, false, context).map(plain)),
    ...atomsOn(atoms, "named-port").map((atom) => plain(lookUpPort(atom, false, context))),
  ];
}

const SIDES: readonly Side[] = ["source", "destination"];

function portsAt(atoms: readonly Atom[], side: Side): AtomOn<"ports">[] {
  return atomsOn(atoms, "ports").filter((atom) => atom.side === side);
}

/**
 * None of the atoms holds. What reads the transport header is asked of packets of its protocol alone: the others pass, and that is an
 * alternative of its own, unless the rule says the protocol anyway.
 */
function lowerNone(atoms: readonly Atom[], context: Context): readonly Alternative[] {
  if (atomsOn(atoms, "ip-version").some(({ is }) => is === context.family)) return NEVER;
  const protocols = atomsOn(atoms, "protocol").map(({ is }) => is);
  const addresses = atomsOn(atoms, "set").flatMap((atom) => lookUps(atom, true, context).flat());
  const always = plain([...protocols.flatMap((protocol) => isProtocol(protocol, "neq")), ...addresses]);
  return ofProtocols(atoms, context).map((alternative) => both(alternative, always));
}

/** One alternative for each protocol whose header the atoms read, and one for all others. */
function ofProtocols(atoms: readonly Atom[], context: Context): readonly Alternative[] {
  const reading = atoms.flatMap((atom) =>
    atom.on === "ports" || atom.on === "icmp" || atom.on === "named-port" ? [atom.protocol] : [],
  );
  const protocols = [...new Set(reading)];
  if (protocols.length === 0) return ALWAYS;
  if (context.protocol !== undefined) return lowerNoneOf(context.protocol, atoms, context);
  const others = plain(protocols.flatMap((protocol) => isProtocol(protocol, "neq")));
  const own = protocols.flatMap((protocol) =>
    lowerNoneOf(protocol, atoms, context).map((alternative) => both(plain(isProtocol(protocol, "eq")), alternative)),
  );
  return [others, ...own];
}

/** For packets of the protocol; their protocol has been compared already. */
function lowerNoneOf(protocol: Protocol, all: readonly Atom[], context: Context): readonly Alternative[] {
  const atoms = all.filter((atom) => protocolOf(atom) === protocol);
  const ports = SIDES.map((side) => lowerNoPorts(portsAt(atoms, side), side));
  const icmp = atomsOn(atoms, "icmp").flatMap((atom) => icmpIs(atom, "neq"));
  const named = atomsOn(atoms, "named-port").flatMap((atom) => lookUpPort(atom, true, context));
  return [[...ports, plain([...icmp, ...named])].reduce(both)];
}

/** The whole clause: one alternative, or one for each set of ports. */
function lowerPorts(ports: readonly AtomOn<"ports">[], side: Side): Alternative[] {
  const [only] = ports;
  if (only === undefined) return [];
  if (ports.length === 1)
    return [plain([...isProtocol(only.protocol, "eq"), loadPort(side, 1), comparePort(only, "eq")])];
  return portSetsOf(ports, side, false);
}

/** All of it in one alternative, for packets of a protocol with ports. */
function lowerNoPorts(ports: readonly AtomOn<"ports">[], side: Side): Alternative {
  const [only] = ports;
  if (only === undefined) return plain([]);
  if (ports.length === 1) return plain([loadPort(side, 1), comparePort(only, "neq")]);
  return portSetsOf(ports, side, true).reduce(both);
}

function comparePort({ from, to }: AtomOn<"ports">, compare: "eq" | "neq"): Expr {
  return from === to
    ? { op: "cmp", compare, register: 1, data: hex16(from) }
    : { op: "range", compare, register: 1, from: hex16(from), to: hex16(to) };
}

function portSetsOf(ports: readonly AtomOn<"ports">[], side: Side, not: boolean): Alternative[] {
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
      expressions: [loadProtocol(0), loadPort(side, 1), { op: "lookup", set: name, register: 0, not }],
      portSets: new Map([[name, { is: PORT_SET, elements }]]),
    });
  }
  return alternatives;
}

/** Sorted, disjoint ranges for each protocol: an interval set refuses overlaps. */
function mergePorts(ports: readonly AtomOn<"ports">[]): { protocol: number; from: number; to: number }[] {
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

/** Type, or type and code, are the first bytes of the header. */
function icmpIs({ type, code }: AtomOn<"icmp">, compare: "eq" | "neq"): Expr[] {
  const data = code === undefined ? hex8(type) : hex8(type) + hex8(code);
  return [
    { op: "payload", base: "transport", offset: 0, length: data.length / 2, register: 1 },
    { op: "cmp", compare, register: 1, data },
  ];
}

/** One look-up for each kernel set that holds a part of the members: hosts and nets are kept apart, and of nets some prefix lengths. */
function lookUps({ set, side }: AtomOn<"set">, not: boolean, { family, setOf }: Context): Expr[][] {
  const { type, nets } = setOf(set);
  invariant(type !== "address-port", `set ${set} is looked up by address alone`);
  const lookUp = (name: string, mask: readonly Expr[]): Expr[] => [
    loadAddr(side, family, 0),
    ...mask,
    { op: "lookup", set: name, register: 0, not },
  ];
  const ofNets = Array.from(netsSetNames(set, type, nets.get(family)), ([name, part]) =>
    lookUp(name, part === "rest" ? [] : masking(family, part)),
  );
  return type === "address" ? [lookUp(setName(set, family), []), ...ofNets] : ofNets;
}

/** Leaves the first bits of the address in register 0. */
function masking(family: Family, length: number): Expr[] {
  const bits = bitsOf(family);
  if (length === bits) return [];
  const ones = "1".repeat(length).padEnd(bits, "0");
  const mask = (ones.match(/.{4}/g) ?? []).map((digit) => Number.parseInt(digit, 2).toString(16)).join("");
  return [{ op: "bitwise", source: 0, destination: 0, mask, xor: "0".repeat(mask.length) }];
}

/** The protocol is a part of the key. */
function lookUpPort({ set, side }: AtomOn<"named-port">, not: boolean, { family }: Context): Expr[] {
  const next = family === 4 ? 1 : 4;
  return [
    loadAddr(side, family, 0),
    loadProtocol(next),
    loadPort(side, next + 1),
    { op: "lookup", set: setName(set, family), register: 0, not },
  ];
}

function plain(expressions: readonly Expr[]): Alternative {
  return { expressions, portSets: new Map() };
}

export function isFamily(family: Family): Expr[] {
  return [
    { op: "meta", key: "nfproto", register: 0 },
    { op: "cmp", compare: "eq", register: 0, data: hexFamily(family) },
  ];
}

export function isProtocol(protocol: number, compare: "eq" | "neq"): Expr[] {
  return [loadProtocol(0), { op: "cmp", compare, register: 0, data: hex8(protocol) }];
}

export function loadProtocol(register: number): Expr {
  return { op: "meta", key: "l4proto", register };
}

/** Source and destination port are at the same place for TCP, UDP and SCTP. */
export function loadPort(side: Side, register: number): Expr {
  return { op: "payload", base: "transport", offset: side === "source" ? 0 : 2, length: 2, register };
}

/** RFC 791 §3.1 and RFC 8200 §3: the address fields of the header. */
export function loadAddr(side: Side, family: Family, register: number): Expr {
  if (family === 4) return { op: "payload", base: "network", offset: side === "source" ? 12 : 16, length: 4, register };
  return { op: "payload", base: "network", offset: side === "source" ? 8 : 24, length: 16, register };
}
