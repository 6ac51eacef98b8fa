/** Commands on chains and what is in them. Source: linux net/netfilter/nf_tables_api.c, nf_tables_newchain, nf_tables_delchain, nf_tables_delrule. */
import { EBUSY, EEXIST, EINVAL, EOPNOTSUPP } from "../../errno.ts";
import { NLM_F_EXCL, NLM_F_REPLACE } from "../../netlink/writer.ts";
import {
  HOOKS,
  NFT_MSG_NEWCHAIN,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TYPE,
  NFTA_HOOK_HOOKNUM,
  NFTA_HOOK_PRIORITY,
  NFTA_RULE_CHAIN,
  NFTA_RULE_HANDLE,
} from "../../nftables/wire.ts";
import { refuse, required, unmodelled } from "../refusal.ts";
import { chainBody } from "./bodies.ts";
import { type Attributes, chainAt, type Command, nameAt } from "./command.ts";
import type { FakeBase, FakeChain, FakeTable } from "./objects.ts";
import { deleteChain, deleteRule, deleteRules } from "./references.ts";
import type { Transaction } from "./transaction.ts";

export function addChain({ table, attributes, flags, transaction }: Command): void {
  const name = nameAt(attributes, NFTA_CHAIN_NAME);
  transaction.ask("add", `chain ${name}`);
  const base = baseOf(attributes);
  const there = table.chains.get(name);
  if (there !== undefined) {
    if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
    if ((flags & NLM_F_REPLACE) !== 0) refuse(EOPNOTSUPP);
    return updateChain(transaction, table, there, base);
  }
  if (base !== undefined && transaction.updated.has(table)) refuse(EINVAL);
  const chain: FakeChain = { name, handle: ++table.handles, base, rules: [], references: 0 };
  table.chains.set(name, chain);
  transaction.did(() => void table.chains.delete(name), {
    type: NFT_MSG_NEWCHAIN,
    body: chainBody(table, chain, transaction.generation),
  });
}

/** nf_tables_updchain: the policy of a base chain, and nothing else. A chain that is no base chain has no policy. */
function updateChain(transaction: Transaction, table: FakeTable, chain: FakeChain, base: FakeBase | undefined): void {
  if (base === undefined) return;
  const there = chain.base;
  if (there === undefined || there.hook !== base.hook || there.priority !== base.priority || there.type !== base.type)
    return refuse(EOPNOTSUPP);
  const { policy } = there;
  there.policy = base.policy;
  transaction.did(() => void (there.policy = policy), {
    type: NFT_MSG_NEWCHAIN,
    body: chainBody(table, chain, transaction.generation),
  });
}

function baseOf(attributes: Attributes): FakeBase | undefined {
  const hook = attributes.get(NFTA_CHAIN_HOOK)?.attributes();
  if (hook === undefined) return undefined;
  const type = attributes.get(NFTA_CHAIN_TYPE)?.text() ?? "filter";
  if (type !== "filter" && type !== "nat") unmodelled(`base chains of type ${type}`);
  const number = required(hook.get(NFTA_HOOK_HOOKNUM)?.u32Be());
  if (number >= HOOKS.length) refuse(EINVAL);
  const policy = attributes.get(NFTA_CHAIN_POLICY)?.u32Be() ?? 1;
  if (policy > 1) refuse(EINVAL);
  return { hook: number, priority: required(hook.get(NFTA_HOOK_PRIORITY)?.i32Be()), type, policy };
}

export function deleteChainCommand(command: Command): void {
  const chain = chainAt(command, NFTA_CHAIN_NAME);
  const { table, transaction } = command;
  transaction.ask("delete", `chain ${chain.name}`);
  // Counted before its own rules have gone: one that leads back here is in the way too.
  const isReferred = chain.references > 0;
  deleteRules(transaction, table, chain);
  if (isReferred) refuse(EBUSY);
  deleteChain(transaction, table, chain);
}

export function deleteRulesCommand(command: Command): void {
  const { table, attributes, transaction } = command;
  const handle = attributes.get(NFTA_RULE_HANDLE)?.u64Be();
  if (handle !== undefined) {
    const chain = chainAt(command, NFTA_RULE_CHAIN);
    transaction.ask("delete", `rules of ${chain.name}`);
    return deleteRule(transaction, table, chain, handle);
  }
  const chains = attributes.has(NFTA_RULE_CHAIN) ? [chainAt(command, NFTA_RULE_CHAIN)] : [...table.chains.values()];
  for (const chain of chains) {
    transaction.ask("delete", `rules of ${chain.name}`);
    deleteRules(transaction, table, chain);
  }
}
