import { expect, test } from "bun:test";
import { addrFromInteger } from "./addr.ts";
import { addressesOf, ordinalIn } from "./ordinal.ts";
import { type Prefix, prefixRange } from "./prefix.ts";

test.each([
  "10.0.0.0/26",
  "10.0.0.192/26",
  "10.1.240.0/20",
  "255.255.255.255/32",
  "fd00::/122",
  "fd00::40/122",
  "fd00:0:0:1::f000/116",
  // The longest run of zeros is elsewhere as soon as the last group is not 0.
  "a:0:0:b:c::/122",
  "a:0:0:b::c:0/120",
  "1:2:3:4:5:6:7:0/116",
  "1:2:3:4:5:6:7:8/128",
  "::/112",
] as Prefix[])("the addresses of %s by number are those of its range", (prefix) => {
  const { family, first, last } = prefixRange(prefix);
  const at = addressesOf(prefix);
  for (let value = first; value <= last; value++) {
    expect(at(Number(value - first))).toBe(addrFromInteger(family, value));
    expect(ordinalIn(prefix, addrFromInteger(family, value))).toBe(Number(value - first));
  }
});
