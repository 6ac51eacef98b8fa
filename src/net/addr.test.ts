import { expect, test } from "bun:test";
import { isIPv6 } from "node:net";
import fc from "fast-check";
import { addrBytes, addrFromBytes, addrFromInteger, addrToInteger, parseAddr } from "./addr.ts";

/** As the platform reads an address; undefined: it is none. The form of URLs is that of RFC 5952; Bun's reads not all with an IPv4 part. */
function byPlatform(text: string): string | undefined {
  if (!isIPv6(text)) return undefined;
  const [four, ...bytes] = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text) ?? [];
  const [a = 0, b = 0, c = 0, d = 0] = bytes.map(Number);
  const hex = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  return new URL(`http://[${four === undefined ? text : text.replace(four, hex)}]/`).hostname.slice(1, -1);
}

const group = fc.integer({ min: 0, max: 0xffff }).map((value) => value.toString(16));
const part = fc.oneof(
  { weight: 6, arbitrary: group },
  { weight: 4, arbitrary: fc.constant(":") },
  { weight: 1, arbitrary: fc.constantFrom("::", "0", "12345", "G", "1.2.3.4", "1.2.3.256", ".", "") },
);
/** Nearly right. */
const groups = fc.array(group, { minLength: 6, maxLength: 9 }).map((all) => all.join(":"));
const gapped = fc.tuple(fc.array(group, { maxLength: 8 }), fc.array(group, { maxLength: 8 }));
const texts = fc.oneof(
  fc.array(part, { maxLength: 17 }).map((parts) => parts.join("")),
  groups,
  gapped.map(([head, tail]) => `${head.join(":")}::${tail.join(":")}`),
  gapped.map(([head]) => `${head.join(":")}::10.0.0.1`),
);

test("an address of IPv6 is read as the platform reads it, or refused as there", () => {
  fc.assert(
    fc.property(texts, (text) => {
      if (!text.includes(":")) return;
      const read = parseAddr(text);
      expect(read.ok ? (read.value as string) : undefined).toBe(byPlatform(text));
    }),
    { numRuns: 5_000, seed: 7 },
  );
});

test.each([
  "1:2:3:4:5:6:7:8::",
  "1:2:3:4::5:6:7:8",
  "12345::",
  "::12345",
  "1::2::3",
  ":::",
  ":1::",
  "1::2:",
  "::1.2.3",
  "1:",
])("%s is no address", (text) => expect(parseAddr(text).ok).toBe(false));

test("bytes and integers of an address lead back to it", () => {
  for (const length of [4, 16])
    fc.assert(
      fc.property(fc.uint8Array({ minLength: length, maxLength: length }), (bytes) => {
        const addr = addrFromBytes(bytes);
        expect([...addrBytes(addr)]).toEqual([...bytes]);
        const value = addrToInteger(addr);
        expect(value).toBe(BigInt(`0x${bytes.toHex()}`));
        expect(addrFromInteger(length === 4 ? 4 : 6, value)).toBe(addr);
      }),
      { seed: 7 },
    );
});
