/**
 * FakeNftables: the tables of one namespace: batches done all or nothing, dumps, generations, notifications, and owners that go.
 *
 * Source: linux net/netfilter/nfnetlink.c (nfnetlink_rcv_batch), nf_tables_api.c.
 */
import { EINVAL, ENOENT, EOPNOTSUPP } from "../../errno.ts";
import type { Message } from "../../netlink/reader.ts";
import { NETLINK_NETFILTER } from "../../netlink/socket.ts";
import { NLM_F_ACK, NLM_F_ECHO } from "../../netlink/writer.ts";
import {
  NFGENMSG,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETFLOWTABLE,
  NFT_MSG_GETGEN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETSET,
  NFT_MSG_GETSETELEM,
  NFT_MSG_GETTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWFLOWTABLE,
  NFT_MSG_NEWGEN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_MSG_NEWTABLE,
  NFTA_ANY_TABLE,
  NFTA_RULE_CHAIN,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_TABLE,
  NFTA_SET_NAME,
  NFTA_TABLE_NAME,
} from "../../nftables/wire.ts";
import type { Machine } from "../machine.ts";
import {
  ackDatagram,
  type Answer,
  type Asker,
  datagramOf,
  notificationDatagrams,
  type Part,
  type Received,
  type Tell,
} from "../messages.ts";
import { Refusal, refuse, required, unmodelled } from "../refusal.ts";
import { chainBody, elementsBody, flowtableBody, generationBody, ruleBody, setBody, tableBody } from "./bodies.ts";
import { runCommand } from "./commands.ts";
import { forgetDevices } from "./flowtable-commands.ts";
import type { FakeElement } from "./elements.ts";
import { type FakeTable, TABLE_OWNER, TABLE_PERSIST } from "./objects.ts";
import { validate } from "./references.ts";
import { Transaction } from "./transaction.ts";

const NFNLGRP_NFTABLES = 7;
const ENOMEM = 12;
/** Elements in one message of a dump. */
const ELEMENTS_PER_MESSAGE = 100;

/** Of each message of a batch, how it went; in their order. */
interface Outcome {
  readonly received: Received;
  readonly refusal: Refusal | undefined;
}

export class FakeNftables {
  readonly tables: FakeTable[] = [];
  readonly #machine: Machine;
  readonly #sends: Tell;
  readonly #indexOf: (device: string) => number | undefined;
  #generation = 1;
  #handles = 0;

  /** `indexOf`: of the namespace's interface with that name. */
  constructor(machine: Machine, sends: Tell, indexOf: (device: string) => number | undefined) {
    this.#machine = machine;
    this.#indexOf = indexOf;
    this.#sends = sends;
  }

  /** Grows by one with each transaction that changed something. */
  get generation(): number {
    return this.#generation;
  }

  /** True when the messages were a batch, which then is done or refused. */
  takesBatch(socket: Asker, received: readonly Received[]): boolean {
    const [begin] = received;
    if (begin?.message.type !== NFNL_MSG_BATCH_BEGIN) return false;
    const end = received.at(-1);
    if (end?.message.type !== NFNL_MSG_BATCH_END) unmodelled("a batch without its end");
    const ack = ({ message, bytes }: Received, refusal: Refusal | undefined): void =>
      socket.deliver(ackDatagram(message, bytes, socket.portId, refusal, socket));
    if (begin.message.body.u16Be(2) !== NFNL_SUBSYS_NFTABLES) {
      ack(begin, new Refusal(EOPNOTSUPP));
      return true;
    }
    const outcomes = this.#runBatch(socket, received.slice(1, -1));
    if (outcomes === undefined) ack(begin, new Refusal(ENOMEM));
    for (const { received: one, refusal } of outcomes ?? [])
      if (refusal !== undefined || (one.message.flags & NLM_F_ACK) !== 0) ack(one, refusal);
    return true;
  }

  /** The kernel goes on after a refusal, to report every one, and then takes all back. undefined: it had no memory. */
  #runBatch(socket: Asker, commands: readonly Received[]): readonly Outcome[] | undefined {
    forgetDevices(this.tables, this.#indexOf);
    const transaction = this.#begin(socket);
    let outcomes: Outcome[];
    try {
      outcomes = this.#runAll(transaction, commands, false);
    } catch (error) {
      transaction.abort();
      throw error;
    }
    if (outcomes.some(({ refusal }) => refusal?.errno === ENOMEM)) return (transaction.abort(), undefined);
    if (outcomes.some(({ refusal }) => refusal !== undefined)) return (transaction.abort(), outcomes);
    if (transaction.jumps && this.#looksWrong()) {
      // The kernel tries again, and looks at the chains after each command, to name the one.
      transaction.abort();
      const again = this.#begin(socket);
      const named = this.#runAll(again, commands, true);
      again.abort();
      return named;
    }
    this.#commit(socket, transaction);
    return outcomes;
  }

  #begin(socket: Asker): Transaction {
    return new Transaction({
      tables: this.tables,
      portId: socket.portId,
      ownsTables: this.#machine.ownsTables,
      hasFlowtables: this.#machine.hasFlowtables,
      indexOf: this.#indexOf,
      faults: this.#machine.faults,
      generation: this.#generation + 1,
      nextHandle: () => ++this.#handles,
    });
  }

  #runAll(transaction: Transaction, commands: readonly Received[], validates: boolean): Outcome[] {
    const outcomes: Outcome[] = [];
    for (const received of commands) {
      const { type } = received.message;
      if (type >> 8 !== NFNL_SUBSYS_NFTABLES) unmodelled(`message ${type} in a batch`);
      let refusal: Refusal | undefined;
      try {
        runCommand(transaction, received.message);
        if ((received.message.flags & NLM_F_ECHO) !== 0) {
          if (type !== NFT_MSG_NEWRULE) unmodelled(`an echo of message ${type}`);
          transaction.echo(received.message.sequence);
        }
        if (validates && (type === NFT_MSG_NEWRULE || type === NFT_MSG_NEWSETELEM)) this.tables.forEach(validate);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        refusal = error;
      }
      outcomes.push({ received, refusal });
      if (refusal?.errno === ENOMEM) break;
    }
    return outcomes;
  }

  #looksWrong(): boolean {
    try {
      this.tables.forEach(validate);
      return false;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return true;
    }
  }

  #commit(socket: Asker, transaction: Transaction): void {
    if (transaction.isEmpty) return;
    this.#generation = transaction.generation;
    this.#machine.changes++;
    this.#tell(transaction.told, socket);
    for (const { sequence, part } of transaction.echoes)
      socket.deliver(datagramOf(part.type, 0, { sequence, portId: socket.portId }, part.body));
  }

  #tell(parts: readonly Part[], from: Asker): void {
    const generation = { type: NFT_MSG_NEWGEN, body: generationBody(this.#generation, from.process) };
    const datagrams = [
      ...notificationDatagrams(parts, { sequence: 0, portId: from.portId }),
      ...notificationDatagrams([generation], { sequence: 0, portId: from.portId }),
    ];
    this.#sends(NETLINK_NETFILTER, NFNLGRP_NFTABLES, datagrams);
  }

  /** nft_rcv_nl_event: the tables that the socket owned stay without an owner, or go. */
  socketClosed(socket: Asker): void {
    for (const table of this.tables.slice()) {
      if ((table.flags & TABLE_OWNER) === 0 || table.owner !== socket.portId) continue;
      table.owner = undefined;
      if ((table.flags & TABLE_PERSIST) !== 0) table.flags &= ~TABLE_OWNER;
      else this.tables.splice(this.tables.indexOf(table), 1);
      this.#machine.changes++;
    }
  }

  answer(message: Message, isDump: boolean): Answer {
    const family = required(message.body.u8());
    const attributes = required(message.body.after(NFGENMSG)?.attributes());
    const name = attributes.get(NFTA_ANY_TABLE)?.text();
    const errno = this.#machine.faults.request?.({
      subsystem: "nftables",
      does: "read",
      object: `table ${name ?? ""}`,
    });
    if (errno !== undefined) refuse(errno);
    const tables = this.tables.filter((table) => family === 0 || table.family === family);
    const named = tables.filter((table) => name === undefined || table.name === name);
    if (message.type === NFT_MSG_GETGEN && !isDump)
      return { kind: "reply", part: { type: NFT_MSG_NEWGEN, body: generationBody(this.#generation, PROCESS) } };
    if (message.type === NFT_MSG_GETTABLE && !isDump) {
      const [table] = named;
      if (attributes.get(NFTA_TABLE_NAME) === undefined) refuse(EINVAL);
      if (table === undefined) return refuse(ENOENT);
      return { kind: "reply", part: { type: NFT_MSG_NEWTABLE, body: tableBody(table, this.#generation) } };
    }
    if (message.type === NFT_MSG_GETSET && !isDump) {
      const [table] = named;
      const set = table?.sets.get(attributes.get(NFTA_SET_NAME)?.text() ?? "");
      if (table === undefined || set === undefined) return refuse(ENOENT);
      return { kind: "reply", part: { type: NFT_MSG_NEWSET, body: setBody(table, set, this.#generation) } };
    }
    if (!isDump) return unmodelled(`nf_tables question ${message.type & 255} about one object`);
    const parts = this.#dump(message.type, tables, named, attributes);
    return { kind: "dump", parts, version: () => this.#generation };
  }

  #dump(
    type: number,
    tables: readonly FakeTable[],
    named: readonly FakeTable[],
    attributes: ReadonlyMap<number, { text(): string }>,
  ): Part[] {
    const generation = this.#generation;
    switch (type) {
      // Chains are not filtered by their table.
      case NFT_MSG_GETCHAIN:
        return tables.flatMap((table) =>
          [...table.chains.values()].map((chain) => ({
            type: NFT_MSG_NEWCHAIN,
            body: chainBody(table, chain, generation),
          })),
        );
      case NFT_MSG_GETRULE: {
        const only = attributes.get(NFTA_RULE_CHAIN)?.text();
        return named.flatMap((table) =>
          [...table.chains.values()].flatMap((chain) =>
            only !== undefined && chain.name !== only
              ? []
              : chain.rules.map((rule) => ({
                  type: NFT_MSG_NEWRULE,
                  body: ruleBody(table, chain, rule, generation),
                })),
          ),
        );
      }
      case NFT_MSG_GETFLOWTABLE:
        forgetDevices(this.tables, this.#indexOf);
        return named.flatMap((table) =>
          [...table.flowtables.values()].map((flowtable) => ({
            type: NFT_MSG_NEWFLOWTABLE,
            body: flowtableBody(table, flowtable, generation),
          })),
        );
      case NFT_MSG_GETSET:
        return named.flatMap((table) =>
          [...table.sets.values()].map((set) => ({ type: NFT_MSG_NEWSET, body: setBody(table, set, generation) })),
        );
      case NFT_MSG_GETSETELEM: {
        const table = named.find((one) => one.name === attributes.get(NFTA_SET_ELEM_LIST_TABLE)?.text());
        const set = table?.sets.get(attributes.get(NFTA_SET_ELEM_LIST_SET)?.text() ?? "");
        if (table === undefined || set === undefined) return refuse(ENOENT);
        return chunks([...set.elements.all()]).map((elements) => ({
          type: NFT_MSG_NEWSETELEM,
          body: elementsBody(table, set.name, elements, generation),
        }));
      }
      default:
        return unmodelled(`nf_tables dump ${type & 255}`);
    }
  }
}

/** Who asks for the generation is who is named; nobody looks. */
const PROCESS = { pid: 0, name: "" };

function chunks(elements: readonly FakeElement[]): FakeElement[][] {
  const parts: FakeElement[][] = [];
  for (let i = 0; i < elements.length; i += ELEMENTS_PER_MESSAGE)
    parts.push(elements.slice(i, i + ELEMENTS_PER_MESSAGE));
  return parts;
}
