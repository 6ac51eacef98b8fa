/** References: rules, and who refers to which chain or set: what is referred to cannot be deleted (EBUSY). */
import { EBUSY, EINVAL, ENOENT } from "../../errno.ts";
import { NLM_F_APPEND, NLM_F_CREATE } from "../../netlink/writer.ts";
import {
  NFT_MSG_DELCHAIN,
  NFT_MSG_DELRULE,
  NFT_MSG_DELSET,
  NFT_MSG_NEWRULE,
  NFTA_RULE_CHAIN,
  NFTA_RULE_EXPRESSIONS,
  NFTA_RULE_HANDLE,
  NFTA_RULE_POSITION,
  NFTA_RULE_USERDATA,
} from "../../nftables/wire.ts";
import { EMLINK, refuse, unmodelled } from "../refusal.ts";
import { chainBody, ruleBody, setBody } from "./bodies.ts";
import { chainAt, type Command } from "./command.ts";
import type { FakeElement } from "./elements.ts";
import { parseExpressions } from "./expressions.ts";
import type { FakeChain, FakeRule, FakeSet, FakeTable } from "./objects.ts";
import type { Transaction } from "./transaction.ts";
import type { FakeVerdict } from "./values.ts";

/** Counts (1) or forgets (-1) that a verdict leads to a chain. */
export function refer(table: FakeTable, verdict: FakeVerdict | undefined, by: 1 | -1): void {
  const chain = verdict?.chain === undefined ? undefined : table.chains.get(verdict.chain);
  if (chain !== undefined) chain.references += by;
}

function referByRule(table: FakeTable, rule: FakeRule, by: 1 | -1): void {
  for (const { set, flowtable, verdict } of rule.expressions) {
    refer(table, verdict, by);
    const offloads = flowtable === undefined ? undefined : table.flowtables.get(flowtable);
    if (offloads !== undefined) offloads.references += by;
    const used = set === undefined ? undefined : table.sets.get(set);
    if (used !== undefined) used.references += by;
  }
}

export function addRule(command: Command): void {
  const { table, attributes, flags, transaction } = command;
  const chain = chainAt(command, NFTA_RULE_CHAIN);
  transaction.ask("add", `rules of ${chain.name}`);
  if (attributes.has(NFTA_RULE_HANDLE)) unmodelled("rules in place of another");
  if ((flags & NLM_F_CREATE) === 0) refuse(EINVAL);
  const rule: FakeRule = {
    handle: ++table.handles,
    expressions: parseExpressions(attributes.get(NFTA_RULE_EXPRESSIONS), table),
    userdata: attributes.get(NFTA_RULE_USERDATA)?.copy(),
    packets: 0n,
    bytes: 0n,
  };
  const position = attributes.get(NFTA_RULE_POSITION)?.u64Be();
  const appends = (flags & NLM_F_APPEND) !== 0;
  const at = position === undefined ? (appends ? chain.rules.length : 0) : placeOf(chain, position) + Number(appends);
  chain.rules.splice(at, 0, rule);
  referByRule(table, rule, 1);
  transaction.jumps ||= rule.expressions.some(({ set, verdict }) => set !== undefined || verdict?.chain !== undefined);
  const undo = (): void => {
    referByRule(table, rule, -1);
    chain.rules.splice(chain.rules.indexOf(rule), 1);
  };
  transaction.did(undo, { type: NFT_MSG_NEWRULE, body: ruleBody(table, chain, rule, transaction.generation) });
}

/** Index of the rule with that handle; ENOENT when there is none. */
function placeOf(chain: FakeChain, handle: bigint): number {
  const at = chain.rules.findIndex((rule) => BigInt(rule.handle) === handle);
  return at < 0 ? refuse(ENOENT) : at;
}

export function deleteRule(transaction: Transaction, table: FakeTable, chain: FakeChain, handle: bigint): void {
  const at = placeOf(chain, handle);
  const [rule] = chain.rules.splice(at, 1);
  if (rule === undefined) return;
  referByRule(table, rule, -1);
  const undo = (): void => {
    chain.rules.splice(at, 0, rule);
    referByRule(table, rule, 1);
  };
  transaction.did(undo, { type: NFT_MSG_DELRULE, body: ruleBody(table, chain, rule, transaction.generation) });
}

export function deleteRules(transaction: Transaction, table: FakeTable, chain: FakeChain): void {
  for (const rule of chain.rules.slice()) {
    chain.rules.shift();
    referByRule(table, rule, -1);
    const undo = (): void => {
      chain.rules.unshift(rule);
      referByRule(table, rule, 1);
    };
    transaction.did(undo, { type: NFT_MSG_DELRULE, body: ruleBody(table, chain, rule, transaction.generation) });
  }
}

/** Its rules are gone already, and nothing leads here. */
export function deleteChain(transaction: Transaction, table: FakeTable, chain: FakeChain): void {
  const order = [...table.chains];
  table.chains.delete(chain.name);
  transaction.did(() => restore(table.chains, order), {
    type: NFT_MSG_DELCHAIN,
    body: chainBody(table, chain, transaction.generation),
  });
}

/** EBUSY while a rule looks things up in it. */
export function removeSet(transaction: Transaction, table: FakeTable, set: FakeSet): void {
  if (set.references > 0) refuse(EBUSY);
  const order = [...table.sets];
  const elements: readonly FakeElement[] = [...set.elements.all()];
  table.sets.delete(set.name);
  for (const { verdict } of elements) refer(table, verdict, -1);
  const undo = (): void => {
    restore(table.sets, order);
    for (const { verdict } of elements) refer(table, verdict, 1);
  };
  transaction.did(undo, { type: NFT_MSG_DELSET, body: setBody(table, set, transaction.generation) });
}

export function deleteSetsOf(transaction: Transaction, table: FakeTable): void {
  for (const set of table.sets.values()) removeSet(transaction, table, set);
}

function restore<V>(map: Map<string, V>, order: readonly (readonly [string, V])[]): void {
  map.clear();
  for (const [name, value] of order) map.set(name, value);
}

/** NFT_JUMP_STACK_SIZE. */
const DEEPEST = 16;

/** nft_table_validate: how deep the chains of a table lead into one another, from base chains on. EMLINK when too deep, which a loop is too. */
export function validate(table: FakeTable): void {
  const depths = new Map<string, number | "open">();
  const depthOf = (chain: FakeChain): number => {
    const known = depths.get(chain.name);
    if (known === "open") return refuse(EMLINK);
    if (known !== undefined) return known;
    depths.set(chain.name, "open");
    let deepest = 0;
    for (const name of leadsTo(table, chain)) {
      const next = table.chains.get(name) ?? refuse(ENOENT);
      deepest = Math.max(deepest, depthOf(next) + 1);
    }
    if (deepest >= DEEPEST) refuse(EMLINK);
    depths.set(chain.name, deepest);
    return deepest;
  };
  for (const chain of table.chains.values()) if (chain.base !== undefined) depthOf(chain);
}

function leadsTo(table: FakeTable, chain: FakeChain): string[] {
  const names: string[] = [];
  for (const { expressions } of chain.rules) {
    for (const { set, verdict } of expressions) {
      if (verdict?.chain !== undefined) names.push(verdict.chain);
      for (const { verdict: found } of (set === undefined ? undefined : table.sets.get(set))?.elements.all() ?? [])
        if (found?.chain !== undefined) names.push(found.chain);
    }
  }
  return names;
}
