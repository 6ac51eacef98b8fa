/**
 * Rows: our nf_tables table as keyed rows, the unit of wanting, having and planning: one for the table itself, and one for each
 * chain (with its rules), set and set element.
 */
import { equal } from "../../lib/equal.ts";
import type {
  NftBaseChain,
  NftCommand,
  NftElement,
  NftRule,
  NftSet,
  NftTableFlag,
  NftTableState,
} from "../../kernel/nftables/objects.ts";
import type { Change } from "../tracker.ts";

export type NftRow =
  /** `owner`: us, or the port id of another socket. */
  | {
      readonly type: "table";
      readonly flags: readonly NftTableFlag[] | undefined;
      readonly owner: "us" | number | undefined;
    }
  | { readonly type: "set"; readonly set: string; readonly is: NftSet }
  | { readonly type: "element"; readonly set: string; readonly is: NftSet; readonly element: NftElement }
  | {
      readonly type: "chain";
      readonly chain: string;
      readonly base: NftBaseChain | undefined;
      readonly rules: readonly NftRule[];
    }
  /** Something of our table that we could not have written: it must go, and the table is rebuilt. */
  | { readonly type: "foreign"; readonly what: string };

export const TABLE_ROW = "table";
/** Nobody but us can change it, and it stays when we end. */
export const OWNED: NftRow = { type: "table", flags: ["owner", "persist"], owner: "us" };
/** Anybody can change it. */
export const UNOWNED: NftRow = { type: "table", flags: [], owner: undefined };
/** What is left of an owned one when its owner ends. */
const LEFT: NftRow = { type: "table", flags: ["persist"], owner: undefined };

export function chainId(chain: string): string {
  return `chain ${chain}`;
}

export function setId(set: string): string {
  return `set ${set}`;
}

export function elementId(set: string, element: Pick<NftElement, "key" | "keyEnd">): string {
  return element.keyEnd === undefined
    ? `element ${set} ${element.key}`
    : `element ${set} ${element.key}-${element.keyEnd}`;
}

export function sameRow(a: NftRow, b: NftRow): boolean {
  return equal(a, b);
}

/** What the kernel holds, as rows; `portId` is of our socket. */
export function rowsOfTable(table: NftTableState, portId: number | undefined): Map<string, NftRow> {
  const owner = table.owner !== undefined && table.owner === portId ? "us" : table.owner;
  const rows = new Map<string, NftRow>([[TABLE_ROW, { type: "table", flags: table.flags, owner }]]);
  for (const [name, chain] of table.chains) {
    const rules: NftRule[] = [];
    for (const { rule } of chain.rules) if (rule !== undefined) rules.push(rule);
    if (rules.length !== chain.rules.length)
      rows.set(`foreign chain ${name}`, { type: "foreign", what: `chain ${name}` });
    rows.set(chainId(name), { type: "chain", chain: name, base: chain.base, rules });
  }
  for (const [name, { is, elements }] of table.sets) {
    if (is === undefined) {
      rows.set(`foreign set ${name}`, { type: "foreign", what: `set ${name}` });
      continue;
    }
    rows.set(setId(name), { type: "set", set: name, is });
    for (const element of elements) rows.set(elementId(name, element), { type: "element", set: name, is, element });
  }
  return rows;
}

/** True when the changes cannot be made in place: an unknown object, another type of set or base chain under our name, or a table that cannot be taken as it is. */
export function needsRebuild(changes: readonly Change<NftRow>[]): boolean {
  return changes.some(({ want, have }) => {
    if (have?.type === "foreign") return true;
    if (want === undefined || have === undefined) return false;
    if (want.type === "table") return !sameRow(want, OWNED) || !sameRow(have, LEFT);
    if (want.type === "set" && have.type === "set") return true;
    return want.type === "chain" && have.type === "chain" && !equal(want.base, have.base);
  });
}

/** One transaction: referents are added first and removed last. */
export function planTransaction(changes: readonly Change<NftRow>[]): NftCommand[] {
  const table: NftCommand[] = [];
  const addSets: NftCommand[] = [];
  const addChains: NftCommand[] = [];
  const rules: NftCommand[] = [];
  const flushes: NftCommand[] = [];
  const deleteChains: NftCommand[] = [];
  const deleteSets: NftCommand[] = [];
  const gone = new Map<string, { is: NftSet; elements: NftElement[] }>();
  const come = new Map<string, { is: NftSet; elements: NftElement[] }>();
  const goneSets = new Set<string>();
  for (const { want, have } of changes) {
    if (want === undefined && have?.type === "set") goneSets.add(have.set);
  }
  for (const { want, have } of changes) {
    if (have?.type === "element" && !goneSets.has(have.set)) collect(gone, have.set, have.is, have.element);
    if (want?.type === "element") collect(come, want.set, want.is, want.element);
    if (want?.type === "table") table.push({ do: sameRow(want, OWNED) ? "own-table" : "add-table" });
    if (want?.type === "set") addSets.push({ do: "add-set", set: want.set, is: want.is });
    if (want === undefined && have?.type === "set") deleteSets.push({ do: "delete-set", set: have.set });
    if (want?.type === "chain") {
      if (have === undefined) addChains.push({ do: "add-chain", chain: want.chain, base: want.base });
      else rules.push({ do: "flush-chain", chain: want.chain });
      for (const rule of want.rules) rules.push({ do: "add-rule", chain: want.chain, rule });
    }
    if (want === undefined && have?.type === "chain") {
      flushes.push({ do: "flush-chain", chain: have.chain });
      deleteChains.push({ do: "delete-chain", chain: have.chain });
    }
  }
  const deleteElements = [...gone].map(([set, { is, elements }]): NftCommand => ({
    do: "delete-elements",
    set,
    is,
    elements,
  }));
  const addElements = [...come].map(([set, { is, elements }]): NftCommand => ({
    do: "add-elements",
    set,
    is,
    elements,
  }));
  return [
    ...table,
    ...addSets,
    ...addChains,
    ...deleteElements,
    ...addElements,
    ...rules,
    ...flushes,
    ...deleteChains,
    ...deleteSets,
  ];
}

function collect(
  into: Map<string, { is: NftSet; elements: NftElement[] }>,
  set: string,
  is: NftSet,
  element: NftElement,
): void {
  const entry = into.get(set);
  if (entry === undefined) into.set(set, { is, elements: [element] });
  else entry.elements.push(element);
}
