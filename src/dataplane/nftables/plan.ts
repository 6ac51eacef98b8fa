/**
 * plan: chosen changes of rows and elements as the commands of one transaction, each with the unit that wants it, and as lines for people.
 *
 * Referents are added first and removed last. A chain whose rules change keeps what its old and new rules have in common at either end,
 * with its counters: only what lies between goes and comes.
 */
import type { NftCommand, NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { printElement } from "../../kernel/nftables/print-values.ts";
import { printBase, printRule } from "../../kernel/nftables/print.ts";
import { type CommonEnds, commonEnds } from "../../lib/common-ends.ts";
import { equal } from "../../lib/equal.ts";
import type { PlannedChange } from "../driver.ts";
import type { RowChange } from "../refusals.ts";
import { type ChainRow, type NftRow, OWNED, sameRow } from "./rows.ts";
import type { Unit } from "../units.ts";

export interface ElementsChange {
  readonly set: string;
  readonly unit: Unit;
  readonly is: NftSet;
  readonly add: readonly NftElement[];
  readonly remove: readonly NftElement[];
  /** To be added and then removed. */
  readonly unsure: readonly NftElement[];
  /** More will follow in a later transaction. */
  readonly isPartial: boolean;
}

export function isEmpty({ rows, elements }: Plan): boolean {
  return rows.length === 0 && elements.length === 0;
}

export interface PlannedCommand {
  readonly command: NftCommand;
  readonly unit: Unit;
}

/** What one transaction does. */
export interface Plan {
  /** In order of rank. */
  readonly units: readonly Unit[];
  readonly rows: readonly RowChange<NftRow>[];
  readonly elements: readonly ElementsChange[];
  /** The table is made anew: whatever it holds goes first. */
  readonly replaces: boolean;
}

/** The handles of the rules of one chain at this moment, in order. */
export type HandlesOf = (chain: string) => readonly bigint[];

/** By stage of the transaction, in order. */
const STAGES = [
  "table",
  "add sets",
  "add flowtables",
  "add chains",
  "remove elements",
  "add elements",
  "rules",
  "flushes",
  "remove chains",
  "remove sets",
  "remove flowtables",
] as const;
type Stage = (typeof STAGES)[number];

export function commandsOf(plan: Plan, handlesOf: HandlesOf): readonly PlannedCommand[] {
  const stages = new Map<Stage, PlannedCommand[]>(STAGES.map((stage) => [stage, []]));
  const put = (stage: Stage, unit: Unit, command: NftCommand): void => void stages.get(stage)?.push({ command, unit });
  const [first] = plan.units;
  if (plan.replaces && first !== undefined) put("table", first, { do: "delete-table" });
  const goneSets = new Set(
    plan.rows.flatMap(({ want, have }) => (want === undefined && have?.type === "set" ? [have.set] : [])),
  );
  for (const change of plan.rows) commandsOfRow(change, goneSets, handlesOf, put);
  for (const { set, unit, is, add, remove, unsure } of plan.elements) {
    if (unsure.length > 0) put("remove elements", unit, { do: "add-elements", set, is, elements: unsure });
    const gone = [...unsure, ...remove];
    if (gone.length > 0) put("remove elements", unit, { do: "delete-elements", set, is, elements: gone });
    if (add.length > 0) put("add elements", unit, { do: "add-elements", set, is, elements: add });
  }
  return [...stages.values()].flat();
}

type Put = (stage: Stage, unit: Unit, command: NftCommand) => void;

function commandsOfRow(
  { unit, want, have }: RowChange<NftRow>,
  goneSets: ReadonlySet<string>,
  handlesOf: HandlesOf,
  put: Put,
): void {
  if (have?.type === "element" && !goneSets.has(have.set))
    put("remove elements", unit, { do: "delete-elements", set: have.set, is: have.is, elements: [have.element] });
  if (want?.type === "element")
    put("add elements", unit, { do: "add-elements", set: want.set, is: want.is, elements: [want.element] });
  if (want?.type === "table") put("table", unit, { do: sameRow(want, OWNED) ? "own-table" : "add-table" });
  if (want?.type === "set" && want.is !== undefined)
    put("add sets", unit, { do: "add-set", set: want.set, is: want.is });
  if (want === undefined && have?.type === "set") put("remove sets", unit, { do: "delete-set", set: have.set });
  if (want?.type === "flowtable" && want.priority !== undefined)
    put("add flowtables", unit, {
      do: "add-flowtable",
      flowtable: want.flowtable,
      priority: want.priority,
      devices: [],
    });
  if (want === undefined && have?.type === "flowtable")
    put("remove flowtables", unit, { do: "delete-flowtable", flowtable: have.flowtable });
  if (want?.type === "chain") commandsOfChain(unit, want, have?.type === "chain" ? have : undefined, handlesOf, put);
  if (want === undefined && have?.type === "chain") {
    put("flushes", unit, { do: "flush-chain", chain: have.chain });
    put("remove chains", unit, { do: "delete-chain", chain: have.chain });
  }
}

function commandsOfChain(unit: Unit, want: ChainRow, have: ChainRow | undefined, handlesOf: HandlesOf, put: Put): void {
  const { chain, base } = want;
  const rules = want.rules.flatMap((rule) => rule ?? []);
  if (have === undefined)
    put("add chains", unit, { do: "add-chain", chain, base: base === "unknown" ? undefined : base });
  const kept = have === undefined ? undefined : keptRules(have.rules, rules, () => handlesOf(chain));
  if (kept === undefined) {
    if (have !== undefined && have.rules.length > 0) put("rules", unit, { do: "flush-chain", chain });
    for (const rule of rules) put("rules", unit, { do: "add-rule", chain, rule });
    return;
  }
  for (const handle of kept.gone) put("rules", unit, { do: "delete-rule", chain, handle });
  for (const rule of rules.slice(kept.head, rules.length - kept.tail))
    put("rules", unit, { do: "insert-rule", chain, rule, place: kept.before ?? "last" });
}

interface KeptRules extends CommonEnds {
  /** Handles of the rules between. */
  readonly gone: readonly bigint[];
  /** Of the first rule of the common end. */
  readonly before: bigint | undefined;
}

/** What a chain that changes keeps; undefined when that is less than it takes to read the handles, and counts nothing. */
function keptEnds(have: ChainRow["rules"], want: ChainRow["rules"]): CommonEnds | undefined {
  const { head, tail } = commonEnds(have, want, equal);
  const kept = [...want.slice(0, head), ...want.slice(want.length - tail)];
  const isDear = kept.length * RULE_US > EDIT_US;
  return isDear || kept.some((rule) => rule?.expressions.some(({ op }) => op === "counter"))
    ? { head, tail }
    : undefined;
}

/** undefined when nothing is kept, or when the chain no longer has as many rules as we believe. */
function keptRules(
  have: ChainRow["rules"],
  want: ChainRow["rules"],
  read: () => readonly bigint[],
): KeptRules | undefined {
  const ends = keptEnds(have, want);
  if (ends === undefined) return undefined;
  const { head, tail } = ends;
  const handles = read();
  const end = have.length - tail;
  if (handles.length !== have.length) return undefined;
  return { head, tail, gone: handles.slice(head, end), before: handles[end] };
}

/** Rough cost of a change in microseconds of the thread, ours and the kernel's. */
export function costOf({ want, have }: RowChange<NftRow>): number {
  const wanted = want?.type === "chain" ? want.rules : [];
  const had = have?.type === "chain" ? have.rules : [];
  const ends = keptEnds(had, wanted);
  if (ends === undefined) return ROW_US + RULE_US * wanted.length + (RULE_US * had.length) / 4;
  return EDIT_US + RULE_US * (Math.max(wanted.length, had.length) - ends.head - ends.tail);
}

const ROW_US = 15;
/** Of a chain that is edited: its handles are read. */
const EDIT_US = 80;
const RULE_US = 20;

/** The plan as lines, sets with their elements counted or, if few, named. */
export function describePlan(plan: Plan): readonly PlannedChange[] {
  const lines: PlannedChange[] = [];
  if (plan.replaces) lines.push({ sign: "~", what: "table: made anew", lines: [] });
  for (const { want, have } of plan.rows) {
    const row = want ?? have;
    if (row === undefined) continue;
    const sign = want === undefined ? "-" : have === undefined ? "+" : "~";
    if (row.type === "table")
      lines.push({ sign, what: "table", lines: row.flags?.map((flag) => `flag ${flag}`) ?? [] });
    else if (row.type === "set") lines.push({ sign, what: `set ${row.set}`, lines: [] });
    else if (row.type === "flowtable") lines.push({ sign, what: `flowtable ${row.flowtable}`, lines: [] });
    else if (row.type === "element")
      lines.push({ sign, what: `element ${row.set} { ${printElement(row.is, row.element)} }`, lines: [] });
    else lines.push({ sign, what: `chain ${row.chain} ${ruleCount(row)}`, lines: chainLines(want, have) });
  }
  for (const { set, is, add, remove } of plan.elements) {
    for (const element of add)
      lines.push({ sign: "+", what: `element ${set} { ${printElement(is, element)} }`, lines: [] });
    for (const element of remove)
      lines.push({ sign: "-", what: `element ${set} { ${printElement(is, element)} }`, lines: [] });
  }
  return lines;
}

function ruleCount({ rules }: ChainRow): string {
  return `(${rules.length} ${rules.length === 1 ? "rule" : "rules"})`;
}

function chainLines(want: RowChange<NftRow>["want"], have: RowChange<NftRow>["have"]): string[] {
  if (want?.type !== "chain") return [];
  const text = (rule: ChainRow["rules"][number]): string =>
    rule === undefined ? "# not one of ours" : printRule(rule);
  const base = want.base === undefined || want.base === "unknown" ? [] : [printBase(want.base)];
  if (have?.type !== "chain") return [...base, ...want.rules.map((rule) => `+ ${text(rule)}`)];
  const rules = want.rules.flatMap((rule) => rule ?? []);
  const { head, tail } = commonEnds(have.rules, rules, equal);
  return [
    ...have.rules.slice(head, have.rules.length - tail).map((rule) => `- ${text(rule)}`),
    ...rules.slice(head, rules.length - tail).map((rule) => `+ ${text(rule)}`),
  ];
}
