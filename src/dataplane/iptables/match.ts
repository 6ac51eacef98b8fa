/**
 * match: a rule's clauses as rules of iptables, for one family. One rule of iptables says an AND of fields, of which each can be negated
 * alone; so every positive clause becomes alternatives, and what must not hold goes first: rules that return.
 */
import { both, icmp, lookUp, type Match, multiport } from "../../kernel/iptables/rule.ts";
import type { Family } from "../../net/addr.ts";
import { ICMP, ICMPV6, type Protocol } from "../../net/protocol.ts";
import type { Atom, Clause, Rule, SetId, Side } from "../../program/policy.ts";
import { setName } from "./names.ts";

export interface Matches {
  /** A packet that matches one of these does not match the rule. */
  readonly exceptions: readonly Match[];
  /** Of the others, those that match one of these do; none: nothing matches. */
  readonly alternatives: readonly Match[];
}

type AtomOn<On extends Atom["on"]> = Extract<Atom, { on: On }>;

const EVERYTHING: Match = {};
/** XT_MULTI_PORTS of linux/netfilter/xt_multiport.h; a range takes two. */
const MOST_PORTS = 15;

export function lowerMatch({ when }: Rule, family: Family): Matches {
  let alternatives: readonly Match[] = [EVERYTHING];
  const exceptions: Match[] = [];
  for (const clause of when) {
    const inline = inlineOf(clause, family);
    if (clause.not && inline === undefined) exceptions.push(...matchesOf(clause.any, family));
    else {
      const own = inline === undefined ? matchesOf(clause.any, family) : [inline];
      alternatives = alternatives.flatMap((left) => own.flatMap((right) => both(left, right) ?? []));
    }
  }
  // One that everything matches leaves nothing.
  if (exceptions.includes(EVERYTHING)) return { exceptions: [], alternatives: [] };
  return { exceptions: alternatives.length === 0 ? [] : exceptions, alternatives };
}

/** A negated clause that one rule can say beside all else. */
function inlineOf({ not, any }: Clause, family: Family): Match | undefined {
  const [only] = any;
  if (!not || any.length !== 1 || only?.on !== "set") return undefined;
  return { extensions: [lookUp(setName(only.set, family), dimension(only.side), true)] };
}

/** Packets for which any of the atoms holds. */
function matchesOf(atoms: readonly Atom[], family: Family): readonly Match[] {
  if (atomsOn(atoms, "ip-version").some(({ is }) => is === family)) return [EVERYTHING];
  return [
    ...portMatches(atomsOn(atoms, "ports")),
    ...atomsOn(atoms, "protocol").map(({ is }): Match => ({ protocol: is })),
    ...atomsOn(atoms, "icmp").flatMap((atom) => icmpMatch(atom, family)),
    ...atomsOn(atoms, "set").map(({ set, side }) => setMatch(set, family, dimension(side))),
    ...atomsOn(atoms, "named-port").map(({ set, side, protocol }): Match => ({
      protocol,
      ...setMatch(set, family, `${dimension(side)},${dimension(side)}`),
    })),
  ];
}

function atomsOn<On extends Atom["on"]>(atoms: readonly Atom[], on: On): AtomOn<On>[] {
  return atoms.filter((atom): atom is AtomOn<On> => atom.on === on);
}

function dimension(side: Side): string {
  return side === "source" ? "src" : "dst";
}

function setMatch(set: SetId, family: Family, dimensions: string): Match {
  return { extensions: [lookUp(setName(set, family), dimensions)] };
}

/** The kernel reads the header of a family's own ICMP alone; the other's is none. */
function icmpMatch({ protocol, type, code }: AtomOn<"icmp">, family: Family): Match[] {
  if (protocol !== (family === 4 ? ICMP : ICMPV6)) return [];
  return [{ protocol, extensions: [icmp(family, type, code)] }];
}

/** As many as fit in one rule. */
function portMatches(ports: readonly AtomOn<"ports">[]): Match[] {
  const byKind = new Map<
    string,
    { readonly side: Side; readonly protocol: Protocol; readonly ports: AtomOn<"ports">[] }
  >();
  for (const atom of ports) {
    const kind = `${atom.side} ${atom.protocol}`;
    const entry = byKind.get(kind) ?? { side: atom.side, protocol: atom.protocol, ports: [] };
    entry.ports.push(atom);
    byKind.set(kind, entry);
  }
  return [...byKind.values()].flatMap(({ side, protocol, ports: own }) =>
    chunks(own).map((words): Match => ({ protocol, extensions: [multiport(side, words)] })),
  );
}

function chunks(ports: readonly AtomOn<"ports">[]): string[][] {
  const all: string[][] = [];
  let room = 0;
  for (const { from, to } of ports) {
    const takes = from === to ? 1 : 2;
    if (room < takes) {
      all.push([]);
      room = MOST_PORTS;
    }
    all.at(-1)?.push(from === to ? String(from) : `${from}:${to}`);
    room -= takes;
  }
  return all;
}
