/** save: what `iptables-save -c` prints, read: all tables of one family and variant with their chains, rules and counters. */
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";
import { type Rule, TABLE_NAMES, type TableName } from "./rule.ts";

export interface SavedRule extends Rule {
  readonly packets: number;
  readonly bytes: number;
}

export type SavedChains = ReadonlyMap<string, readonly SavedRule[]>;

/** By table and chain, those of others too. */
export type Saved = ReadonlyMap<TableName, SavedChains>;

/** So many lines are read in one step. */
const LINES_PER_STEP = 500;

export function parseSave(text: string): Result<Saved, ParseError> {
  const steps = parseSaveInSteps(text);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** As `parseSave`, with the thread given back between. */
export function* parseSaveInSteps(text: string): Generator<undefined, Result<Saved, ParseError>> {
  const tables = new Map<TableName, Map<string, SavedRule[]>>();
  let chains: Map<string, SavedRule[]> | undefined;
  let isOpen = false;
  for (const [i, line] of text.split("\n").entries()) {
    if (i % LINES_PER_STEP === LINES_PER_STEP - 1) yield;
    if (line === "" || line.startsWith("#")) continue;
    const wrong = (wanted: string): Result<Saved, ParseError> =>
      fail({ what: "line of iptables-save", found: line, wanted });
    if (line.startsWith("*")) {
      const table = line.slice(1);
      chains = new Map();
      isOpen = true;
      if (TABLE_NAMES.includes(table as TableName)) tables.set(table as TableName, chains);
      continue;
    }
    if (chains === undefined || !isOpen) return wrong("must be within a table");
    if (line === "COMMIT") {
      isOpen = false;
      continue;
    }
    const chain = /^:(\S+) /.exec(line)?.[1];
    if (chain !== undefined) {
      chains.set(chain, []);
      continue;
    }
    const [, packets, bytes, of = "", rule = ""] = /^(?:\[(\d+):(\d+)\] )?-A (\S+) ?(.*)$/.exec(line) ?? [];
    const rules = chains.get(of);
    if (rules === undefined) return wrong("must be a chain, or a rule of one");
    rules.push({ ...readRule(rule), packets: Number(packets ?? 0), bytes: Number(bytes ?? 0) });
  }
  if (isOpen) return fail({ what: "output of iptables-save", found: text.slice(-60), wanted: "must end with COMMIT" });
  return ok(tables);
}

/** Its target is a chain unless it is in capitals, as the kernel's are. */
export function readRule(text: string): Rule {
  const bare = text.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  const target = /(?:^| )-[jg] (\S+)/.exec(bare)?.[1];
  return {
    text,
    chain: target === undefined || /^[A-Z0-9]+$/.test(target) ? undefined : target,
    sets: [...bare.matchAll(/--match-set (\S+) /g)].flatMap(([, set]) => set ?? []),
  };
}
