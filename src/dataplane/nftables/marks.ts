/**
 * marks: two bits of the packet's mark, in which a policy chain tells the chain that jumped to it what it decided. They are clean
 * whenever a policy chain begins, and again when the stage has ended. Upstream: the upper half of the mark (IptablesMarkMask).
 */
import type { Expr } from "../../kernel/nftables/objects.ts";

/** u32 in host order (little-endian), as the kernel compares it. */
const ALLOWED = "00000100";
const PASSED = "00000200";
const EITHER = "00000300";
const NONE = "00000000";
const ALL = "ffffffff";

const LOAD: Expr = { op: "meta", key: "mark", register: 0 };
const STORE: Expr = { op: "meta-set", key: "mark", register: 0 };

export type Mark = "allowed" | "passed";

function bitOf(mark: Mark): string {
  return mark === "allowed" ? ALLOWED : PASSED;
}

export function setMark(mark: Mark): Expr[] {
  return [LOAD, { op: "bitwise", source: 0, destination: 0, mask: invert(bitOf(mark)), xor: bitOf(mark) }, STORE];
}

export function clearMarks(): Expr[] {
  return [LOAD, { op: "bitwise", source: 0, destination: 0, mask: invert(EITHER), xor: NONE }, STORE];
}

export function hasMark(mark: Mark): Expr[] {
  return [
    LOAD,
    { op: "bitwise", source: 0, destination: 0, mask: bitOf(mark), xor: NONE },
    { op: "cmp", compare: "neq", register: 0, data: NONE },
  ];
}

function invert(mask: string): string {
  const value = (Number.parseInt(ALL, 16) ^ Number.parseInt(mask, 16)) >>> 0;
  return value.toString(16).padStart(8, "0");
}
