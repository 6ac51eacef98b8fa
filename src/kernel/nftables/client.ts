/**
 * NftablesClient: one table of nf_tables: read whole, changed by transactions that the kernel makes all or nothing.
 *
 * It works in the network namespace in which it was made. Its socket stays open: closing one with deletions pending waits
 * for an RCU grace period. Source: linux net/netfilter/nfnetlink.c, nf_tables_api.c.
 */
import type { Sys } from "../../host/sys.ts";
import { EAGAIN, EINVAL, ENOENT, EOPNOTSUPP, EPROTO, KernelError } from "../errno.ts";
import type { Message } from "../netlink/reader.ts";
import { type Answers, NETLINK_NETFILTER, NetlinkSocket, type Refusal } from "../netlink/socket.ts";
import { NLM_F_ACK } from "../netlink/writer.ts";
import {
  decodeChain,
  type DecodedChain,
  type DecodedSet,
  decodeElements,
  decodeHandle,
  decodeRule,
  decodeRuleCount,
  decodeSetMessage,
  decodeTable,
  setState,
} from "./decode.ts";
import { joinElements, type RawElement } from "./elements.ts";
import { describeCommand, encodeCommand, encodeElementQuery, encodeFamily, encodeTableQuery } from "./encode.ts";
import type {
  NftChainState,
  NftCommand,
  NftElement,
  NftRuleState,
  NftSet,
  NftSetState,
  NftTableHold,
  NftTableState,
  TableId,
} from "./objects.ts";
import {
  FAMILY,
  NFGENMSG,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETGEN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETSET,
  NFT_MSG_GETSETELEM,
  NFT_MSG_GETTABLE,
  NFTA_GEN_ID,
  NFTA_TABLE_NAME,
} from "./wire.ts";

export interface RefusedCommand extends Refusal {
  readonly index: number;
  readonly command: NftCommand;
}

/** A transaction was refused and has changed nothing. `index` and `command` are the first command that the kernel refused, `refused` all. */
export class NftCommitError extends KernelError {
  override readonly name = "NftCommitError";
  readonly index: number;
  readonly command: NftCommand;
  readonly refused: readonly RefusedCommand[];
  constructor(table: TableId, first: RefusedCommand, refused: readonly RefusedCommand[]) {
    super(
      describeCommand(first.command),
      `(command ${first.index} of the transaction) in table ${formatTable(table)}`,
      first.errno,
      first.detail,
    );
    this.index = first.index;
    this.command = first.command;
    this.refused = refused;
  }
}

export interface RuleCount {
  readonly handle: bigint;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** How often a read is repeated when other transactions come between its parts. */
const READ_ATTEMPTS = 50;
/** Of which the first are made in steps. */
const STEPPED_ATTEMPTS = 5;

function formatTable(table: TableId): string {
  return `${table.family} ${table.name}`;
}

export class NftablesClient {
  readonly #socket: NetlinkSocket;
  /** For reads in steps, between which transactions may be made. */
  readonly #reader: NetlinkSocket;
  readonly #table: TableId;
  #writes = 0;
  #generation = 0;

  /** Opens in the thread's network namespace; throws KernelError. */
  constructor(sys: Sys, table: TableId) {
    this.#socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
    this.#reader = new NetlinkSocket(sys, NETLINK_NETFILTER);
    this.#table = table;
  }

  /** Transactions committed. */
  get writes(): number {
    return this.#writes;
  }

  /** The generation of nf_tables that the last successful `read` saw, or that was current at the last `beginRead`. */
  get generation(): number {
    return this.#generation;
  }

  /** Of the socket that commits; undefined before its first answer. */
  get portId(): number | undefined {
    return this.#socket.portId;
  }

  close(): void {
    this.#socket.close();
    this.#reader.close();
  }

  /** From here on everything is read: what others did up to now will be seen. Throws KernelError. */
  beginRead(): void {
    this.#generation = this.#readGeneration();
  }

  /** Who holds the table at this moment; undefined when it does not exist. Throws KernelError. */
  hold(): NftTableHold | undefined {
    return this.#readHold();
  }

  /** All chains with their rules, or one, in steps. Throws KernelError. */
  chainsInSteps(only?: string): Generator<undefined, ReadonlyMap<string, NftChainState>> {
    const name = formatTable(this.#table);
    const reader = this.#reader;
    const table = this.#table;
    return this.#steadily(function* () {
      const rules = new Map<string, NftRuleState[]>();
      const chains = new Map<string, NftChainState>();
      const ofChain = (w: NetlinkSocket["writer"]): void => encodeTableQuery(w, table, only);
      const wholeRules = yield* reader.dumpInSteps("read rules of table", name, NFT_MSG_GETRULE, ofChain, (message) =>
        collectRule(rules, message, table),
      );
      const all = (w: NetlinkSocket["writer"]): void => encodeTableQuery(w, table);
      const whole = yield* reader.dumpInSteps("read chains of table", name, NFT_MSG_GETCHAIN, all, (message) => {
        const found = decodeChain(message, table);
        if (found !== undefined && (only === undefined || found.chain === only))
          chains.set(found.chain, chainState(found, rules));
      });
      return wholeRules && whole ? chains : undefined;
    });
  }

  /** The sets as they are declared. Throws KernelError. */
  setsInSteps(): Generator<undefined, ReadonlyMap<string, DecodedSet>> {
    const name = formatTable(this.#table);
    const reader = this.#reader;
    const table = this.#table;
    return this.#steadily(function* () {
      const sets = new Map<string, DecodedSet>();
      const all = (w: NetlinkSocket["writer"]): void => encodeTableQuery(w, table);
      const whole = yield* reader.dumpInSteps("read sets of table", name, NFT_MSG_GETSET, all, (message) => {
        const found = decodeSetMessage(message, table);
        if (found !== undefined) sets.set(found.set, found);
      });
      return whole ? sets : undefined;
    });
  }

  /** The elements of a set; undefined when one cannot be expressed, or when the set does not exist. Throws KernelError. */
  elementsInSteps({ set, is }: DecodedSet): Generator<undefined, readonly NftElement[] | undefined> {
    const object = `${set} of table ${formatTable(this.#table)}`;
    const reader = this.#reader;
    const write = (w: NetlinkSocket["writer"]): void => encodeElementQuery(w, this.#table, set);
    const count = (): number | undefined => this.#countOf(set);
    const steps = this.#steadily(function* () {
      const found = new ElementCollector(is);
      try {
        const whole = yield* reader.dumpInSteps("read elements of set", object, NFT_MSG_GETSETELEM, write, (message) =>
          found.take(message),
        );
        if (!whole || !found.isComplete(count)) return undefined;
      } catch (error) {
        if (error instanceof KernelError && error.errno === ENOENT) return { elements: undefined };
        throw error;
      }
      return { elements: found.elements };
    });
    return (function* () {
      return (yield* steps).elements;
    })();
  }

  /** Elements of the set at this moment, as the kernel counts them; undefined where it does not say. */
  #countOf(set: string): number | undefined {
    let count: number | undefined;
    this.#socket.query(
      "read set",
      `${set} of table ${formatTable(this.#table)}`,
      NFT_MSG_GETSET,
      // Table and name are the same attributes for a set as for its elements.
      (w) => encodeElementQuery(w, this.#table, set),
      (message) => (count = decodeSetMessage(message, this.#table)?.count),
    );
    return count;
  }

  /** The handles of the rules of one chain at this moment, in order. Throws KernelError. */
  handlesOf(chain: string): readonly bigint[] {
    return this.#socket.dump(
      "read rules of chain",
      `${chain} of table ${formatTable(this.#table)}`,
      NFT_MSG_GETRULE,
      (w) => encodeTableQuery(w, this.#table, chain),
      (message) => decodeHandle(message, this.#table, chain),
    );
  }

  /**
   * One part as of one moment: a pass during which the generation changed, or that answers undefined, is repeated. After a few
   * attempts it no longer stops between its steps, so that somebody who writes all the time cannot keep it from ending.
   */
  *#steadily<T>(pass: () => Generator<undefined, T | undefined>): Generator<undefined, T> {
    for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
      const before = this.#readGeneration();
      const steps = pass();
      let step = steps.next();
      for (; step.done !== true; step = steps.next()) if (attempt < STEPPED_ATTEMPTS) yield;
      if (step.value !== undefined && this.#readGeneration() === before) return step.value;
      if (attempt < STEPPED_ATTEMPTS) yield;
    }
    throw new KernelError(
      "read table",
      formatTable(this.#table),
      EAGAIN,
      `changed during each of ${READ_ATTEMPTS} attempts to read`,
    );
  }

  /** Everything of the table as of one moment; undefined when it does not exist. Throws KernelError. */
  read(): NftTableState | undefined {
    return this.#atOneMoment(() => {
      const hold = this.#readHold();
      return hold === undefined ? undefined : { ...hold, ...this.#readAll() };
    });
  }

  /** Of each chain, the counters of its rules in order (0 for a rule without one). Empty when the table does not exist. */
  counters(): ReadonlyMap<string, readonly RuleCount[]> {
    const counts = new Map<string, RuleCount[]>();
    const name = formatTable(this.#table);
    const write = (w: NetlinkSocket["writer"]): void => encodeTableQuery(w, this.#table);
    for (const { chain, ...count } of this.#socket.dump(
      "read counters of table",
      name,
      NFT_MSG_GETRULE,
      write,
      (message) => decodeRuleCount(message, this.#table),
    )) {
      const known = counts.get(chain);
      if (known === undefined) counts.set(chain, [count]);
      else known.push(count);
    }
    return counts;
  }

  /** Makes the commands in order, all or none. Throws NftCommitError, or KernelError when the transaction as a whole was refused. */
  commit(commands: readonly NftCommand[]): void {
    if (commands.length === 0) return;
    const socket = this.#socket;
    const { writer } = socket;
    socket.begin();
    const begin = socket.message(NFNL_MSG_BATCH_BEGIN, 0);
    encodeFamily(writer, 0, NFNL_SUBSYS_NFTABLES);
    const firsts = commands.map((command) => encodeCommand(socket, this.#table, command));
    // The last message is acknowledged once the whole transaction is done; older kernels ignore the flag on the end mark.
    writer.addFlags(NLM_F_ACK);
    const end = socket.message(NFNL_MSG_BATCH_END, 0);
    encodeFamily(writer, 0, NFNL_SUBSYS_NFTABLES);
    const answers = socket.exchange("commit transaction to table", formatTable(this.#table));
    this.#check(commands, firsts, answers, begin, end);
    this.#writes++;
  }

  #check(
    commands: readonly NftCommand[],
    firsts: readonly number[],
    answers: Answers,
    begin: number,
    end: number,
  ): void {
    const refused: RefusedCommand[] = [];
    if (answers.refused.size > 0)
      for (const [index, command] of commands.entries()) {
        const next = firsts[index + 1] ?? end;
        for (let sequence = firsts[index] ?? next; sequence < next; sequence++) {
          const refusal = answers.refused.get(sequence);
          if (refusal !== undefined) refused.push({ ...refusal, index, command });
        }
      }
    const [first] = refused;
    if (first !== undefined) throw new NftCommitError(this.#table, first, refused);
    const whole = answers.refused.get(begin) ?? answers.refused.get(end);
    if (whole !== undefined)
      throw new KernelError("commit transaction to table", formatTable(this.#table), whole.errno, whole.detail);
    if (!answers.done.has(end - 1))
      throw new KernelError(
        "commit transaction to table",
        formatTable(this.#table),
        EPROTO,
        "the kernel did not acknowledge it",
      );
  }

  /** The kernel's generation number changes with every transaction in the namespace, of any table. */
  #atOneMoment<T>(read: () => T): T {
    for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
      const before = this.#readGeneration();
      const result = read();
      if (this.#readGeneration() !== before) continue;
      this.#generation = before;
      return result;
    }
    throw new KernelError(
      "read table",
      formatTable(this.#table),
      EAGAIN,
      `changed during each of ${READ_ATTEMPTS} attempts to read`,
    );
  }

  #readGeneration(): number {
    let generation: number | undefined;
    const take = ({ body }: Message): void => {
      generation = body.after(NFGENMSG)?.attributes()?.get(NFTA_GEN_ID)?.u32Be();
    };
    this.#socket.query("read generation of", "nf_tables", NFT_MSG_GETGEN, (w) => encodeFamily(w, 0), take);
    if (generation === undefined) throw new KernelError("read generation of", "nf_tables", EPROTO);
    return generation;
  }

  /** undefined when the table does not exist. */
  #readHold(): NftTableHold | undefined {
    let hold: NftTableHold | undefined;
    const write = (w: NetlinkSocket["writer"]): void => {
      encodeFamily(w, FAMILY[this.#table.family]);
      w.text(NFTA_TABLE_NAME, this.#table.name);
    };
    try {
      this.#socket.query(
        "read table",
        formatTable(this.#table),
        NFT_MSG_GETTABLE,
        write,
        (message) => (hold = decodeTable(message, this.#table)),
      );
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ENOENT) throw error;
    }
    return hold;
  }

  #readAll(): Omit<NftTableState, keyof NftTableHold> {
    const name = formatTable(this.#table);
    const rules = this.#readRules();
    const chains = new Map<string, NftChainState>();
    const write = (w: NetlinkSocket["writer"]): void => encodeTableQuery(w, this.#table);
    for (const { chain, base, known } of this.#socket.dump(
      "read chains of table",
      name,
      NFT_MSG_GETCHAIN,
      write,
      (message) => decodeChain(message, this.#table),
    )) {
      chains.set(chain, chainState({ chain, base, known }, rules));
    }
    const sets = new Map<string, NftSetState>();
    for (const { set, is, count } of this.#socket.dump("read sets of table", name, NFT_MSG_GETSET, write, (message) =>
      decodeSetMessage(message, this.#table),
    )) {
      sets.set(
        set,
        setState(
          is,
          is === undefined ? undefined : is.interval ? this.#readElements(set) : this.#readWhole(set, count),
        ),
      );
    }
    return { chains, sets };
  }

  #readRules(): Map<string, NftRuleState[]> {
    const rules = new Map<string, NftRuleState[]>();
    const write = (w: NetlinkSocket["writer"]): void => encodeTableQuery(w, this.#table);
    for (const { chain, state } of this.#socket.dump(
      "read rules of table",
      formatTable(this.#table),
      NFT_MSG_GETRULE,
      write,
      (message) => decodeRule(message, this.#table),
    )) {
      const known = rules.get(chain);
      if (known === undefined) rules.set(chain, [state]);
      else known.push(state);
    }
    return rules;
  }

  /**
   * Elements of a hash set. While the kernel makes its hash table larger, in the background and without a new generation, a dump
   * tells some elements twice and leaves others out: it is repeated until there are as many as the kernel counts, or, where it does
   * not say, until none comes twice. Source: linux net/netfilter/nft_set_hash.c, nft_rhash_walk.
   */
  #readWhole(set: string, count: number | undefined): readonly RawElement[] | undefined {
    for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
      const elements = this.#readElements(set);
      if (elements === undefined) return undefined;
      const distinct = new Set(elements.map((element) => element.key)).size;
      if (distinct === elements.length && (count === undefined || distinct === count)) return elements;
    }
    throw new KernelError(
      "read elements of set",
      `${set} of table ${formatTable(this.#table)}`,
      EAGAIN,
      `incomplete in each of ${READ_ATTEMPTS} attempts`,
    );
  }

  /** undefined when an element cannot be expressed, or when the set has gone (the read is then repeated). */
  #readElements(set: string): readonly RawElement[] | undefined {
    const write = (w: NetlinkSocket["writer"]): void => encodeElementQuery(w, this.#table, set);
    const decode = (message: Message): { readonly elements: RawElement[]; readonly known: boolean } => {
      const elements: RawElement[] = [];
      return { elements, known: decodeElements(message, elements) };
    };
    try {
      const parts = this.#socket.dump(
        "read elements of set",
        `${set} of table ${formatTable(this.#table)}`,
        NFT_MSG_GETSETELEM,
        write,
        decode,
      );
      return parts.every(({ known }) => known) ? parts.flatMap(({ elements }) => elements) : undefined;
    } catch (error) {
      if (error instanceof KernelError && error.errno === ENOENT) return undefined;
      throw error;
    }
  }
}

/** A chain of a kind for which there is no word counts as one with a rule for which there is none. */
function chainState(
  { chain, base, known }: DecodedChain,
  rules: ReadonlyMap<string, readonly NftRuleState[]>,
): NftChainState {
  const own = rules.get(chain) ?? [];
  if (known) return { base, rules: own };
  return { base, unknownBase: true, rules: [{ rule: undefined, handle: 0n, packets: 0n, bytes: 0n }, ...own] };
}

function collectRule(rules: Map<string, NftRuleState[]>, message: Message, table: TableId): undefined {
  const found = decodeRule(message, table);
  if (found === undefined) return;
  const known = rules.get(found.chain);
  if (known === undefined) rules.set(found.chain, [found.state]);
  else known.push(found.state);
}

/** The elements of one pass over a set, joined as they come where each stands for itself. */
class ElementCollector {
  readonly #is: NftSet | undefined;
  readonly #raw: RawElement[] = [];
  readonly #joined: NftElement[] = [];
  readonly #keys = new Set<string>();
  #isKnown: boolean;

  constructor(is: NftSet | undefined) {
    this.#is = is;
    this.#isKnown = is !== undefined;
  }

  take(message: Message): void {
    const raw: RawElement[] = [];
    this.#isKnown = decodeElements(message, raw) && this.#isKnown;
    if (this.#is === undefined || !this.#isKnown) return;
    if (this.#is.interval) return void this.#raw.push(...raw);
    const joined = joinElements(this.#is, raw);
    this.#isKnown = joined !== undefined;
    for (const element of joined ?? []) {
      this.#keys.add(element.key);
      this.#joined.push(element);
    }
  }

  /** Of a hash set: as many as the kernel counts, none twice. See `#readWhole`. */
  isComplete(count: () => number | undefined): boolean {
    if (!this.#isKnown || this.#is?.interval !== false) return true;
    const counted = this.#keys.size === this.#joined.length ? count() : -1;
    return counted === undefined || counted === this.#keys.size;
  }

  /** undefined when one cannot be expressed. */
  get elements(): readonly NftElement[] | undefined {
    if (this.#is === undefined || !this.#isKnown) return undefined;
    return this.#is.interval ? joinElements(this.#is, this.#raw) : this.#joined;
  }
}

/** In the namespace of whoever asks; in no transaction but one that removes it again. */
const SCRATCH: TableId = { family: "inet", name: "calico-scratch" };

/**
 * Whether a socket can own a table that stays when it closes (Linux 6.9 and later): the kernel is asked, in the thread's network
 * namespace. Throws KernelError when it refuses for another reason than not knowing the flags.
 */
export function canOwnTables(sys: Sys): boolean {
  const client = new NftablesClient(sys, SCRATCH);
  try {
    client.commit([{ do: "own-table" }, { do: "delete-table" }]);
    return true;
  } catch (error) {
    if (error instanceof KernelError && (error.errno === EOPNOTSUPP || error.errno === EINVAL)) return false;
    throw error;
  } finally {
    client.close();
  }
}
