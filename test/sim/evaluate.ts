/**
 * Evaluate: what the table of a fake kernel does with one packet, by its chains as they are there. What cannot be decided is `unsure`, which
 * whoever asks takes for open.
 */
import { bytesToHex } from "../../src/lib/bytes.ts";
import { type Addr, addrBytes, familyOf } from "../../src/net/addr.ts";
import { GOTO } from "../../src/kernel/fake/nftables/expressions.ts";
import type { FakeChain, FakeRule, FakeTable } from "../../src/kernel/fake/nftables/objects.ts";
import type { FakeExpression, FakeVerdict } from "../../src/kernel/fake/nftables/values.ts";

/** The first packet of a datagram flow. */
export interface Packet {
  readonly input: string;
  readonly output: string;
  readonly source: Addr;
  readonly destination: Addr;
}

export type Fate = "accept" | "drop" | "unsure";

const HOOKS = { input: 1, forward: 2 } as const;
const NEW = "08000000";
const UDP = "11";
/** NFT_META_MARK. */
const MARK = 3;

/** A packet on its way, with the mark that rules have written on it. */
interface Traveller extends Packet {
  readonly mark: { value: string };
}

/** Of all base chains of the hook, in their order. */
export function fateOf(table: FakeTable | undefined, hook: keyof typeof HOOKS, packet: Packet): Fate {
  const chains = [...(table?.chains.values() ?? [])]
    .filter(({ base }) => base?.hook === HOOKS[hook])
    .sort((a, b) => (a.base?.priority ?? 0) - (b.base?.priority ?? 0));
  if (table === undefined || (table.flags & 1) !== 0) return "accept";
  const traveller = { ...packet, mark: { value: "00000000" } };
  for (const chain of chains) {
    const fate = runChain(table, chain, traveller) ?? (chain.base?.policy === 0 ? "drop" : "accept");
    if (fate !== "accept") return fate;
  }
  return "accept";
}

/** undefined: the chain came to its end. */
function runChain(table: FakeTable, chain: FakeChain, packet: Traveller): Fate | undefined {
  for (const rule of chain.rules) {
    const verdict = runRule(table, rule, packet);
    if (verdict === "unsure") return "unsure";
    if (verdict === undefined) continue;
    if (verdict.code === 1) return "accept";
    if (verdict.code === 0) return "drop";
    if (verdict.code === -5) return undefined;
    const next = verdict.chain === undefined ? undefined : table.chains.get(verdict.chain);
    if (next === undefined) continue;
    const fate = runChain(table, next, packet);
    if (fate !== undefined || verdict.code === GOTO) return fate;
  }
  return undefined;
}

type Registers = Map<number, string>;

/** undefined: the rule does not match, or says nothing. */
function runRule(table: FakeTable, { expressions }: FakeRule, packet: Traveller): FakeVerdict | "unsure" | undefined {
  const registers: Registers = new Map();
  for (const expression of expressions) {
    const result = step(table, expression, packet, registers);
    if (result === "break") return undefined;
    if (result !== "next") return result;
  }
  return undefined;
}

function number(expression: FakeExpression, type: number): number {
  const value = expression.attributes.get(type);
  return value?.as === "u32" || value?.as === "register" ? value.value : 0;
}

/** First 32-bit slot of a register. */
function slot(expression: FakeExpression, type: number): number {
  const register = number(expression, type);
  return register >= 8 ? register - 8 : (register - 1) * 4;
}

/** Of the data of rules, which do not change. */
const hexOf = new WeakMap<Uint8Array, string>();

function data(expression: FakeExpression, type: number): string {
  const value = expression.attributes.get(type);
  if (value?.as !== "data") return "";
  const known = hexOf.get(value.bytes);
  if (known !== undefined) return known;
  const hex = bytesToHex(value.bytes);
  hexOf.set(value.bytes, hex);
  return hex;
}

function load(registers: Registers, at: number, digits: number): string | undefined {
  let text = "";
  for (let word = at; text.length < digits; word++) {
    const part = registers.get(word);
    if (part === undefined) return undefined;
    text += part;
  }
  return text.slice(0, digits);
}

function store(registers: Registers, at: number, hex: string): void {
  for (let i = 0; i < hex.length; i += 8) registers.set(at + i / 8, hex.slice(i, i + 8).padEnd(8, "0"));
}

type Step = FakeVerdict | "unsure" | "next" | "break";

function step(table: FakeTable, e: FakeExpression, packet: Traveller, registers: Registers): Step {
  switch (e.name) {
    case "counter":
    case "notrack":
    case "log":
      return "next";
    case "immediate":
      return e.verdict ?? "unsure";
    case "meta":
    case "ct":
    case "payload": {
      if (e.name === "meta" && e.attributes.has(3)) return setMark(e, packet, registers);
      const value = e.name === "ct" ? NEW : e.name === "meta" ? metaOf(number(e, 2), packet) : payloadOf(e, packet);
      if (value === undefined) return "unsure";
      store(registers, slot(e, 1), value);
      return "next";
    }
    case "cmp": {
      const wanted = data(e, 3);
      const value = load(registers, slot(e, 1), wanted.length);
      if (value === undefined) return "unsure";
      const holds = [
        value === wanted,
        value !== wanted,
        value < wanted,
        value <= wanted,
        value > wanted,
        value >= wanted,
      ];
      return holds[number(e, 2)] === true ? "next" : "break";
    }
    case "range": {
      const [from, to] = [data(e, 3), data(e, 4)];
      const value = load(registers, slot(e, 1), from.length);
      if (value === undefined) return "unsure";
      return (value >= from && value <= to) === (number(e, 2) === 0) ? "next" : "break";
    }
    case "bitwise":
      return bitwise(e, registers);
    case "lookup":
      return lookup(table, e, registers);
    default:
      return "unsure";
  }
}

function bitwise(e: FakeExpression, registers: Registers): Step {
  const [mask, flipped] = [data(e, 4), data(e, 5)];
  const value = load(registers, slot(e, 1), mask.length);
  if (value === undefined) return "unsure";
  let masked = "";
  for (let i = 0; i < mask.length; i += 8) {
    const [word, and, xor] = [value, mask, flipped].map((hex) => Number.parseInt(hex.slice(i, i + 8), 16));
    const digits = Math.min(8, mask.length - i);
    masked += ((((word ?? 0) & (and ?? 0)) ^ (xor ?? 0)) >>> 0).toString(16).padStart(digits, "0");
  }
  store(registers, slot(e, 2), masked);
  return "next";
}

/** Sets of plain keys; of ranges it is not asked. */
function lookup(table: FakeTable, e: FakeExpression, registers: Registers): Step {
  const set = e.set === undefined ? undefined : table.sets.get(e.set);
  const key = set === undefined ? undefined : load(registers, slot(e, 2), set.is.keyLength * 2);
  if (set === undefined || key === undefined || (set.is.flags & 4) !== 0) return "unsure";
  const found = set.elements.get(key);
  if (e.attributes.has(3)) return found?.verdict ?? "break";
  return (found !== undefined) !== (number(e, 5) === 1) ? "next" : "break";
}

function setMark(e: FakeExpression, { mark }: Traveller, registers: Registers): Step {
  const value = load(registers, slot(e, 3), 8);
  if (number(e, 2) !== MARK || value === undefined) return "unsure";
  mark.value = value;
  return "next";
}

function metaOf(key: number, { input, output, source, mark }: Traveller): string | undefined {
  const name = (text: string): string => bytesToHex(new TextEncoder().encode(text)).padEnd(32, "0");
  if (key === 6) return name(input);
  if (key === 7) return name(output);
  if (key === MARK) return mark.value;
  if (key === 15) return familyOf(source) === 4 ? "02" : "0a";
  return key === 16 ? UDP : undefined;
}

function payloadOf(e: FakeExpression, { source, destination }: Packet): string | undefined {
  if (number(e, 2) !== 1) return "00".repeat(number(e, 4));
  return headerOf(source, destination).slice(number(e, 3) * 2, (number(e, 3) + number(e, 4)) * 2);
}

/** Its addresses alone are there. */
function headerOf(source: Addr, destination: Addr): string {
  return `${"00".repeat(familyOf(source) === 4 ? 12 : 8)}${addressHex(source)}${addressHex(destination)}`;
}

/** The same few pods are asked about again and again. */
const hexOfAddress = new Map<Addr, string>();

function addressHex(addr: Addr): string {
  const known = hexOfAddress.get(addr);
  if (known !== undefined) return known;
  const hex = bytesToHex(addrBytes(addr));
  hexOfAddress.set(addr, hex);
  return hex;
}
