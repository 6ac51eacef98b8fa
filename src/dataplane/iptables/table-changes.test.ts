import { expect, test } from "bun:test";
import { formatRestore } from "../../kernel/iptables/restore.ts";
import { type Rule, makeRule } from "../../kernel/iptables/rule.ts";
import { restUnit } from "../units.ts";
import type { IptRow } from "./rows.ts";
import { editOf, tableChanges } from "./table-changes.ts";

function rules(...chains: readonly string[]): Rule[] {
  return chains.map((chain) => makeRule({}, { do: "jump", chain }));
}

const LONG = ["cali-a", "cali-b", "cali-c", "cali-d", "cali-e", "cali-f"];

test("what comes and goes in the middle of a chain is an edit at its place", () => {
  const want = rules("cali-a", "cali-b", "cali-x", "cali-y", "cali-d", "cali-e", "cali-f");
  expect(editOf(rules(...LONG), want)).toEqual({ removed: rules("cali-c"), at: 3, added: rules("cali-x", "cali-y") });
  expect(editOf(rules(...LONG), rules(...LONG, "cali-x"))).toEqual({ removed: [], at: 7, added: rules("cali-x") });
  expect(editOf(rules(...LONG), rules(...LONG.slice(1)))).toEqual({ removed: rules("cali-a"), at: 1, added: [] });
});

test("a chain of which much changes, or a rule that is there twice, is written anew", () => {
  expect(editOf(rules("cali-a"), rules("cali-b"))).toBeUndefined();
  expect(editOf(rules(...LONG), rules("cali-1", "cali-2", "cali-3", "cali-d", "cali-e", "cali-f"))).toBeUndefined();
  expect(editOf(rules("cali-a", ...LONG, "cali-a"), rules("cali-a", ...LONG))).toBeUndefined();
});

test("chains are edited only where they are what they are known to be", () => {
  const row = (list: readonly Rule[]): IptRow => ({
    type: "chain",
    family: 4,
    table: "filter",
    chain: "cali-x",
    rules: list,
  });
  const change = {
    id: "chain 4 filter cali-x",
    unit: restUnit("x"),
    have: row(rules(...LONG)),
    want: row(rules(...LONG, "cali-z")),
  };
  expect(formatRestore(tableChanges([change], true)).text).toBe("*filter\n-I cali-x 7 -j cali-z\nCOMMIT\n");
  expect(formatRestore(tableChanges([change], false)).text).toStartWith(
    "*filter\n:cali-x - [0:0]\n-A cali-x -j cali-a\n",
  );
});
