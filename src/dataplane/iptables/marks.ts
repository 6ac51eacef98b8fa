/**
 * marks: two bits of the packet's mark, in which a policy's chain tells the chain that jumped to it what it decided. They are clean whenever
 * a stage begins, and again when it has ended. Upstream: the upper half of the mark (IptablesMarkMask).
 */
import { marked, type Match, setMark, type Target } from "../../kernel/iptables/rule.ts";

const BITS = { allowed: 0x10000, passed: 0x20000 } as const;

export type Mark = keyof typeof BITS;

export function mark(which: Mark): Target {
  return setMark(BITS[which], BITS[which]);
}

export const CLEAR: Target = setMark(0, BITS.allowed | BITS.passed);

export function hasMark(which: Mark): Match {
  return { extensions: [marked(BITS[which])] };
}
