/**
 * records: policies and stages as records of the interpreter, both ways: what is read back is what was written.
 *
 * Clauses that ask one thing each share a record as long as the order of what they ask lets them; every other clause is a list of
 * records, one for each atom. A rule ends with the record of its action.
 */
import { KernelError } from "../../kernel/errno.ts";
import { assertNever, invariant } from "../../lib/bug.ts";
import type { Key } from "../../model/key.ts";
import type { Action, Direction } from "../../model/policy.ts";
import type { Family } from "../../net/addr.ts";
import type { Protocol } from "../../net/protocol.ts";
import type {
  Atom,
  Clause,
  PolicyId,
  Rule,
  SetId,
  SetMembers,
  Side,
  Stage,
  TierBinding,
} from "../../program/policy.ts";
import {
  ACTIONS,
  type Features,
  HAS_ICMP,
  HAS_PORTS,
  IN_LIST,
  LIST_ENDS,
  LIST_IS_EMPTY,
  LIST_IS_NEGATED,
  LONGEST_JUMP,
  NO_FEATURES,
  NO_PACKET_HAS,
  ON_FAMILY,
  ON_ICMP_CODE,
  ON_ICMP_TYPE,
  ON_NAMED_PORT,
  ON_PORTS,
  ON_PROTOCOL,
  ON_SET,
  PORT_OF_DESTINATION,
  type ProgramRecord,
  RECORD_KINDS,
  SET_HAS_HOSTS,
  SET_HAS_NETS,
  SET_OF_DESTINATION,
} from "./layout.ts";

/** A set as rules refer to it. */
export interface SetReference {
  readonly number: number;
  readonly has: number;
}

/** Where the interpreter looks for members. */
export function hasOf(set: SetMembers): number {
  if (set.type === "nets") return SET_HAS_NETS;
  return set.type === "address" && set.nets.size > 0 ? SET_HAS_HOSTS | SET_HAS_NETS : SET_HAS_HOSTS;
}

const NOTHING: ProgramRecord = {
  kind: 0,
  detail: 0,
  conditions: 0,
  target: 0,
  value: NO_FEATURES,
  mask: NO_FEATURES,
  from: 0,
  to: 0,
  yes: 0,
  no: 0,
};
const ANYTHING: ProgramRecord = { ...NOTHING, kind: RECORD_KINDS.match, to: 0xffff };
const ALL_ONES = 0xff;

const E2BIG = 7;

/** Records of a policy for one direction. Throws KernelError when a rule is too long. */
export function lowerRules(rules: readonly Rule[], setOf: (id: SetId) => SetReference): ProgramRecord[] {
  if (rules.length === 0) return [{ ...NOTHING, kind: RECORD_KINDS["empty-policy"] }];
  const records: ProgramRecord[] = [];
  for (const [i, rule] of rules.entries()) {
    const clauses = clausesOf(rule, setOf);
    const length = clauses.reduce((sum, clause) => sum + clause.length, 1);
    const isLast = i === rules.length - 1;
    let left = length;
    for (const clause of clauses) {
      const isNegated = ((clause[0]?.conditions ?? 0) & LIST_IS_NEGATED) !== 0;
      for (const [k, record] of clause.entries()) {
        const clauseEnd = jump(clause.length - k);
        const ruleEnd = isLast ? 0 : jump(left - k);
        const isEnd = k === clause.length - 1;
        records.push(
          isNegated ? { ...record, yes: ruleEnd, no: 1 } : { ...record, yes: clauseEnd, no: isEnd ? ruleEnd : 1 },
        );
      }
      left -= clause.length;
    }
    const detail = ACTIONS[rule.action];
    records.push({ ...NOTHING, kind: RECORD_KINDS.action, detail, target: rule.id.index, no: isLast ? 0 : 1 });
  }
  return records;
}

function jump(distance: number): number {
  if (distance > LONGEST_JUMP)
    throw new KernelError("jump over", `${distance} records`, E2BIG, `a rule or tier may have ${LONGEST_JUMP}`);
  return distance;
}

/** Records without their jumps: a list for each clause, or one for several that share it. */
function clausesOf(rule: Rule, setOf: (id: SetId) => SetReference): ProgramRecord[][] {
  const clauses: ProgramRecord[][] = [];
  let shared: ProgramRecord | undefined;
  const flush = (): void => {
    if (shared !== undefined) clauses.push([shared]);
    shared = undefined;
  };
  for (const clause of rule.when) {
    const [only, ...others] = clause.any;
    if (!clause.not && only !== undefined && others.length === 0) {
      const added = addAtom(shared ?? ANYTHING, only, setOf);
      if (added === undefined) flush();
      shared = added ?? addAtom(ANYTHING, only, setOf);
      continue;
    }
    flush();
    clauses.push(listOf(clause, setOf));
  }
  flush();
  return clauses;
}

function listOf({ not, any }: Clause, setOf: (id: SetId) => SetReference): ProgramRecord[] {
  const flags = IN_LIST | (not ? LIST_IS_NEGATED : 0);
  const never = { value: { ...NO_FEATURES, shape: NO_PACKET_HAS }, mask: { ...NO_FEATURES, shape: NO_PACKET_HAS } };
  if (any.length === 0) return [{ ...ANYTHING, ...never, conditions: flags | LIST_ENDS | LIST_IS_EMPTY }];
  return any.map((atom, i) => {
    const record = addAtom(ANYTHING, atom, setOf);
    invariant(record !== undefined, "an empty record has room for any atom");
    const end = i === any.length - 1 ? LIST_ENDS : 0;
    return { ...record, conditions: record.conditions | flags | end };
  });
}

/** In the order in which atoms may share a record. */
const ORDER: readonly number[] = [ON_FAMILY, ON_PROTOCOL, ON_ICMP_TYPE, ON_SET, ON_PORTS, ON_NAMED_PORT];
const BIT: { readonly [K in Atom["on"]]: number } = {
  "ip-version": ON_FAMILY,
  protocol: ON_PROTOCOL,
  icmp: ON_ICMP_TYPE,
  set: ON_SET,
  ports: ON_PORTS,
  "named-port": ON_NAMED_PORT,
};

/** undefined: the record has no room for it. */
function addAtom(record: ProgramRecord, atom: Atom, setOf: (id: SetId) => SetReference): ProgramRecord | undefined {
  const bit = BIT[atom.on];
  const taken = ORDER.slice(ORDER.indexOf(bit)).reduce((sum, each) => sum | each, 0);
  if ((record.conditions & taken) !== 0) return undefined;
  if ("protocol" in atom && hasOtherProtocol(record, atom.protocol)) return undefined;
  const conditions = record.conditions | bit;
  switch (atom.on) {
    case "ip-version":
      return { ...withFeatures(record, { family: atom.is }), conditions };
    case "protocol":
      return { ...withFeatures(record, { protocol: atom.is }), conditions };
    case "icmp": {
      const { protocol, type: icmpType, code } = atom;
      const typed = withFeatures(record, { protocol, icmpType }, HAS_ICMP);
      if (code === undefined) return { ...typed, conditions };
      return { ...withFeatures(typed, { icmpCode: code }), conditions: conditions | ON_ICMP_CODE };
    }
    case "set": {
      const { number, has } = setOf(atom.set);
      return { ...record, target: number, conditions: conditions | has | sideOf(atom.side, SET_OF_DESTINATION) };
    }
    case "ports": {
      if ((record.conditions & ON_ICMP_TYPE) !== 0) return undefined;
      const { from, to, protocol } = atom;
      const ported = withFeatures(record, { protocol }, HAS_PORTS);
      return { ...ported, from, to, conditions: conditions | sideOf(atom.side, PORT_OF_DESTINATION) };
    }
    case "named-port": {
      if ((record.conditions & (ON_ICMP_TYPE | ON_SET)) !== 0) return undefined;
      const { number, has } = setOf(atom.set);
      const ported = withFeatures(record, { protocol: atom.protocol }, HAS_PORTS);
      return { ...ported, target: number, conditions: conditions | has | sideOf(atom.side, SET_OF_DESTINATION) };
    }
    default:
      return assertNever(atom);
  }
}

function sideOf(side: Side, bit: number): number {
  return side === "destination" ? bit : 0;
}

function hasOtherProtocol({ value, mask }: ProgramRecord, protocol: Protocol): boolean {
  return mask.protocol !== 0 && value.protocol !== protocol;
}

function withFeatures(record: ProgramRecord, features: Partial<Features>, shape = 0): ProgramRecord {
  const ones = Object.fromEntries(Object.keys(features).map((name) => [name, ALL_ONES])) as Partial<Features>;
  return {
    ...record,
    value: { ...record.value, ...features, shape: record.value.shape | shape },
    mask: { ...record.mask, ...ones, shape: record.mask.shape | shape },
  };
}

/** The same of a policy or stage that decides nothing: it counts, and goes back to what decides. */
export function asStaged(records: readonly ProgramRecord[]): ProgramRecord[] {
  return records.map((record) => ({ ...record, kind: STAGED_KIND.get(record.kind) ?? record.kind }));
}

const STAGED_KIND: ReadonlyMap<number, number> = new Map([
  [RECORD_KINDS.action, RECORD_KINDS["staged-action"]],
  [RECORD_KINDS["tier-end"], RECORD_KINDS["staged-tier-end"]],
  [RECORD_KINDS.end, RECORD_KINDS["staged-end"]],
]);
const DECIDING_KIND: ReadonlyMap<number, number> = new Map([...STAGED_KIND].map(([kind, staged]) => [staged, kind]));

/** The inverse of `asStaged`; other records are the same. */
export function asDeciding(records: readonly ProgramRecord[]): ProgramRecord[] {
  return records.map((record) => ({ ...record, kind: DECIDING_KIND.get(record.kind) ?? record.kind }));
}

/** The records of a stage, undefined where there is none, with what asks the staged stage at `staged` before. */
export function askStagedFirst(staged: number, records: readonly ProgramRecord[] | undefined): ProgramRecord[] {
  const first = { ...NOTHING, kind: RECORD_KINDS.staged, target: staged };
  return [first, ...(records ?? [{ ...NOTHING, kind: RECORD_KINDS["no-stage"] }])];
}

/** First record of the staged stage that is asked before; undefined: none. */
export function stagedBefore([first]: readonly ProgramRecord[]): number | undefined {
  return first?.kind === RECORD_KINDS.staged ? first.target : undefined;
}

/** Whether the stage asks nobody. */
export function isPlain(records: readonly ProgramRecord[]): boolean {
  return !records.some(({ kind }) => kind === RECORD_KINDS.call || kind === RECORD_KINDS.tier);
}

/** The rules that the records of a policy say. */
export function readRules(
  records: readonly ProgramRecord[],
  source: Key,
  direction: Direction,
  setOf: (number: number) => SetId,
): Rule[] {
  const rules: Rule[] = [];
  let when: Clause[] = [];
  let list: Atom[] = [];
  for (const record of records) {
    if (record.kind === RECORD_KINDS.action) {
      const action = nameOf(ACTIONS, record.detail);
      rules.push({ id: { source, direction, index: record.target }, when, action });
      when = [];
    } else if (record.kind === RECORD_KINDS.match) {
      const { conditions } = record;
      const atoms = (conditions & LIST_IS_EMPTY) === 0 ? atomsOf(record, setOf) : [];
      if ((conditions & IN_LIST) === 0) for (const atom of atoms) when.push({ not: false, any: [atom] });
      else list.push(...atoms);
      if ((conditions & LIST_ENDS) === 0) continue;
      when.push({ not: (conditions & LIST_IS_NEGATED) !== 0, any: list });
      list = [];
    }
  }
  return rules;
}

function nameOf<T extends string>(numbers: { readonly [N in T]: number }, wanted: number): T {
  for (const name of Object.keys(numbers) as T[]) if (numbers[name] === wanted) return name;
  invariant(false, `no name for ${wanted}`);
}

function atomsOf(record: ProgramRecord, setOf: (number: number) => SetId): Atom[] {
  const { conditions, value, from, to, target } = record;
  const protocol = value.protocol as Protocol;
  const side = (bit: number): Side => ((conditions & bit) === 0 ? "source" : "destination");
  const atoms: Atom[] = [];
  if ((conditions & ON_FAMILY) !== 0) atoms.push({ on: "ip-version", is: value.family as Family });
  if ((conditions & ON_PROTOCOL) !== 0) atoms.push({ on: "protocol", is: protocol });
  if ((conditions & ON_ICMP_TYPE) !== 0) {
    const code = (conditions & ON_ICMP_CODE) === 0 ? undefined : value.icmpCode;
    atoms.push({ on: "icmp", protocol, type: value.icmpType, code });
  }
  if ((conditions & ON_SET) !== 0) atoms.push({ on: "set", side: side(SET_OF_DESTINATION), set: setOf(target) });
  if ((conditions & ON_PORTS) !== 0) atoms.push({ on: "ports", side: side(PORT_OF_DESTINATION), protocol, from, to });
  if ((conditions & ON_NAMED_PORT) !== 0)
    atoms.push({ on: "named-port", side: side(SET_OF_DESTINATION), protocol, set: setOf(target) });
  return atoms;
}

/** Records of a stage; `policyAt`: the first record of a policy. */
export function lowerStage(stage: Stage, policyAt: (id: PolicyId) => number): ProgramRecord[] {
  const call = (id: PolicyId): ProgramRecord => ({ ...NOTHING, kind: RECORD_KINDS.call, target: policyAt(id) });
  const part = (kind: "tier" | "profiles", policies: readonly PolicyId[], end: ProgramRecord): ProgramRecord[] => {
    // What passes goes on after the end of its tier, or with the end of the profiles.
    const yes = jump(policies.length + (kind === "tier" ? 2 : 1));
    return [{ ...NOTHING, kind: RECORD_KINDS[kind], yes }, ...policies.map(call), end];
  };
  const tier = ({ policies, otherwise }: TierBinding): ProgramRecord[] =>
    part("tier", policies, { ...NOTHING, kind: RECORD_KINDS["tier-end"], detail: ACTIONS[otherwise] });
  const end = { ...NOTHING, kind: RECORD_KINDS.end, detail: ACTIONS[stage.otherwise] };
  return [...stage.tiers.flatMap(tier), ...part("profiles", stage.profiles, end)];
}

/** The stage that the records say; its tiers have these names. */
export function readStage(
  records: readonly ProgramRecord[],
  tierNames: readonly string[],
  policyOf: (at: number) => PolicyId,
): Stage {
  const tiers: TierBinding[] = [];
  let policies: PolicyId[] = [];
  for (const { kind, detail, target } of records) {
    if (kind === RECORD_KINDS.call) policies.push(policyOf(target));
    else if (kind === RECORD_KINDS["tier-end"]) {
      const otherwise = actionOf(detail) === "pass" ? "pass" : "deny";
      tiers.push({ tier: tierNames[tiers.length] ?? "", policies, otherwise });
      policies = [];
    } else if (kind === RECORD_KINDS.end)
      return { tiers, profiles: policies, otherwise: actionOf(detail) === "allow" ? "allow" : "deny" };
  }
  invariant(false, "a stage has an end");
}

function actionOf(detail: number): Action {
  return nameOf(ACTIONS, detail);
}
