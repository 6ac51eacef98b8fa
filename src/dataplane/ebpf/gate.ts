/**
 * gate: one rule of nf_tables that keeps from the node itself what its path has not let through to it.
 *
 * Where a packet comes in, it is not known yet whether a service's translation will lead it into a pod or to the node: the path marks what it
 * would not let through to the node, and judges anew what leaves again.
 */
import type { Sys } from "../../host/sys.ts";
import { NftablesClient } from "../../kernel/nftables/client.ts";
import type { Expr, NftBaseChain, NftRule, TableId } from "../../kernel/nftables/objects.ts";
import { equal } from "../../lib/equal.ts";

export const GATE_TABLE: TableId = { family: "inet", name: "calico-ebpf" };
const CHAIN = "input";
const BASE: NftBaseChain = { hook: "input", priority: 0, policy: "accept" };
/** NOT_FOR_NODE of bpf/path.c, in host order. */
const MARK = "00000800";
const NONE = "00000000";

const EXPRESSIONS: readonly Expr[] = [
  { op: "meta", key: "mark", register: 0 },
  { op: "bitwise", source: 0, destination: 0, mask: MARK, xor: NONE },
  { op: "cmp", compare: "neq", register: 0, data: NONE },
  { op: "counter" },
  { op: "verdict", verdict: { type: "drop" } },
];
const RULE: NftRule = { expressions: EXPRESSIONS, comment: "not let through to the node" };

export class Gate {
  readonly #client: NftablesClient;
  readonly #ownsTable: boolean | undefined;
  /** It is as it should be, but anybody may change it. */
  #isUnowned = false;

  /** `ownsTable`: the kernel lets nobody else change it while this lives; undefined: it only looks. In the thread's network namespace. */
  constructor(sys: Sys, ownsTable: boolean | undefined) {
    this.#client = new NftablesClient(sys, GATE_TABLE);
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

  /** Succeeds when it is not there. Throws KernelError. */
  remove(): void {
    if (this.#client.hold() !== undefined) this.#client.commit([{ do: "delete-table" }]);
  }

  /** Whether it is there, as it should be. Throws KernelError. */
  get isThere(): boolean {
    this.#isUnowned = false;
    const table = this.#client.read();
    const chain = table?.chains.get(CHAIN);
    if (table?.chains.size !== 1 || chain === undefined) return false;
    const rules = chain.rules.map(({ rule }) => rule);
    const isAsWanted = equal(chain.base, BASE) && equal(rules, [RULE]);
    this.#isUnowned =
      isAsWanted && this.#ownsTable === true && (table.owner === undefined || table.owner !== this.#client.portId);
    return isAsWanted && !this.#isUnowned;
  }

  /** In one transaction. */
  put(): void {
    if (this.#isUnowned) return this.#client.commit([{ do: "own-table" }]);
    this.#client.commit([
      { do: "add-table" },
      { do: "delete-table" },
      { do: this.#ownsTable === true ? "own-table" : "add-table" },
      { do: "add-chain", chain: CHAIN, base: BASE },
      { do: "add-rule", chain: CHAIN, rule: RULE },
    ]);
  }
}
