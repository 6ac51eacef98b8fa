/**
 * guard: rules of nf_tables that close what no program judges: what comes from a workload's interface without the mark of its program, or reaches the
 * node without it, and what is forwarded to a workload, or by one, through an interface that is not served.
 *
 * So an interface is closed from its birth until it has its programs, whoever made it, and the daemon need not live for that. The table also
 * keeps the kernel tracking connections, so that a change to another dataplane finds the established ones.
 */
import type { Sys } from "../../host/sys.ts";
import { NftablesClient } from "../../kernel/nftables/client.ts";
import type {
  Expr,
  NftBaseChain,
  NftCommand,
  NftElement,
  NftRule,
  NftSet,
  TableId,
} from "../../kernel/nftables/objects.ts";
import { equal } from "../../lib/equal.ts";
import { isConnection } from "../nftables/base.ts";
import { hexText } from "../nftables/bytes.ts";

export const GUARD_TABLE: TableId = { family: "inet", name: "calico-guard" };
/** SEEN of bpf/path.c, in host order. */
const SEEN = "00001000";
const NONE = "00000000";
const SERVED = "served";
const SET: NftSet = { key: ["iface_index"], interval: false, verdictMap: false };

/** `input` comes before the gate, which goes by the marks. */
const CHAINS: { readonly [C in "prerouting" | "input" | "forward"]: NftBaseChain } = {
  prerouting: { hook: "prerouting", priority: -300, policy: "accept" },
  input: { hook: "input", priority: -1, policy: "accept" },
  forward: { hook: "forward", priority: 0, policy: "accept" },
};

const DROP: readonly Expr[] = [{ op: "counter" }, { op: "verdict", verdict: { type: "drop" } }];
const HAS_NO_MARK: readonly Expr[] = [
  { op: "meta", key: "mark", register: 0 },
  { op: "bitwise", source: 0, destination: 0, mask: SEEN, xor: NONE },
  { op: "cmp", compare: "eq", register: 0, data: NONE },
];
const LEAVES_UNSERVED: readonly Expr[] = [
  { op: "meta", key: "oif", register: 0 },
  { op: "lookup", set: SERVED, register: 0, not: true },
];

function isWorkload(key: "iifname" | "oifname", prefix: string): readonly Expr[] {
  return [
    { op: "meta", key, register: 0 },
    { op: "cmp", compare: "eq", register: 0, data: hexText(prefix) },
  ];
}

type Rules = { readonly [C in keyof typeof CHAINS]: readonly NftRule[] };

function rulesFor(workloadPrefixes: readonly string[]): Rules {
  const rule = (comment: string, ...parts: readonly (readonly Expr[])[]): NftRule => ({
    expressions: parts.flat(),
    comment,
  });
  return {
    prerouting: workloadPrefixes.map((prefix) =>
      rule("no program has seen it", isWorkload("iifname", prefix), HAS_NO_MARK, DROP),
    ),
    input: workloadPrefixes.map((prefix) =>
      rule("its mark is lost: another rule has set all of it", isWorkload("iifname", prefix), HAS_NO_MARK, DROP),
    ),
    forward: [
      // It decides nothing: the kernel tracks connections while a rule asks for their state.
      rule("connections are tracked", isConnection(["invalid"]), [{ op: "counter" }]),
      ...workloadPrefixes.flatMap((prefix) => [
        rule("from a workload, to an interface without programs", isWorkload("iifname", prefix), LEAVES_UNSERVED, DROP),
        rule("to a workload without programs", isWorkload("oifname", prefix), LEAVES_UNSERVED, DROP),
      ]),
    ],
  };
}

export class Guard {
  readonly #client: NftablesClient;
  readonly #ownsTable: boolean | undefined;
  /** What the kernel has, as last read or written; undefined: not what it should. */
  #have: { readonly rules: Rules; readonly served: ReadonlySet<number>; readonly isHeld: boolean } | undefined;

  /** `ownsTable`: the kernel lets nobody else change it while this lives; undefined: it only looks. In the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys, ownsTable: boolean | undefined) {
    this.#client = new NftablesClient(sys, GUARD_TABLE);
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

  /** Throws KernelError. */
  read(): void {
    this.#have = undefined;
    const table = this.#client.read();
    if (table === undefined || table.chains.size !== Object.keys(CHAINS).length) return;
    const served = table.sets.get(SERVED);
    if (table.sets.size !== 1 || !equal(served?.is, SET)) return;
    const rules: { [C in keyof typeof CHAINS]: NftRule[] } = { prerouting: [], input: [], forward: [] };
    for (const [chain, own] of Object.entries(rules)) {
      const found = table.chains.get(chain);
      if (!equal(found?.base, Object.entries(CHAINS).find(([name]) => name === chain)?.[1])) return;
      for (const { rule } of found?.rules ?? [])
        if (rule === undefined) return;
        else own.push(rule);
    }
    const isOurs = table.owner !== undefined && table.owner === this.#client.portId;
    const isHeld = this.#ownsTable === undefined || this.#ownsTable === isOurs;
    this.#have = { rules, served: new Set((served?.elements ?? []).map(({ key }) => indexOfKey(key))), isHeld };
  }

  /** Whether the kernel has it like this. */
  isAsWanted(workloadPrefixes: readonly string[], served: ReadonlySet<number>): boolean {
    const have = this.#have;
    return (
      have !== undefined &&
      have.isHeld &&
      equal(have.rules, rulesFor(workloadPrefixes)) &&
      have.served.size === served.size &&
      [...served].every((index) => have.served.has(index))
    );
  }

  /** Makes it so, in one transaction. Throws KernelError. */
  put(workloadPrefixes: readonly string[], served: ReadonlySet<number>): void {
    if (this.isAsWanted(workloadPrefixes, served)) return;
    const rules = rulesFor(workloadPrefixes);
    const have = this.#have;
    this.#have = undefined;
    const own: readonly NftCommand[] = have?.isHeld === false && this.#ownsTable === true ? [{ do: "own-table" }] : [];
    if (have === undefined || !equal(have.rules, rules)) this.#client.commit(this.#whole(rules, served));
    else {
      const added = [...served].filter((index) => !have.served.has(index));
      const gone = [...have.served].filter((index) => !served.has(index));
      this.#client.commit([
        ...own,
        ...(gone.length === 0 ? [] : [elements("delete-elements", gone)]),
        ...(added.length === 0 ? [] : [elements("add-elements", added)]),
      ]);
    }
    this.#have = { rules, served: new Set(served), isHeld: true };
  }

  #whole(rules: Rules, served: ReadonlySet<number>): NftCommand[] {
    const make: NftCommand = { do: this.#ownsTable === true ? "own-table" : "add-table" };
    const chains = Object.entries(CHAINS).flatMap(([chain, base]): NftCommand[] => [
      { do: "add-chain", chain, base },
      ...(Object.entries(rules).find(([name]) => name === chain)?.[1] ?? []).map((rule): NftCommand => ({
        do: "add-rule",
        chain,
        rule,
      })),
    ]);
    return [
      { do: "add-table" },
      { do: "delete-table" },
      make,
      { do: "add-set", set: SERVED, is: SET },
      ...(served.size === 0 ? [] : [elements("add-elements", [...served])]),
      ...chains,
    ];
  }

  /** Succeeds when there is none. Throws KernelError. */
  remove(): void {
    this.#have = undefined;
    if (this.#client.hold() !== undefined) this.#client.commit([{ do: "delete-table" }]);
  }
}

function elements(what: "add-elements" | "delete-elements", indices: readonly number[]): NftCommand {
  const keys = indices.map((index): NftElement => ({ key: keyOf(index), keyEnd: undefined, verdict: undefined }));
  return { do: what, set: SERVED, is: SET, elements: keys };
}

/** In host order, little-endian. */
function keyOf(index: number): string {
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setUint32(0, index, true);
  return bytes.getUint32(0, false).toString(16).padStart(8, "0");
}

function indexOfKey(key: string): number {
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setUint32(0, Number.parseInt(key, 16), false);
  return bytes.getUint32(0, true);
}
