/**
 * Transaction: the commands of one batch, done one after another on the tables, each of them reversible, so that all or none remain.
 *
 * What a command deletes is gone for those after it, and what it adds is there, as in the kernel's next generation.
 * Source: linux net/netfilter/nf_tables_api.c.
 */
import { EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP, EPERM } from "../../errno.ts";
import type { Message } from "../../netlink/reader.ts";
import { NLM_F_EXCL, NLM_F_REPLACE } from "../../netlink/writer.ts";
import {
  HOOKS,
  NFGENMSG,
  NFT_MSG_DELCHAIN,
  NFT_MSG_DELRULE,
  NFT_MSG_DELSET,
  NFT_MSG_DELSETELEM,
  NFT_MSG_DELTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_MSG_NEWTABLE,
  NFTA_ANY_TABLE,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TYPE,
  NFTA_HOOK_HOOKNUM,
  NFTA_HOOK_PRIORITY,
  NFTA_TABLE_FLAGS,
} from "../../nftables/wire.ts";
import type { FakeRequest, KernelFaults } from "../faults.ts";
import type { Part } from "../messages.ts";
import { refuse, required, unmodelled } from "../refusal.ts";
import { chainBody, tableBody } from "./bodies.ts";
import { type Attributes, chainAt, type Command, nameAt } from "./command.ts";
import { type FakeBase, type FakeChain, type FakeTable, TABLE_DORMANT, TABLE_OWNER, TABLE_PERSIST } from "./objects.ts";
import { addRule, deleteChain, deleteRule, deleteRules, deleteSetsOf } from "./references.ts";
import { addElements, addSet, deleteElements, deleteSet } from "./set-commands.ts";

export class Transaction {
  readonly #tables: FakeTable[];
  readonly #portId: number;
  readonly #ownsTables: boolean;
  readonly #faults: KernelFaults;
  readonly #undo: (() => void)[] = [];
  readonly generation: number;
  /** What subscribers hear of it. */
  readonly told: Part[] = [];
  /** Whether a jump or a map's verdict was added: then the chains must be looked at. */
  jumps = false;
  readonly #nextHandle: () => number;

  constructor(options: {
    readonly tables: FakeTable[];
    readonly portId: number;
    readonly ownsTables: boolean;
    readonly faults: KernelFaults;
    readonly generation: number;
    readonly nextHandle: () => number;
  }) {
    this.#tables = options.tables;
    this.#portId = options.portId;
    this.#ownsTables = options.ownsTables;
    this.#faults = options.faults;
    this.generation = options.generation;
    this.#nextHandle = options.nextHandle;
  }

  get isEmpty(): boolean {
    return this.told.length === 0;
  }

  /** Something was done that `undo` takes back; `part` tells of it. */
  did(undo: () => void, part: Part): void {
    this.#undo.push(undo);
    this.told.push(part);
  }

  abort(): void {
    for (const undo of this.#undo.reverse()) undo();
    this.#undo.length = 0;
    this.told.length = 0;
  }

  ask(does: FakeRequest["does"], object: string): void {
    const errno = this.#faults.request?.({ subsystem: "nftables", does, object });
    if (errno !== undefined) refuse(errno);
  }

  limitOf(set: string): number | undefined {
    return this.#faults.setLimit?.(set);
  }

  /** Throws Refusal. */
  run(message: Message): void {
    const family = required(message.body.u8());
    const attributes = required(message.body.after(NFGENMSG)?.attributes());
    const name = nameAt(attributes, NFTA_ANY_TABLE);
    if (message.type === NFT_MSG_NEWTABLE) return this.#newTable(family, name, attributes, message.flags);
    const table = this.#find(family, name) ?? refuse(ENOENT);
    if (message.type === NFT_MSG_DELTABLE) return this.#deleteTable(table);
    const command: Command = { table, attributes, flags: message.flags, transaction: this };
    const run = COMMANDS.get(message.type) ?? unmodelled(`nf_tables message ${message.type & 255}`);
    run(command);
  }

  /** EPERM for a table that another socket owns. */
  #find(family: number, name: string): FakeTable | undefined {
    const table = this.#tables.find((one) => one.family === family && one.name === name);
    if (table !== undefined && (table.flags & TABLE_OWNER) !== 0 && table.owner !== this.#portId) refuse(EPERM);
    return table;
  }

  #newTable(family: number, name: string, attributes: Attributes, flags: number): void {
    const asked = attributes.get(NFTA_TABLE_FLAGS)?.u32Be();
    const known = this.#ownsTables ? TABLE_DORMANT | TABLE_OWNER | TABLE_PERSIST : TABLE_DORMANT;
    this.ask("add", `table ${name}`);
    const there = this.#find(family, name);
    if (there !== undefined) {
      if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
      if ((flags & NLM_F_REPLACE) !== 0) refuse(EOPNOTSUPP);
      if (asked !== undefined) this.#updateTable(there, asked, known);
      return;
    }
    if (((asked ?? 0) & ~known) !== 0) refuse(EOPNOTSUPP);
    const table: FakeTable = {
      family,
      name,
      handle: this.#nextHandle(),
      flags: asked ?? 0,
      owner: ((asked ?? 0) & TABLE_OWNER) === 0 ? undefined : this.#portId,
      chains: new Map(),
      sets: new Map(),
      handles: 0,
    };
    this.#tables.push(table);
    this.did(() => void this.#tables.splice(this.#tables.indexOf(table), 1), {
      type: NFT_MSG_NEWTABLE,
      body: tableBody(table, this.generation),
    });
  }

  /** nf_tables_updtable. */
  #updateTable(table: FakeTable, asked: number, known: number): void {
    if ((asked & ~known) !== 0) refuse(EOPNOTSUPP);
    if (asked === table.flags) return;
    const isOrphan = (table.flags & (TABLE_OWNER | TABLE_PERSIST)) === TABLE_PERSIST;
    const loses = (table.flags & TABLE_OWNER) !== 0 && (asked & TABLE_OWNER) === 0;
    const takes = (asked & TABLE_OWNER) !== 0 && !isOrphan;
    if (loses || takes || ((asked ^ table.flags) & TABLE_PERSIST) !== 0) refuse(EOPNOTSUPP);
    const { flags, owner } = table;
    table.flags = asked;
    if ((asked & TABLE_OWNER) !== 0) table.owner = this.#portId;
    const undo = (): void => {
      table.flags = flags;
      table.owner = owner;
    };
    this.did(undo, { type: NFT_MSG_NEWTABLE, body: tableBody(table, this.generation) });
  }

  /** With everything in it, whatever refers to what. */
  #deleteTable(table: FakeTable): void {
    this.ask("delete", `table ${table.name}`);
    for (const chain of table.chains.values()) deleteRules(this, table, chain);
    deleteSetsOf(this, table);
    for (const chain of table.chains.values()) deleteChain(this, table, chain);
    const at = this.#tables.indexOf(table);
    this.#tables.splice(at, 1);
    this.did(() => void this.#tables.splice(at, 0, table), {
      type: NFT_MSG_DELTABLE,
      body: tableBody(table, this.generation),
    });
  }
}

const COMMANDS: ReadonlyMap<number, (command: Command) => void> = new Map([
  [NFT_MSG_NEWCHAIN, addChain],
  [NFT_MSG_DELCHAIN, deleteChainCommand],
  [NFT_MSG_NEWRULE, addRule],
  [NFT_MSG_DELRULE, deleteRulesCommand],
  [NFT_MSG_NEWSET, addSet],
  [NFT_MSG_DELSET, deleteSet],
  [NFT_MSG_NEWSETELEM, addElements],
  [NFT_MSG_DELSETELEM, deleteElements],
]);

function addChain({ table, attributes, flags, transaction }: Command): void {
  const name = nameAt(attributes, NFTA_CHAIN_NAME);
  transaction.ask("add", `chain ${name}`);
  const base = baseOf(attributes);
  const there = table.chains.get(name);
  if (there !== undefined) {
    if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
    if ((flags & NLM_F_REPLACE) !== 0) refuse(EOPNOTSUPP);
    return updateChain(transaction, table, there, base);
  }
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

function deleteChainCommand(command: Command): void {
  const chain = chainAt(command, NFTA_CHAIN_NAME);
  const { table, transaction } = command;
  transaction.ask("delete", `chain ${chain.name}`);
  // Counted before its own rules have gone: one that leads back here is in the way too.
  const isReferred = chain.references > 0;
  deleteRules(transaction, table, chain);
  if (isReferred) refuse(EBUSY);
  deleteChain(transaction, table, chain);
}

const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_HANDLE = 3;

function deleteRulesCommand(command: Command): void {
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
