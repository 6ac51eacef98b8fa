/** header-match: matches of an address by its prefix and of the type of ICMPv6, as the path asks for them. */
import type { Expr } from "../../kernel/nftables/objects.ts";
import { addrBytes } from "../../net/addr.ts";
import { prefixAddr, prefixFamily, prefixLength, type Prefix } from "../../net/prefix.ts";
import { ICMPV6 } from "../../net/protocol.ts";
import type { Side } from "../../program/policy.ts";
import { hex, hex8 } from "./bytes.ts";
import { isProtocol, loadAddr } from "./match.ts";

/** The other operand of a comparison under a mask of 32 bits. */
export const ZERO = "00000000";

/** Whole bytes are compared as they are, as `nft` does it; other lengths by their bits. */
export function isIn(prefix: Prefix, side: Side): Expr[] {
  const family = prefixFamily(prefix);
  const length = prefixLength(prefix);
  const bytes = addrBytes(prefixAddr(prefix));
  const load = loadAddr(side, family, 0);
  if (load.op !== "payload" || length === 0) return [];
  if (length % 8 === 0)
    return [
      { ...load, length: length / 8 },
      { op: "cmp", compare: "eq", register: 0, data: hex(bytes.subarray(0, length / 8)) },
    ];
  const mask = hex(bytes.map((_, i) => 0xff & ~(0xff >>> Math.max(0, Math.min(8, length - i * 8)))));
  return [
    load,
    { op: "bitwise", source: 0, destination: 0, mask, xor: ZERO.repeat(bytes.length / 4) },
    { op: "cmp", compare: "eq", register: 0, data: hex(bytes) },
  ];
}

export function icmp6Type(from: number, to: number): Expr[] {
  return [
    ...isProtocol(ICMPV6, "eq"),
    { op: "payload", base: "transport", offset: 0, length: 1, register: 0 },
    { op: "range", compare: "eq", register: 0, from: hex8(from), to: hex8(to) },
  ];
}
