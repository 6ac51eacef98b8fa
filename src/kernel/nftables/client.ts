/**
 * NftablesClient: one table of nf_tables: read whole, changed by transactions that the kernel makes all or nothing.
 *
 * It works in the network namespace in which it was made. Its socket stays open: closing one with deletions pending waits
 * for an RCU grace period. Source: linux net/netfilter/nfnetlink.c, nf_tables_api.c.
 */
import type { Sys } from "../../host/sys.ts";
import { EAGAIN, EINVAL, ENOENT, EOPNOTSUPP, EPROTO, KernelError } from "../errno.ts";
import { type Answers, NETLINK_NETFILTER, NetlinkSocket, type Refusal } from "../netlink/socket.ts";
import { NLM_F_ACK } from "../netlink/writer.ts";
import { decodeHandle, decodeRuleCount, decodeTable } from "./decode.ts";
import { readGeneration, StepReader } from "./step-reader.ts";
import { describeCommand, encodeCommand, encodeFamily, encodeTableQuery } from "./encode.ts";
import type { NftCommand, NftSetState, NftTableHold, NftTableState, TableId } from "./objects.ts";
import {
  FAMILY,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG_GETRULE,
  NFT_MSG_GETTABLE,
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

function formatTable(table: TableId): string {
  return `${table.family} ${table.name}`;
}

export class NftablesClient {
  readonly #socket: NetlinkSocket;
  readonly #steps: StepReader;
  readonly #table: TableId;
  #writes = 0;
  #generation = 0;

  /** Opens in the thread's network namespace; throws KernelError. */
  constructor(sys: Sys, table: TableId) {
    this.#socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
    this.#steps = new StepReader(sys, table);
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
    this.#steps.close();
  }

  /** For reads between which transactions may be made. */
  get steps(): Pick<StepReader, "chains" | "flowtables" | "sets" | "digest" | "elements"> {
    return this.#steps;
  }

  /** From here on everything is read: what others did up to now will be seen. Throws KernelError. */
  beginRead(): void {
    this.#generation = readGeneration(this.#socket);
  }

  /** Who holds the table at this moment; undefined when it does not exist. Throws KernelError. */
  hold(): NftTableHold | undefined {
    return this.#readHold();
  }

  /** Everything of the table as of one moment; undefined when it does not exist. Throws KernelError. */
  read(): NftTableState | undefined {
    return this.#atOneMoment(() => {
      const hold = this.#readHold();
      return hold === undefined ? undefined : { ...hold, ...this.#readAll() };
    });
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

  /**
   * Makes the commands in order, all or none. Returns the handles of the rules that it inserted, by index of their command. Throws NftCommitError, or
   * KernelError when the transaction as a whole was refused.
   */
  commit(commands: readonly NftCommand[]): ReadonlyMap<number, bigint> {
    const inserted = new Map<number, bigint>();
    if (commands.length === 0) return inserted;
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
    const insertions = new Map<number, number>();
    for (const [index, command] of commands.entries())
      if (command.do === "insert-rule") insertions.set(firsts[index] ?? end, index);
    const answers = socket.exchange("commit transaction to table", formatTable(this.#table), (message) => {
      const index = insertions.get(message.sequence);
      const handle = index === undefined ? undefined : decodeHandle(message, this.#table);
      if (index !== undefined && handle !== undefined) inserted.set(index, handle);
    });
    this.#check(commands, firsts, answers, begin, end);
    this.#writes++;
    return inserted;
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
      const before = readGeneration(this.#socket);
      const result = read();
      if (readGeneration(this.#socket) !== before) continue;
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
    const sets = new Map<string, NftSetState>();
    for (const [set, declared] of finish(this.#steps.sets())) {
      const elements = declared.is === undefined ? undefined : finish(this.#steps.elements(declared));
      // One that has gone meanwhile makes the whole be read again.
      sets.set(
        set,
        elements === undefined || elements === "gone" ? { is: undefined, elements: [] } : { is: declared.is, elements },
      );
    }
    return { chains: finish(this.#steps.chains()), sets };
  }
}

function finish<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** In the namespace of whoever asks; in no transaction but one that removes it again. */
const SCRATCH: TableId = { family: "inet", name: "calico-scratch" };

/** Why the kernel makes no table, in words; undefined: it does. Leaves nothing behind. */
export function whyNoTables(sys: Sys): string | undefined {
  const client = new NftablesClient(sys, SCRATCH);
  try {
    client.commit([{ do: "add-table" }, { do: "delete-table" }]);
    return undefined;
  } catch (error) {
    if (error instanceof KernelError) return error.message;
    throw error;
  } finally {
    client.close();
  }
}

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
