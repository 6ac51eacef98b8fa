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
    const row = some.map((list): ChainRow => ({ type: "chain", chain: "c", base: undefined, rules: list }));
    return fc.tuple(row, row);
  });

test("an edit makes the one version of a chain of the other, and chains are the same when there is nothing to edit", () => {
  fc.assert(
    fc.property(chains, ([before, now]) => {
      const { head, tail, gone, came } = editOf(before, now);
      const { rules } = before;
      expect([...rules.slice(0, head), ...came, ...rules.slice(rules.length - tail)]).toEqual([...now.rules]);
      expect(gone).toEqual(rules.slice(head, rules.length - tail));
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
