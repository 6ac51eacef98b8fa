/** Commands: the messages of a batch, each done by what knows its objects; those on tables here. Source: linux net/netfilter/nf_tables_api.c. */
import { EEXIST, EINVAL, ENOENT, EOPNOTSUPP, EPERM } from "../../errno.ts";
import type { Message } from "../../netlink/reader.ts";
import { NLM_F_EXCL, NLM_F_REPLACE } from "../../netlink/writer.ts";
import {
  NFGENMSG,
  NFT_MSG_DELCHAIN,
  NFT_MSG_DELFLOWTABLE,
  NFT_MSG_DELRULE,
  NFT_MSG_DELSET,
  NFT_MSG_DELSETELEM,
  NFT_MSG_DELTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWFLOWTABLE,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_MSG_NEWTABLE,
  NFTA_ANY_TABLE,
  NFTA_TABLE_FLAGS,
} from "../../nftables/wire.ts";
import { refuse, required, unmodelled } from "../refusal.ts";
import { tableBody } from "./bodies.ts";
import { addChain, deleteChainCommand, deleteRulesCommand } from "./chain-commands.ts";
import { type Attributes, type Command, nameAt } from "./command.ts";
import { addFlowtable, deleteFlowtable, removeFlowtable } from "./flowtable-commands.ts";
import { type FakeTable, TABLE_DORMANT, TABLE_OWNER, TABLE_PERSIST } from "./objects.ts";
import { addRule, deleteChain, deleteRules, deleteSetsOf } from "./references.ts";
import { addElements, addSet, deleteElements, deleteSet } from "./set-commands.ts";
import type { Transaction } from "./transaction.ts";

const COMMANDS: ReadonlyMap<number, (command: Command) => void> = new Map([
  [NFT_MSG_NEWCHAIN, addChain],
  [NFT_MSG_DELCHAIN, deleteChainCommand],
  [NFT_MSG_NEWRULE, addRule],
  [NFT_MSG_DELRULE, deleteRulesCommand],
  [NFT_MSG_NEWFLOWTABLE, addFlowtable],
  [NFT_MSG_DELFLOWTABLE, deleteFlowtable],
  [NFT_MSG_NEWSET, addSet],
  [NFT_MSG_DELSET, deleteSet],
  [NFT_MSG_NEWSETELEM, addElements],
  [NFT_MSG_DELSETELEM, deleteElements],
]);

/** Throws Refusal. */
export function runCommand(transaction: Transaction, message: Message): void {
  const family = required(message.body.u8());
  const attributes = required(message.body.after(NFGENMSG)?.attributes());
  const name = nameAt(attributes, NFTA_ANY_TABLE);
  if (message.type === NFT_MSG_NEWTABLE) return newTable(transaction, family, name, attributes, message.flags);
  const table = find(transaction, family, name) ?? refuse(ENOENT);
  if (message.type === NFT_MSG_DELTABLE) return deleteTable(transaction, table);
  const command: Command = { table, attributes, flags: message.flags, transaction };
  const run = COMMANDS.get(message.type) ?? unmodelled(`nf_tables message ${message.type & 255}`);
  run(command);
}

/** EPERM for a table that another socket owns. */
function find({ tables, portId }: Transaction, family: number, name: string): FakeTable | undefined {
  const table = tables.find((one) => one.family === family && one.name === name);
  if (table !== undefined && (table.flags & TABLE_OWNER) !== 0 && table.owner !== portId) refuse(EPERM);
  return table;
}

function newTable(transaction: Transaction, family: number, name: string, attributes: Attributes, flags: number): void {
  const asked = attributes.get(NFTA_TABLE_FLAGS)?.u32Be();
  const known = transaction.ownsTables ? TABLE_DORMANT | TABLE_OWNER | TABLE_PERSIST : TABLE_DORMANT;
  transaction.ask("add", `table ${name}`);
  const there = find(transaction, family, name);
  if (there !== undefined) {
    if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
    if ((flags & NLM_F_REPLACE) !== 0) refuse(EOPNOTSUPP);
    if (asked !== undefined) updateTable(transaction, there, asked, known);
    return;
  }
  if (((asked ?? 0) & ~known) !== 0) refuse(EOPNOTSUPP);
  const table: FakeTable = {
    family,
    name,
    handle: transaction.nextHandle(),
    flags: asked ?? 0,
    owner: ((asked ?? 0) & TABLE_OWNER) === 0 ? undefined : transaction.portId,
    chains: new Map(),
    sets: new Map(),
    flowtables: new Map(),
    handles: 0,
  };
  transaction.tables.push(table);
  transaction.did(() => void transaction.tables.splice(transaction.tables.indexOf(table), 1), {
    type: NFT_MSG_NEWTABLE,
    body: tableBody(table, transaction.generation),
  });
}

/** nf_tables_updtable. */
function updateTable(transaction: Transaction, table: FakeTable, asked: number, known: number): void {
  if ((asked & ~known) !== 0) refuse(EOPNOTSUPP);
  if (asked === table.flags) return;
  const isOrphan = (table.flags & (TABLE_OWNER | TABLE_PERSIST)) === TABLE_PERSIST;
  const loses = (table.flags & TABLE_OWNER) !== 0 && (asked & TABLE_OWNER) === 0;
  const takes = (asked & TABLE_OWNER) !== 0 && !isOrphan;
  if (loses || takes || ((asked ^ table.flags) & TABLE_PERSIST) !== 0) refuse(EOPNOTSUPP);
  if (transaction.updated.has(table)) refuse(EINVAL);
  transaction.updated.add(table);
  const { flags, owner } = table;
  table.flags = asked;
  if ((asked & TABLE_OWNER) !== 0) table.owner = transaction.portId;
  const undo = (): void => {
    table.flags = flags;
    table.owner = owner;
  };
  transaction.did(undo, { type: NFT_MSG_NEWTABLE, body: tableBody(table, transaction.generation) });
}

/** With everything in it, whatever refers to what. */
function deleteTable(transaction: Transaction, table: FakeTable): void {
  transaction.ask("delete", `table ${table.name}`);
  for (const chain of table.chains.values()) deleteRules(transaction, table, chain);
  deleteSetsOf(transaction, table);
  for (const flowtable of table.flowtables.values()) removeFlowtable(transaction, table, flowtable);
  for (const chain of table.chains.values()) deleteChain(transaction, table, chain);
  const at = transaction.tables.indexOf(table);
  transaction.tables.splice(at, 1);
  transaction.did(() => void transaction.tables.splice(at, 0, table), {
    type: NFT_MSG_DELTABLE,
    body: tableBody(table, transaction.generation),
  });
}
