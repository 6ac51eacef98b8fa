/**
 * gate: rules of nf_tables at the node itself, where a packet is seen as services have translated it.
 *
 * Where a packet comes in, it is not known yet whether a translation will lead it into a pod or to the node: the path marks it, and judges what
 * leaves again. What is for the node itself is judged here: a rule asks the program `to_node` by the match `bpf` of x_tables. On a kernel
 * without it the path judges what is for the node before translation, and the gate drops what is marked.
 *
 * While flows of another dataplane are taken over, connection tracking answers for them.
 */
import type { Sys } from "../../host/sys.ts";
import { countConnections } from "../../kernel/conntrack.ts";
import { KernelError } from "../../kernel/errno.ts";
import { NftablesClient } from "../../kernel/nftables/client.ts";
import type { Expr, NftBaseChain, NftCommand, NftRule, TableId } from "../../kernel/nftables/objects.ts";
import { equal } from "../../lib/equal.ts";
import { ZERO } from "./image.ts";
import { words, wordsOf } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";

export const GATE_TABLE: TableId = { family: "inet", name: "calico-ebpf" };
/** Marks of bpf/path.c, in host order. */
const KNOWN = "00000400";
const FOR_GATE = "00000800";
const NONE = "00000000";
const ALL_BUT_KNOWN = "fffffbff";
/** Bits of `ct state`, in host order: established and related. */
const ESTABLISHED = "06000000";

interface Chain {
  readonly name: string;
  readonly base: NftBaseChain;
  readonly rules: readonly NftRule[];
}

function isMarked(mark: string): readonly Expr[] {
  return [
    { op: "meta", key: "mark", register: 0 },
    { op: "bitwise", source: 0, destination: 0, mask: mark, xor: NONE },
    { op: "cmp", compare: "neq", register: 0, data: NONE },
  ];
}

const IS_ESTABLISHED: readonly Expr[] = [
  { op: "ct", key: "state", register: 0 },
  { op: "bitwise", source: 0, destination: 0, mask: ESTABLISHED, xor: NONE },
  { op: "cmp", compare: "neq", register: 0, data: NONE },
];
const COUNTER: Expr = { op: "counter" };
const DROP: Expr = { op: "verdict", verdict: { type: "drop" } };
const ACCEPT: Expr = { op: "verdict", verdict: { type: "accept" } };
const MARK_KNOWN: readonly Expr[] = [
  { op: "meta", key: "mark", register: 0 },
  { op: "bitwise", source: 0, destination: 0, mask: ALL_BUT_KNOWN, xor: KNOWN },
  { op: "meta-set", key: "mark", register: 0 },
];

/** The chains: asking that program; undefined: the kernel cannot. */
function chainsOf(program: string | undefined, adopts: boolean): readonly Chain[] {
  const asked: readonly Expr[] = program === undefined ? [] : [{ op: "bpf", program }];
  const adopted = "begun under another dataplane";
  const gate: NftRule = {
    expressions: [...isMarked(FOR_GATE), ...asked, COUNTER, DROP],
    comment: "not let through to the node",
  };
  const open: NftRule = { expressions: [...isMarked(FOR_GATE), ...IS_ESTABLISHED, COUNTER, ACCEPT], comment: adopted };
  const known: NftRule = { expressions: [...IS_ESTABLISHED, COUNTER, ...MARK_KNOWN], comment: adopted };
  const input: Chain = {
    name: "input",
    base: { hook: "input", priority: 0, policy: "accept" },
    rules: adopts ? [open, gate] : [gate],
  };
  const forward: Chain = {
    name: "forward",
    base: { hook: "forward", priority: 0, policy: "accept" },
    rules: [known],
  };
  return adopts ? [input, forward] : [input];
}

/** What it needs of the maps. */
export type GateMaps = Pick<DataplaneMaps, "gate" | "pathOf">;

/** `unowned`: as it should be, but anybody may change it. */
export type GateState = "absent" | "unowned" | "there";

export class Gate {
  readonly #sys: Sys;
  readonly #client: NftablesClient;
  readonly #maps: () => GateMaps;
  readonly #ownsTable: boolean | undefined;

  /**
   * `maps`: asked for when they are needed. `ownsTable`: the kernel lets nobody else change it while this lives; undefined: it only looks. In the
   * thread's network namespace. Throws KernelError.
   */
  constructor(sys: Sys, maps: () => GateMaps, ownsTable: boolean | undefined) {
    this.#sys = sys;
    this.#client = new NftablesClient(sys, GATE_TABLE);
    this.#maps = maps;
    this.#ownsTable = ownsTable;
  }

  close(): void {
    this.#client.close();
  }

  get writes(): number {
    return this.#client.writes;
  }

  /** Of the socket that changes it. */
  get portId(): number | undefined {
    return this.#client.portId;
  }

  /** Whether packets for the node itself are judged after translation. */
  get judges(): boolean {
    return wordsOf(this.#maps().gate.lookup(ZERO) ?? ZERO)[0] === 1;
  }

  /** Throws KernelError. */
  read(): GateState {
    const table = this.#client.read();
    const wanted = chainsOf(this.judges ? this.#program : undefined, false);
    const isThere =
      table?.chains.size === wanted.length &&
      wanted.every(({ name, base, rules }) => {
        const found = table.chains.get(name);
        return (
          equal(found?.base, base) &&
          equal(
            found?.rules.map(({ rule }) => rule),
            rules,
          )
        );
      });
    if (!isThere) return "absent";
    const isOurs = table.owner !== undefined && table.owner === this.#client.portId;
    return this.#ownsTable === true && !isOurs ? "unowned" : "there";
  }

  get #program(): string {
    return this.#maps().pathOf("to_node");
  }

  /** Nobody else changes it from now on. */
  own(): void {
    this.#client.commit([{ do: "own-table" }]);
  }

  /** In one transaction. `adopts`: flows that connection tracking knows, if it is in use, go on; until it is put again without. */
  put({ adopts: isAsked = false }: { readonly adopts?: boolean } = {}): void {
    const adopts = isAsked && (countConnections(this.#sys) ?? 0) > 0;
    const { gate } = this.#maps();
    try {
      this.#commit(chainsOf(this.#program, adopts));
      gate.update(ZERO, words(1));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      // What is allowed is not marked any more before the gate drops everything that is.
      gate.update(ZERO, words(0));
      this.#commit(chainsOf(undefined, adopts));
    }
  }

  #commit(chains: readonly Chain[]): void {
    this.#client.commit([
      { do: "add-table" },
      { do: "delete-table" },
      { do: this.#ownsTable === true ? "own-table" : "add-table" },
      ...chains.flatMap(({ name, base, rules }): NftCommand[] => [
        { do: "add-chain", chain: name, base },
        ...rules.map((rule): NftCommand => ({ do: "add-rule", chain: name, rule })),
      ]),
    ]);
  }

  /** Succeeds when it is not there. Throws KernelError. */
  remove(): void {
    if (this.#client.hold() !== undefined) this.#client.commit([{ do: "delete-table" }]);
  }
}
