/**
 * Expressions of rules, in both directions. Decoding is strict: an expression with a name, attribute or value that `Expr` has
 * no word for is undefined, never an approximation.
 */
import { assertNever, BugError } from "../../lib/bug.ts";
import type { Span } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
import type { Expr } from "./objects.ts";
import { decodeVerdict, encodeVerdict } from "./verdict.ts";
import { NFTA_DATA_VALUE, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM } from "./wire.ts";

type Compare = Extract<Expr, { op: "cmp" }>["compare"];
type MetaKey = Extract<Expr, { op: "meta" }>["key"];

/** enum nft_cmp_ops; the first two are those of enum nft_range_ops too. */
const COMPARISONS: readonly Compare[] = ["eq", "neq", "lt", "lte", "gt", "gte"];
/** enum nft_meta_keys. */
const META_KEYS: { readonly [K in MetaKey]: number } = {
  nfproto: 15,
  l4proto: 16,
  iifname: 6,
  oifname: 7,
  oif: 5,
  mark: 3,
};
const META_NAMES: ReadonlyMap<number, MetaKey> = new Map(
  (["nfproto", "l4proto", "iifname", "oifname", "oif", "mark"] as const).map((key) => [META_KEYS[key], key]),
);
/** enum nft_payload_bases. */
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
const NFT_CT_STATE = 0;
/** enum nft_log_level; what the kernel takes where none is given. */
const LOG_LEVEL_WARNING = 4;
const NFT_LOOKUP_F_INV = 1;
const NFT_REG_VERDICT = 0;

/** The match `bpf` of x_tables, with a struct xt_bpf_info_v1: mode u16, length u16, descriptor i32, path, pointer. Source: linux/netfilter/xt_bpf.h. */
const BPF_MATCH = { name: "bpf", revision: 1, bytes: 528, mode: 1, pathAt: 8, pathBytes: 512 } as const;

/** NFT_REG32_00: registers by 32-bit slot. */
const REG32_00 = 8;
const SLOTS = 16;

function register(slot: number): number {
  if (!Number.isInteger(slot) || slot < 0 || slot >= SLOTS)
    throw new BugError(`register slot is ${slot}, must be 0 to 15`);
  return REG32_00 + slot;
}

/** The kernel reports slots that are multiples of 4 as NFT_REG_1 to NFT_REG_4. */
function slotOf(number: number | undefined): number | undefined {
  if (number === undefined) return undefined;
  if (number >= 1 && number <= 4) return (number - 1) * 4;
  return number >= REG32_00 && number < REG32_00 + SLOTS ? number - REG32_00 : undefined;
}

/** Writes the expression as one NFTA_LIST_ELEM. */
export function encodeExpression(w: Writer, expr: Expr): void {
  const element = w.open(NFTA_LIST_ELEM);
  w.text(NFTA_EXPR_NAME, kernelName(expr));
  const data = w.open(NFTA_EXPR_DATA);
  encodeData(w, expr);
  w.close(data);
  w.close(element);
}

function kernelName(expr: Expr): string {
  if (expr.op === "meta-set") return "meta";
  if (expr.op === "verdict-map") return "lookup";
  if (expr.op === "bpf") return "match";
  if (expr.op === "flow-offload") return "flow_offload";
  return expr.op === "verdict" ? "immediate" : expr.op;
}

function value(w: Writer, type: number, hex: string): void {
  const nested = w.open(type);
  w.hex(NFTA_DATA_VALUE, hex);
  w.close(nested);
}

function encodeData(w: Writer, expr: Expr): void {
  switch (expr.op) {
    case "payload":
      w.u32Be(1, register(expr.register));
      w.u32Be(2, expr.base === "network" ? NETWORK_HEADER : TRANSPORT_HEADER);
      w.u32Be(3, expr.offset);
      w.u32Be(4, expr.length);
      return;
    case "meta":
      w.u32Be(1, register(expr.register));
      w.u32Be(2, META_KEYS[expr.key]);
      return;
    case "meta-set":
      w.u32Be(2, META_KEYS[expr.key]);
      w.u32Be(3, register(expr.register));
      return;
    case "notrack":
      return;
    case "log":
      w.text(2, expr.prefix);
      return;
    case "ct":
      w.u32Be(1, register(expr.register));
      w.u32Be(2, NFT_CT_STATE);
      return;
    case "cmp":
      w.u32Be(1, register(expr.register));
      w.u32Be(2, COMPARISONS.indexOf(expr.compare));
      value(w, 3, expr.data);
      return;
    case "range":
      w.u32Be(1, register(expr.register));
      w.u32Be(2, COMPARISONS.indexOf(expr.compare));
      value(w, 3, expr.from);
      value(w, 4, expr.to);
      return;
    case "bitwise":
      if (expr.mask.length !== expr.xor.length)
        throw new BugError(`mask ${expr.mask} and xor ${expr.xor} have different lengths`);
      w.u32Be(1, register(expr.source));
      w.u32Be(2, register(expr.destination));
      w.u32Be(3, expr.mask.length / 2);
      value(w, 4, expr.mask);
      value(w, 5, expr.xor);
      return;
    case "lookup":
      w.text(1, expr.set);
      w.u32Be(2, register(expr.register));
      if (expr.not) w.u32Be(5, NFT_LOOKUP_F_INV);
      return;
    case "verdict-map":
      w.text(1, expr.map);
      w.u32Be(2, register(expr.register));
      w.u32Be(3, NFT_REG_VERDICT);
      return;
    case "bpf":
      w.text(1, BPF_MATCH.name);
      w.u32Be(2, BPF_MATCH.revision);
      w.bytesOf(3, encodeBpfMatch(expr.program));
      return;
    case "counter":
      return;
    case "flow-offload":
      w.text(1, expr.flowtable);
      return;
    case "verdict": {
      w.u32Be(1, NFT_REG_VERDICT);
      const nested = w.open(2);
      encodeVerdict(w, expr.verdict);
      w.close(nested);
      return;
    }
    default:
      assertNever(expr);
  }
}

function encodeBpfMatch(program: string): Uint8Array {
  const path = new TextEncoder().encode(program);
  if (path.length >= BPF_MATCH.pathBytes) throw new BugError(`path ${program} has ${path.length} bytes`);
  const info = new Uint8Array(BPF_MATCH.bytes);
  new DataView(info.buffer).setUint16(0, BPF_MATCH.mode, true);
  info.set(path, BPF_MATCH.pathAt);
  return info;
}

function decodeBpfMatch(a: Attributes): Expr | undefined {
  const [name, revision, info] = [a.get(1)?.text(), a.u32(2), a.get(3)];
  if (name !== BPF_MATCH.name || revision !== BPF_MATCH.revision || info?.u16() !== BPF_MATCH.mode) return undefined;
  const program = info.slice(BPF_MATCH.pathAt, BPF_MATCH.pathAt + BPF_MATCH.pathBytes)?.text();
  return program === undefined ? undefined : { op: "bpf", program };
}

/** Attributes of one expression's data. `get` marks an attribute as understood; `complete` says that none is left over. */
class Attributes {
  readonly #spans: ReadonlyMap<number, Span>;
  readonly #read = new Set<number>();

  constructor(spans: ReadonlyMap<number, Span>) {
    this.#spans = spans;
  }

  get(type: number): Span | undefined {
    this.#read.add(type);
    return this.#spans.get(type);
  }
  u32(type: number): number | undefined {
    return this.get(type)?.u32Be();
  }
  slot(type: number): number | undefined {
    return slotOf(this.u32(type));
  }
  /** Hex of the NFTA_DATA_VALUE inside. */
  value(type: number): string | undefined {
    return this.get(type)?.attributes()?.get(NFTA_DATA_VALUE)?.hex();
  }
  complete(): boolean {
    for (const type of this.#spans.keys()) if (!this.#read.has(type)) return false;
    return true;
  }
}

const COUNTER = "counter";

/** Whether a NFTA_LIST_ELEM is a counter, by the name with which the kernel begins it. */
export function isCounter(element: Span): boolean {
  // Length and type of the first attribute, then the name with its NUL.
  if (element.u16() !== COUNTER.length + 5 || element.u16(2) !== NFTA_EXPR_NAME) return false;
  return element.slice(4, 4 + COUNTER.length)?.text() === COUNTER;
}

const NO_DATA: ReadonlyMap<number, Span> = new Map();

/** One NFTA_LIST_ELEM; a counter's packets and bytes go to `count`. undefined when `Expr` cannot say what it does. */
export function decodeExpression(element: Span, count: (packets: bigint, bytes: bigint) => void): Expr | undefined {
  const parts = element.attributes();
  const name = parts?.get(NFTA_EXPR_NAME)?.text();
  // An expression without parameters is reported without data.
  const spans = name === "notrack" ? NO_DATA : parts?.get(NFTA_EXPR_DATA)?.attributes();
  if (name === undefined || spans === undefined) return undefined;
  const attributes = new Attributes(spans);
  const expr = decodeData(name, attributes, count);
  return expr !== undefined && attributes.complete() ? expr : undefined;
}

function decodeData(name: string, a: Attributes, count: (packets: bigint, bytes: bigint) => void): Expr | undefined {
  switch (name) {
    case "payload":
      return decodePayload(a);
    case "meta":
      return decodeMeta(a);
    case "notrack":
      return { op: "notrack" };
    case "match":
      return decodeBpfMatch(a);
    case "log": {
      const prefix = a.get(2)?.text();
      return prefix === undefined || a.u32(5) !== LOG_LEVEL_WARNING ? undefined : { op: "log", prefix };
    }
    case "ct": {
      const slot = a.slot(1);
      return slot === undefined || a.u32(2) !== NFT_CT_STATE ? undefined : { op: "ct", key: "state", register: slot };
    }
    case "cmp": {
      const slot = a.slot(1);
      const compare = COMPARISONS[a.u32(2) ?? -1];
      const data = a.value(3);
      return slot === undefined || compare === undefined || data === undefined
        ? undefined
        : { op: "cmp", compare, register: slot, data };
    }
    case "range": {
      const slot = a.slot(1);
      const compare = a.u32(2) === 0 ? "eq" : a.u32(2) === 1 ? "neq" : undefined;
      const from = a.value(3);
      const to = a.value(4);
      if (slot === undefined || compare === undefined || from === undefined || to === undefined) return undefined;
      return { op: "range", compare, register: slot, from, to };
    }
    case "bitwise":
      return decodeBitwise(a);
    case "lookup":
      return decodeLookup(a);
    case "counter": {
      const bytes = a.get(1)?.u64Be();
      const packets = a.get(2)?.u64Be();
      if (bytes !== undefined && packets !== undefined) count(packets, bytes);
      return { op: "counter" };
    }
    case "flow_offload": {
      const flowtable = a.get(1)?.text();
      return flowtable === undefined ? undefined : { op: "flow-offload", flowtable };
    }
    case "immediate": {
      if (a.u32(1) !== NFT_REG_VERDICT) return undefined;
      const verdict = decodeVerdict(a.get(2));
      return verdict === undefined ? undefined : { op: "verdict", verdict };
    }
    default:
      return undefined;
  }
}

/** Source register: the expression writes; destination register: it reads. */
function decodeMeta(a: Attributes): Expr | undefined {
  const key = META_NAMES.get(a.u32(2) ?? -1);
  const to = a.slot(1);
  const from = a.slot(3);
  if (key === undefined) return undefined;
  if (to !== undefined) return from === undefined ? { op: "meta", key, register: to } : undefined;
  return from === undefined || key !== "mark" ? undefined : { op: "meta-set", key, register: from };
}

function decodePayload(a: Attributes): Expr | undefined {
  const slot = a.slot(1);
  const base = a.u32(2);
  const offset = a.u32(3);
  const length = a.u32(4);
  if (slot === undefined || offset === undefined || length === undefined) return undefined;
  if (base !== NETWORK_HEADER && base !== TRANSPORT_HEADER) return undefined;
  return { op: "payload", base: base === NETWORK_HEADER ? "network" : "transport", offset, length, register: slot };
}

function decodeBitwise(a: Attributes): Expr | undefined {
  const source = a.slot(1);
  const destination = a.slot(2);
  const length = a.u32(3);
  const mask = a.value(4);
  const xor = a.value(5);
  // NFT_BITWISE_MASK_XOR; kernels before 5.6 know no other operation and do not report it.
  if ((a.u32(6) ?? 0) !== 0) return undefined;
  if (source === undefined || destination === undefined || mask === undefined || xor === undefined) return undefined;
  if (length === undefined || mask.length !== length * 2 || xor.length !== length * 2) return undefined;
  return { op: "bitwise", source, destination, mask, xor };
}

function decodeLookup(a: Attributes): Expr | undefined {
  const set = a.get(1)?.text();
  const slot = a.slot(2);
  const target = a.get(3);
  const flags = a.get(5);
  const inverted = flags === undefined ? 0 : flags.u32Be();
  if (set === undefined || slot === undefined || inverted === undefined || inverted > NFT_LOOKUP_F_INV)
    return undefined;
  if (target === undefined) return { op: "lookup", set, register: slot, not: inverted === NFT_LOOKUP_F_INV };
  return target.u32Be() === NFT_REG_VERDICT && inverted === 0
    ? { op: "verdict-map", map: set, register: slot }
    : undefined;
}
