/**
 * Expressions of rules as the fake kernel takes them: attributes checked and kept as sent, and reported as the kernel reports them.
 *
 * Source: linux net/netfilter/nf_tables_api.c (registers), nft_payload.c, nft_meta.c, nft_cmp.c, nft_range.c, nft_bitwise.c,
 * nft_lookup.c, nft_immediate.c, nft_ct.c, nft_counter.c, nft_flow_offload.c.
 */
import { EINVAL, ENOENT, EOPNOTSUPP } from "../../errno.ts";
import type { Span } from "../../netlink/reader.ts";
import type { Writer } from "../../netlink/writer.ts";
import {
  NFTA_DATA_VALUE,
  NFTA_DATA_VERDICT,
  NFTA_EXPR_DATA,
  NFTA_EXPR_NAME,
  NFTA_LIST_ELEM,
  NFTA_VERDICT_CHAIN,
  NFTA_VERDICT_CODE,
  NFT_SET_MAP,
} from "../../nftables/wire.ts";
import { ENODATA, ERANGE, refuse, required, unmodelled } from "../refusal.ts";
import type { FakeTable } from "./objects.ts";
import type { FakeExpression, FakeValue, FakeVerdict } from "./values.ts";

export const JUMP = -3;
export const GOTO = -4;
/** NFT_RETURN, NFT_BREAK and NFT_CONTINUE besides, and NF_DROP and NF_ACCEPT. */
const PLAIN_CODES: ReadonlySet<number> = new Set([-5, -1, 0, 1]);

/** Of NFT_REG_1 to NFT_REG_4 and NFT_REG32_00 to NFT_REG32_15, the first word: words 0 to 3 are the verdict. */
const WORDS = 20;
const FIRST_DATA_WORD = 4;
const REG32_00 = 8;
const META_LENGTHS: ReadonlyMap<number, number> = new Map([
  [3, 4],
  [6, 16],
  [7, 16],
  [15, 1],
  [16, 1],
]);
const CT_STATE = 0;
const META_MARK = 3;
const LOG_LEVEL_WARNING = 4;
const VERDICT_REGISTER = 0;
const LOOKUP_INVERTED = 1;

/** Which words of the registers a rule has written so far. */
class Registers {
  readonly #written = new Set<number>();

  #word(register: number): number {
    if (register >= 1 && register <= 4) return register * 4;
    if (register >= REG32_00 && register < REG32_00 + 16) return register + 4 - REG32_00;
    return register === VERDICT_REGISTER ? 0 : refuse(ERANGE);
  }

  /** nft_parse_register_load. */
  load(register: number, length: number): number {
    const word = this.#word(register);
    if (word < FIRST_DATA_WORD || length === 0) refuse(EINVAL);
    if (word * 4 + length > WORDS * 4) refuse(ERANGE);
    for (let i = word; i < word + Math.ceil(length / 4); i++) if (!this.#written.has(i)) refuse(ENODATA);
    return register;
  }

  /** nft_parse_register_store, of data. */
  store(register: number, length: number): number {
    const word = this.#word(register);
    if (word < FIRST_DATA_WORD || length === 0) refuse(EINVAL);
    if (word * 4 + length > WORDS * 4) refuse(ERANGE);
    for (let i = word; i < word + Math.ceil(length / 4); i++) this.#written.add(i);
    return register;
  }
}

interface Context {
  readonly table: FakeTable;
  readonly registers: Registers;
  readonly attributes: ReadonlyMap<number, Span>;
  readonly out: Map<number, FakeValue>;
}

/** The expressions of one rule. Throws Refusal. */
export function parseExpressions(list: Span | undefined, table: FakeTable): FakeExpression[] {
  const expressions: FakeExpression[] = [];
  const registers = new Registers();
  const whole = list?.eachAttribute((type, element) => {
    if (type !== NFTA_LIST_ELEM) refuse(EINVAL);
    const parts = required(element.attributes());
    const name = required(parts.get(NFTA_EXPR_NAME)).text();
    const data = parts.get(NFTA_EXPR_DATA);
    const attributes = data === undefined ? new Map<number, Span>() : required(data.attributes());
    expressions.push(parseOne(name, { table, registers, attributes, out: new Map() }));
  });
  if (whole === false) refuse(EINVAL);
  return expressions;
}

function parseOne(name: string, context: Context): FakeExpression {
  const parse = PARSERS[name];
  if (parse === undefined) return unmodelled(`the expression ${name}`);
  const { set, verdict, flowtable } = parse(context);
  for (const type of context.attributes.keys())
    if (!context.out.has(type)) unmodelled(`attribute ${type} of the expression ${name}`);
  return { name, attributes: context.out, set, verdict, ...(flowtable === undefined ? {} : { flowtable }) };
}

const NOTHING = { set: undefined, verdict: undefined };

function u32({ attributes, out }: Context, type: number): number {
  const value = required(attributes.get(type)?.u32Be());
  out.set(type, { as: "u32", value });
  return value;
}

function register(context: Context, type: number): number {
  const value = required(context.attributes.get(type)?.u32Be());
  context.out.set(type, { as: "register", value });
  return value;
}

function data({ attributes, out }: Context, type: number): Uint8Array {
  const bytes = required(attributes.get(type)?.attributes()?.get(NFTA_DATA_VALUE)).copy();
  out.set(type, { as: "data", bytes });
  return bytes;
}

const PARSERS: Readonly<
  Record<
    string,
    (context: Context) => { set: string | undefined; verdict: FakeVerdict | undefined; flowtable?: string }
  >
> = {
  payload: (c) => {
    const target = register(c, 1);
    if (u32(c, 2) > 2) refuse(EOPNOTSUPP);
    u32(c, 3);
    c.registers.store(target, u32(c, 4));
    return NOTHING;
  },
  meta: (c) => {
    const key = u32(c, 2);
    if (c.attributes.has(3)) {
      if (key !== META_MARK) unmodelled(`writing the meta key ${key}`);
      c.registers.load(register(c, 3), 4);
      return NOTHING;
    }
    const target = register(c, 1);
    c.registers.store(target, META_LENGTHS.get(key) ?? unmodelled(`the meta key ${key}`));
    return NOTHING;
  },
  ct: (c) => {
    const target = register(c, 1);
    const key = u32(c, 2);
    c.registers.store(target, key === CT_STATE ? 4 : unmodelled(`the ct key ${key}`));
    return NOTHING;
  },
  cmp: (c) => {
    const source = register(c, 1);
    if (u32(c, 2) > 5) refuse(EINVAL);
    c.registers.load(source, data(c, 3).length);
    return NOTHING;
  },
  range: (c) => {
    const source = register(c, 1);
    if (u32(c, 2) > 1) refuse(EINVAL);
    const from = data(c, 3);
    if (data(c, 4).length !== from.length) refuse(EINVAL);
    c.registers.load(source, from.length);
    return NOTHING;
  },
  bitwise: (c) => {
    const source = register(c, 1);
    const target = register(c, 2);
    const length = u32(c, 3);
    c.registers.load(source, length);
    c.registers.store(target, length);
    if (data(c, 4).length !== length || data(c, 5).length !== length) refuse(EINVAL);
    // NFT_BITWISE_MASK_XOR, reported also where it was not sent.
    c.out.set(6, { as: "u32", value: 0 });
    return NOTHING;
  },
  lookup: parseLookup,
  notrack: () => NOTHING,
  log: (c) => {
    c.out.set(2, { as: "text", text: required(c.attributes.get(2)).text() });
    // Reported also where it was not sent.
    c.out.set(5, { as: "u32", value: LOG_LEVEL_WARNING });
    return NOTHING;
  },
  counter: (c) => {
    c.out.set(1, { as: "u32", value: 0 });
    c.out.set(2, { as: "u32", value: 0 });
    return NOTHING;
  },
  flow_offload: (c) => {
    const flowtable = required(c.attributes.get(1)).text();
    if (!c.table.flowtables.has(flowtable)) refuse(ENOENT);
    c.out.set(1, { as: "text", text: flowtable });
    return { ...NOTHING, flowtable };
  },
  immediate: (c) => {
    if (u32(c, 1) !== VERDICT_REGISTER) unmodelled("immediate data");
    const verdict = parseVerdict(c.attributes.get(2), c.table);
    c.out.set(2, { as: "verdict", verdict });
    return { set: undefined, verdict };
  },
};

function parseLookup(c: Context): { set: string | undefined; verdict: FakeVerdict | undefined } {
  const name = required(c.attributes.get(1)).text();
  const set = c.table.sets.get(name) ?? refuse(ENOENT);
  c.out.set(1, { as: "text", text: name });
  const flags = c.attributes.get(5)?.u32Be() ?? 0;
  if ((flags & ~LOOKUP_INVERTED) !== 0) refuse(EINVAL);
  c.out.set(5, { as: "u32", value: flags });
  c.registers.load(register(c, 2), set.is.keyLength);
  if (c.attributes.has(3)) {
    if (flags !== 0 || (set.is.flags & NFT_SET_MAP) === 0) refuse(EINVAL);
    if (register(c, 3) !== VERDICT_REGISTER) unmodelled("maps of data");
  }
  return { set: name, verdict: undefined };
}

/** `nested` holds the NFTA_DATA_VERDICT. Throws Refusal: a chain that is not there, a base chain. */
export function parseVerdict(nested: Span | undefined, table: FakeTable): FakeVerdict {
  const parts = required(nested?.attributes()?.get(NFTA_DATA_VERDICT)?.attributes());
  const code = required(parts.get(NFTA_VERDICT_CODE)?.i32Be());
  if (PLAIN_CODES.has(code)) return { code, chain: undefined };
  if (code !== JUMP && code !== GOTO) return refuse(EINVAL);
  const chain = required(parts.get(NFTA_VERDICT_CHAIN)).text();
  const found = table.chains.get(chain) ?? refuse(ENOENT);
  if (found.base !== undefined) refuse(EOPNOTSUPP);
  return { code, chain };
}

/** Writes NFTA_DATA_VERDICT. */
export function writeVerdict(w: Writer, { code, chain }: FakeVerdict): void {
  const nested = w.open(NFTA_DATA_VERDICT);
  w.i32Be(NFTA_VERDICT_CODE, code);
  if (chain !== undefined) w.text(NFTA_VERDICT_CHAIN, chain);
  w.close(nested);
}

/** Writes one NFTA_LIST_ELEM; counters with what they counted. */
export function writeExpression(w: Writer, { name, attributes }: FakeExpression, packets: bigint, bytes: bigint): void {
  const element = w.open(NFTA_LIST_ELEM);
  w.text(NFTA_EXPR_NAME, name);
  if (attributes.size === 0) return w.close(element);
  const body = w.open(NFTA_EXPR_DATA);
  for (const [type, value] of attributes) {
    if (name === "counter") w.u64Be(type, type === 1 ? bytes : packets);
    else writeValue(w, type, value);
  }
  w.close(body);
  w.close(element);
}

function writeValue(w: Writer, type: number, value: FakeValue): void {
  if (value.as === "text") return w.text(type, value.text);
  if (value.as === "u32") return w.u32Be(type, value.value);
  // nft_dump_register: multiples of four words by the old names.
  if (value.as === "register") {
    const slot = value.value - REG32_00;
    return w.u32Be(type, slot >= 0 && slot % 4 === 0 ? slot / 4 + 1 : value.value);
  }
  const nested = w.open(type);
  if (value.as === "data") w.bytesOf(NFTA_DATA_VALUE, value.bytes);
  else writeVerdict(w, value.verdict);
  w.close(nested);
}
