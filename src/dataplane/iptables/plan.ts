/** plan: changes of rows and sets as lines for people, in the words of iptables. */
import type { PlannedChange } from "../driver.ts";
import type { RowChange } from "../refusals.ts";
import type { IptRow } from "./rows.ts";

/** Of one set. */
export interface MembersPlan {
  readonly set: string;
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

export function describeChanges(
  changes: readonly RowChange<IptRow>[],
  sets: readonly MembersPlan[],
): readonly PlannedChange[] {
  return [
    ...changes.map(({ want, have }): PlannedChange => {
      const sign = want === undefined ? "-" : have === undefined ? "+" : "~";
      const row = want ?? have;
      return { sign, what: row === undefined ? "" : describe(row), lines: difference(have, want) };
    }),
    ...sets.flatMap(({ set, added, removed }) => [
      ...added.map((element): PlannedChange => ({ sign: "+", what: `element ${set} ${element}`, lines: [] })),
      ...removed.map((element): PlannedChange => ({ sign: "-", what: `element ${set} ${element}`, lines: [] })),
    ]),
  ];
}

function describe(row: IptRow): string {
  switch (row.type) {
    case "set":
      return `set ${row.set}`;
    case "member":
      return `element ${row.set} ${row.member}`;
    case "chain":
      return `chain ${row.table} ${row.chain} of IPv${row.family} (${row.rules.length} rules)`;
    case "jump":
      return `jump from ${row.table} ${row.builtIn} of IPv${row.family}`;
  }
}

function difference(have: IptRow | undefined, want: IptRow | undefined): string[] {
  const before = textsOf(have);
  const now = textsOf(want);
  const head = now.findIndex((text, i) => text !== before[i]);
  const from = head < 0 ? Math.min(before.length, now.length) : head;
  return [...before.slice(from).map((text) => `- ${text}`), ...now.slice(from).map((text) => `+ ${text}`)];
}

function textsOf(row: IptRow | undefined): readonly string[] {
  return row?.type === "chain" || row?.type === "jump" ? row.rules.map(({ text }) => text) : [];
}
