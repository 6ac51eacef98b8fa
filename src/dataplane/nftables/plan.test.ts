import { expect, test } from "bun:test";
import type { NftRule } from "../../kernel/nftables/objects.ts";
import { commandsOf, costOf } from "./plan.ts";
import type { RowChange } from "../refusals.ts";
import { chainId, type NftRow } from "./rows.ts";

const CHAIN = "cali-tw-1";

function jumpTo(chain: string): NftRule {
  return { expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment: undefined };
}

const DROP: NftRule = {
  expressions: [{ op: "counter" }, { op: "verdict", verdict: { type: "drop" } }],
  comment: "ingress end",
};

function changeOf(have: readonly NftRule[], want: readonly NftRule[]): RowChange<NftRow> {
  const row = (rules: readonly NftRule[]) => ({ type: "chain", chain: CHAIN, base: undefined, rules }) as const;
  const unit = { kind: "endpoint", id: "endpoint 1", object: undefined } as const;
  return { id: chainId(CHAIN), unit, want: row(want), have: row(have) };
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

test("a rule that counts is kept, whatever that takes", () => {
  expect(done([a, DROP], [b, DROP])).toEqual({ words: ["delete-rule", "insert-rule"], reads: 1 });
});

test("many rules are kept", () => {
  expect(done([...many, a], [...many, b])).toEqual({ words: ["delete-rule", "insert-rule"], reads: 1 });
});

test("few rules that count nothing are written anew: that takes less than reading their handles", () => {
  expect(done([a, c], [b, c])).toEqual({ words: ["flush-chain", "add-rule", "add-rule"], reads: 0 });
});

test("to keep rules is estimated to cost less than to write them", () => {
  expect(costOf(changeOf([...many, a], [...many, b]))).toBeLessThan(costOf(changeOf([], [...many, b])));
});
