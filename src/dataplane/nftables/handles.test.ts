import { expect, test } from "bun:test";
import type { NftRule } from "../../kernel/nftables/objects.ts";
import { RuleHandles } from "./handles.ts";
import { commandsOf, type PlannedRow, plannedRow } from "./plan.ts";
import { chainId } from "./rows.ts";

/** A chain of rules `a` to `z` as a kernel keeps it, which tells the handles of those that come unless it is mute. */
class Chain {
  #rules: { readonly name: string; readonly handle: bigint }[] = [];
  #last = 10n;
  reads = 0;
  isOwned = true;
  isMute = false;
  readonly handles = new RuleHandles(
    {
      handlesOf: () => {
        this.reads++;
        return this.#rules.map(({ handle }) => handle);
      },
    },
    () => this.isOwned,
  );

  constructor(names: string) {
    this.#rules = [...names].map((name) => ({ name, handle: this.#last++ }));
  }

  get names(): string {
    return this.#rules.map(({ name }) => name).join("");
  }

  become(names: string): void {
    const change = changeOf(this.names, names);
    const commands = commandsOf(
      { units: [change.unit], rows: [change], elements: [], replaces: false },
      (chain, rules) => this.handles.of(chain, rules),
    );
    const inserted = new Map<number, bigint>();
    for (const [index, { command }] of commands.entries()) {
      if (command.do === "flush-chain") this.#rules = [];
      if (command.do === "delete-rule") this.#rules.splice(this.#placeOf(command.handle), 1);
      if (command.do !== "insert-rule" && command.do !== "add-rule") continue;
      const isAppended = command.do === "add-rule" || command.place === "last";
      const rule = { name: command.rule.comment ?? "", handle: this.#last++ };
      this.#rules.splice(isAppended ? this.#rules.length : this.#placeOf(command.place), 0, rule);
      if (command.do === "insert-rule" && !this.isMute) inserted.set(index, rule.handle);
    }
    this.handles.committed([change], commands, inserted);
  }

  #placeOf(handle: bigint): number {
    const at = this.#rules.findIndex((rule) => rule.handle === handle);
    if (at < 0) throw new Error(`no rule ${handle}`);
    return at;
  }
}

function changeOf(have: string, want: string): PlannedRow {
  const rowOf = (names: string) =>
    ({ type: "chain", chain: "c", base: undefined, rules: [...names].map(ruleOf) }) as const;
  const unit = { kind: "endpoint", id: "endpoint 1", object: undefined } as const;
  return plannedRow({ id: chainId("c"), unit, want: rowOf(want), have: rowOf(have) });
}

function ruleOf(name: string): NftRule {
  return { expressions: [], comment: name };
}

const NAMES = ["acd", "abcd", "abd", "d", "xyd", "xyzd", "d", "de", "fde", "dfe", "edf", "ghedifj", "hgdeij"];

test("the handles of a chain are read once, and known from then on", () => {
  const chain = new Chain("abcd");
  for (const names of NAMES) {
    chain.become(names);
    expect([chain.names, chain.reads]).toEqual([names, 1]);
  }
});

test("they are read for each edit where others may change the table, and again where the kernel does not tell them", () => {
  for (const how of ["isOwned", "isMute"] as const) {
    const chain = new Chain("abcd");
    chain[how] = how === "isMute";
    for (const names of NAMES) {
      chain.become(names);
      expect(chain.names).toBe(names);
    }
    expect(chain.reads).toBeGreaterThan(how === "isMute" ? 4 : NAMES.length - 1);
  }
});

test("what a refused transaction has read counts where nobody else can change it, and nowhere else", () => {
  for (const isOwned of [true, false]) {
    const chain = new Chain("abcd");
    chain.isOwned = isOwned;
    for (let i = 0; i < 3; i++) expect(chain.handles.of("c", 4)).toEqual([10n, 11n, 12n, 13n]);
    expect(chain.reads).toBe(isOwned ? 1 : 3);
    expect(chain.handles.of("c", 3)).toBeUndefined();
  }
});

test("of a chain that is written whole all is known, unless the kernel does not tell; of one that is forgotten, or of a table that becomes ours, nothing", () => {
  const chain = new Chain("abcd");
  chain.become("abd");
  chain.become("xyz");
  chain.become("xz");
  expect([chain.names, chain.reads]).toEqual(["xz", 1]);
  chain.handles.forget("c");
  chain.become("xyz");
  expect([chain.names, chain.reads]).toEqual(["xyz", 2]);
  chain.handles.clear();
  chain.isOwned = false;
  chain.become("xz");
  chain.isOwned = true;
  chain.become("xyz");
  expect([chain.names, chain.reads]).toEqual(["xyz", 4]);
  chain.isMute = true;
  chain.become("abc");
  chain.isMute = false;
  chain.become("ab");
  expect([chain.names, chain.reads]).toEqual(["ab", 5]);
});
