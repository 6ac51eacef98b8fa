import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Expr, NftRule } from "../../kernel/nftables/objects.ts";
import { type ChainRow, editOf, NFT_ROWS, sameRow } from "./rows.ts";

const name = fc.constantFrom("a", "b", "c");
const expr: fc.Arbitrary<Expr> = fc.oneof(
  name.map((chain): Expr => ({ op: "verdict", verdict: { type: "jump", chain } })),
  name.map((set): Expr => ({ op: "lookup", set, register: 0, not: false })),
  fc.constant<Expr>({ op: "counter" }),
  fc.constant<Expr>({ op: "verdict", verdict: { type: "return" } }),
);
const rule: fc.Arbitrary<NftRule> = fc.record({
  expressions: fc.array(expr, { maxLength: 2 }),
  comment: fc.constantFrom(undefined, "x"),
});
/** Some rules are the same objects. */
const chains: fc.Arbitrary<readonly [ChainRow, ChainRow]> = fc
  .array(rule, { minLength: 1, maxLength: 4 })
  .chain((rules) => {
    const some = fc.array(fc.oneof(fc.constantFrom(...rules), rule), { maxLength: 5 });
    const row = some.map(rowOf);
    return fc.tuple(row, row);
  });

/** The definition: as many as can be kept in their order. */
function longestCommon({ rules: a }: ChainRow, { rules: b }: ChainRow, i = 0, j = 0): number {
  if (i === a.length || j === b.length) return 0;
  const rest = (k: number, l: number): number => longestCommon(rowOf(a), rowOf(b), k, l);
  return Math.max(
    JSON.stringify(a[i]) === JSON.stringify(b[j]) ? 1 + rest(i + 1, j + 1) : 0,
    rest(i + 1, j),
    rest(i, j + 1),
  );
}

function rowOf(rules: ChainRow["rules"]): ChainRow {
  return { type: "chain", chain: "c", base: undefined, rules };
}

test("an edit makes the one version of a chain of the other, and chains are the same when there is nothing to edit", () => {
  fc.assert(
    fc.property(chains, ([before, now]) => {
      const { hunks, kept, gone, came } = editOf(before, now);
      const { rules } = before;
      let from = 0;
      const made = hunks.flatMap((hunk, i) => {
        const some = rules.slice(from, hunk.at);
        expect(i === 0 || some.length > 0).toBe(true);
        from = hunk.at + hunk.gone;
        return [...some, ...hunk.came];
      });
      expect([...made, ...rules.slice(from)]).toEqual([...now.rules]);
      expect(gone).toEqual(hunks.flatMap((hunk) => rules.slice(hunk.at, hunk.at + hunk.gone)));
      expect(came).toEqual(hunks.flatMap((hunk) => hunk.came));
      expect([kept, kept]).toEqual([rules.length - gone.length, longestCommon(before, now)]);
      const isSame = JSON.stringify(before) === JSON.stringify(now);
      expect([sameRow(before, now), gone.length + came.length === 0]).toEqual([isSame, isSame]);
    }),
  );
});

test("references come and go as a chain as a whole refers to something or does not", () => {
  fc.assert(
    fc.property(chains, ([before, now]) => {
      const [had, has] = [NFT_ROWS.referencesOf(before), NFT_ROWS.referencesOf(now)];
      const { added, removed } = NFT_ROWS.referenceChange(before, now);
      expect([...added].sort()).toEqual(has.filter((each) => !had.includes(each)).sort());
      expect([...removed].sort()).toEqual(had.filter((each) => !has.includes(each)).sort());
      expect(NFT_ROWS.referenceChange(undefined, now)).toEqual({ added: has, removed: [] });
      expect(NFT_ROWS.referenceChange(before, undefined)).toEqual({ added: [], removed: had });
    }),
  );
});
