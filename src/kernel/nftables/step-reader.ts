/**
 * StepReader: what one table of nf_tables holds, part by part and in steps, between which the thread may be given back and transactions
 * be made: chains with their rules, the declarations of sets, the elements of one set. Each part is as of one moment.
 */
import type { Sys } from "../../host/sys.ts";
import { EAGAIN, ENOENT, EPROTO, KernelError } from "../errno.ts";
import type { Message } from "../netlink/reader.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import {
  decodeChain,
  type DecodedChain,
  type DecodedSet,
  decodeElements,
  decodeFlowtable,
  decodeRule,
  decodeSetMessage,
  digestElements,
} from "./decode.ts";
import { joinElements, type RawElement } from "./elements.ts";
import { encodeElementQuery, encodeFamily, encodeTableQuery } from "./encode.ts";
import { KeyDigest } from "./key-digest.ts";
import type { NftChainState, NftElement, NftFlowtable, NftRuleState, NftSet, TableId } from "./objects.ts";
import {
  NFGENMSG,
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETFLOWTABLE,
  NFT_MSG_GETGEN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETSET,
  NFT_MSG_GETSETELEM,
  NFTA_GEN_ID,
} from "./wire.ts";

/** How often a part is repeated when transactions come between its steps; the first few times it stops between them. */
const READ_ATTEMPTS = 50;
const STEPPED_ATTEMPTS = 5;

function formatTable(table: TableId): string {
  return `${table.family} ${table.name}`;
}

export class StepReader {
  /** Nothing else may be asked of it while a dump is under way. */
  readonly #socket: NetlinkSocket;
  readonly #questions: NetlinkSocket;
  readonly #table: TableId;
  /** The generation as of which the sets were listed last. */
  #listedAt: number | undefined;

  /** Opens in the thread's network namespace; throws KernelError. */
  constructor(sys: Sys, table: TableId) {
    this.#socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
    this.#questions = new NetlinkSocket(sys, NETLINK_NETFILTER);
    this.#table = table;
  }

  close(): void {
    this.#socket.close();
    this.#questions.close();
  }

  /** All chains with their rules, or one, in steps. Throws KernelError. */
  *chains(only?: string): Generator<undefined, ReadonlyMap<string, NftChainState>> {
    const name = formatTable(this.#table);
    const reader = this.#socket;
    const table = this.#table;
    const { value } = yield* this.#steadily(function* () {
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
    return value;
  }

  /** The flowtables with their devices: few, and read at once. Throws KernelError. */
  flowtables(): ReadonlyMap<string, NftFlowtable> {
    const found = this.#questions.dump(
      "read flowtables of table",
      formatTable(this.#table),
      NFT_MSG_GETFLOWTABLE,
      (w) => encodeTableQuery(w, this.#table),
      (message) => decodeFlowtable(message, this.#table),
    );
    return new Map(found.map(({ flowtable, ...is }) => [flowtable, is]));
  }

  /** The sets as they are declared. Throws KernelError. */
  *sets(): Generator<undefined, ReadonlyMap<string, DecodedSet>> {
    this.#listedAt = undefined;
    const { value, generation } = yield* this.#listSets();
    this.#listedAt = generation;
    return value;
  }

  #listSets(): Generator<undefined, Steady<ReadonlyMap<string, DecodedSet>>> {
    const name = formatTable(this.#table);
    const reader = this.#socket;
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

  /**
   * The keys of the elements of a hash set; undefined when that cannot be told so: an element is more than a key, something changed since
   * the set was listed, or it is gone. Throws KernelError.
   */
  *digest({ set, count }: DecodedSet, seed: number): Generator<undefined, KeyDigest | undefined> {
    if (this.#listedAt === undefined || count === undefined) return undefined;
    const object = `${set} of table ${formatTable(this.#table)}`;
    const write = (w: NetlinkSocket["writer"]): void => encodeElementQuery(w, this.#table, set);
    const digest = new KeyDigest(seed);
    let isKnown = true;
    const take = (message: Message): void => {
      isKnown &&= digestElements(message, digest);
    };
    try {
      const whole = yield* this.#socket.dumpInSteps("read elements of set", object, NFT_MSG_GETSETELEM, write, take);
      // A dump of a hash table that grows may pass elements over.
      if (!whole || !isKnown || digest.count !== count) return undefined;
    } catch (error) {
      if (error instanceof KernelError && error.errno === ENOENT) return undefined;
      throw error;
    }
    return readGeneration(this.#questions) === this.#listedAt ? digest : undefined;
  }

  /** The elements of a set; undefined when one cannot be expressed. Throws KernelError. */
  elements({ set, is }: DecodedSet): Generator<undefined, readonly NftElement[] | "gone" | undefined> {
    const object = `${set} of table ${formatTable(this.#table)}`;
    const reader = this.#socket;
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
        if (error instanceof KernelError && error.errno === ENOENT) return { elements: "gone" as const };
        throw error;
      }
      return { elements: found.elements };
    });
    return (function* () {
      return (yield* steps).value.elements;
    })();
  }

  /** Elements of the set at this moment, as the kernel counts them; undefined where it does not say. */
  #countOf(set: string): number | undefined {
    let count: number | undefined;
    this.#questions.query(
      "read set",
      `${set} of table ${formatTable(this.#table)}`,
      NFT_MSG_GETSET,
      // Table and name are the same attributes for a set as for its elements.
      (w) => encodeElementQuery(w, this.#table, set),
      (message) => (count = decodeSetMessage(message, this.#table)?.count),
    );
    return count;
  }

  /**
   * One part as of one moment: a pass during which the generation changed, or that answers undefined, is repeated. After a few
   * attempts it no longer stops between its steps, so that somebody who writes all the time cannot keep it from ending.
   */
  *#steadily<T>(pass: () => Generator<undefined, T | undefined>): Generator<undefined, Steady<T>> {
    for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
      const before = readGeneration(this.#questions);
      const steps = pass();
      let step = steps.next();
      for (; step.done !== true; step = steps.next()) if (attempt < STEPPED_ATTEMPTS) yield;
      if (step.value !== undefined && readGeneration(this.#questions) === before)
        return { value: step.value, generation: before };
      if (attempt < STEPPED_ATTEMPTS) yield;
    }
    throw new KernelError(
      "read table",
      formatTable(this.#table),
      EAGAIN,
      `changed during each of ${READ_ATTEMPTS} attempts to read`,
    );
  }
}

/** What was read, and the generation as of which it is so. */
interface Steady<T> {
  readonly value: T;
  readonly generation: number;
}

/** A chain of a kind for which there is no word counts as one with a rule for which there is none. */
export function chainState(
  { chain, base, known }: DecodedChain,
  rules: ReadonlyMap<string, readonly NftRuleState[]>,
): NftChainState {
  const own = rules.get(chain) ?? [];
  if (known) return { base, rules: own };
  return { base, unknownBase: true, rules: [{ rule: undefined, handle: 0n, packets: 0n, bytes: 0n }, ...own] };
}

export function collectRule(rules: Map<string, NftRuleState[]>, message: Message, table: TableId): undefined {
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

/** The number of the last transaction in the namespace, of any table. Throws KernelError. */
export function readGeneration(socket: NetlinkSocket): number {
  let generation: number | undefined;
  const take = ({ body }: Message): void => {
    generation = body.after(NFGENMSG)?.attributes()?.get(NFTA_GEN_ID)?.u32Be();
  };
  socket.query("read generation of", "nf_tables", NFT_MSG_GETGEN, (w) => encodeFamily(w, 0), take);
  if (generation === undefined) throw new KernelError("read generation of", "nf_tables", EPROTO);
  return generation;
}
