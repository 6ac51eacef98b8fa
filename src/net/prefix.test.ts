import { expect, test } from "bun:test";
import { unwrap } from "../lib/result.ts";
import { addrFromInteger, addrToInteger, bitsOf, FAMILIES } from "./addr.ts";
import { parsePrefix, prefixContains, prefixRange } from "./prefix.ts";

test("a prefix of any length contains its first and last address, and neither neighbor", () => {
  for (const family of FAMILIES)
    for (let length = 0; length <= bitsOf(family); length++) {
      const prefix = unwrap(
        parsePrefix(`${family === 4 ? "172.30.163.85" : "fd12:3456:789a:bcde:f012:3456:789a:bcde"}/${length}`),
      );
      const { first, last } = prefixRange(prefix);
      const most = 2n ** BigInt(bitsOf(family)) - 1n;
      const contains = (value: bigint): boolean =>
        value >= 0n && value <= most && prefixContains(prefix, addrFromInteger(family, value));
      const what = `${prefix}`;
      expect([what, contains(first), contains(last)]).toEqual([what, true, true]);
      if (length === 0) continue;
      expect([what, contains(first - 1n), contains(last + 1n)]).toEqual([what, false, false]);
    }
});

test("no prefix contains an address of the other family", () => {
  expect(prefixContains(unwrap(parsePrefix("::/0")), addrFromInteger(4, 1n))).toBe(false);
  expect(
    prefixContains(unwrap(parsePrefix("0.0.0.0/0")), addrFromInteger(6, addrToInteger(addrFromInteger(4, 1n)))),
  ).toBe(false);
});
