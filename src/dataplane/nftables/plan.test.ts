import { expect, test } from "bun:test";
import type { NftRule } from "../../kernel/nftables/objects.ts";
import { commandsOf, costOf, type PlannedRow, plannedRow } from "./plan.ts";
import { chainId } from "./rows.ts";

const CHAIN = "cali-tw-1";

function jumpTo(chain: string): NftRule {
  return { expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment: undefined };
}

const DROP: NftRule = {
  expressions: [{ op: "counter" }, { op: "verdict", verdict: { type: "drop" } }],
  comment: "ingress end",
};

function changeOf(have: readonly NftRule[], want: readonly NftRule[]): PlannedRow {
  const row = (rules: readonly NftRule[]) => ({ type: "chain", chain: CHAIN, base: undefined, rules }) as const;
  const unit = { kind: "endpoint", id: "endpoint 1", object: undefined } as const;
  return plannedRow({ id: chainId(CHAIN), unit, want: row(want), have: row(have) });
}

/** What is done, and how often the handles of the chain are read. */
function done(
  have: readonly NftRule[],
  want: readonly NftRule[],
): { readonly words: string[]; readonly reads: number } {
  const change = changeOf(have, want);
  let reads = 0;
  const handlesOf = (): bigint[] => {
    reads++;
    return have.map((_, i) => BigInt(i));
  };
  const commands = commandsOf({ units: [change.unit], rows: [change], elements: [], replaces: false }, handlesOf);
  return { words: commands.map(({ command }) => command.do), reads };
}

const [a, b, c] = ["a", "b", "c"].map(jumpTo) as [NftRule, NftRule, NftRule];
const many = Array.from({ length: 20 }, (_, i) => jumpTo(`p${i}`));

test("what two versions of a chain have in common stays, and the rest is single rules", () => {
  expect(done([a, DROP], [b, DROP])).toEqual({ words: ["delete-rule", "insert-rule"], reads: 1 });
  expect(done([...many, a], [...many, b])).toEqual({ words: ["delete-rule", "insert-rule"], reads: 1 });
  expect(done([a, c], [b, c])).toEqual({ words: ["delete-rule", "insert-rule"], reads: 1 });
  expect(done([a], [a, b, c])).toEqual({ words: ["insert-rule", "insert-rule"], reads: 1 });
  expect(done([a, b, c], [c])).toEqual({ words: ["delete-rule", "delete-rule"], reads: 1 });
  // Two that change places are one that goes elsewhere.
  expect(done([a, b], [b, a])).toEqual({ words: ["delete-rule", "insert-rule"], reads: 1 });
  expect(done([a, b, c, DROP], [c, a, b, DROP])).toEqual({ words: ["delete-rule", "insert-rule"], reads: 1 });
});

test("a chain that keeps nothing, or has not the rules that we believe, is written anew", () => {
  expect(done([a, b], [c])).toEqual({ words: ["flush-chain", "insert-rule"], reads: 0 });
  const change = changeOf([a, b], [a]);
  const plan = { units: [change.unit], rows: [change], elements: [], replaces: false };
  expect(commandsOf(plan, () => undefined).map(({ command }) => command.do)).toEqual(["flush-chain", "insert-rule"]);
});

test("of a chain that is written whole the kernel tells the handles if it is an endpoint's, which will be edited", () => {
  const change = changeOf([], [a, b]);
  const unit = { kind: "policy", id: "policy 1", object: undefined } as const;
  const wordsOf = (row: PlannedRow): string[] =>
    commandsOf({ units: [row.unit], rows: [row], elements: [], replaces: false }, () => undefined).map(
      ({ command }) => command.do,
    );
  expect(wordsOf(change)).toEqual(["insert-rule", "insert-rule"]);
  expect(wordsOf({ ...change, unit })).toEqual(["add-rule", "add-rule"]);
});

test("rules are taken out of all chains before any comes, so that what the kernel tells of those stays together", () => {
  const rows = [changeOf([a, c], [b, c]), changeOf([b, c], [a, c])];
  const [first] = rows;
  if (first === undefined) throw new Error("no rows");
  const plan = { units: [first.unit], rows, elements: [], replaces: false };
  const commands = commandsOf(plan, () => [1n, 2n]);
  expect(commands.map(({ command }) => command.do)).toEqual([
    "delete-rule",
    "delete-rule",
    "insert-rule",
    "insert-rule",
  ]);
});

test("to keep rules is estimated to cost less than to write them", () => {
  expect(costOf(changeOf([...many, a], [...many, b]))).toBeLessThan(costOf(changeOf([], [...many, b])));
});
