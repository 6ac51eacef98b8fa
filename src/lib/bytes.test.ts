import { expect, test } from "bun:test";
import { bytesFromHex, bytesToHex, hexInto } from "./bytes.ts";

test("every byte round-trips", () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  const hex = bytesToHex(bytes);
  expect(hex.slice(0, 6)).toBe("000102");
  expect(bytesFromHex(hex)).toEqual(bytes);
  expect(bytesToHex(bytes, 254)).toBe("feff");
});

test("what is not lower-case hex of whole bytes is refused", () => {
  for (const text of ["0", "0g", "FF", " 0", "0x"]) expect(bytesFromHex(text)).toBeUndefined();
});

test("hexInto does not write past the target", () => {
  const target = new Uint8Array(2);
  expect(hexInto("ffff", target, 1)).toBeUndefined();
  expect(target).toEqual(new Uint8Array(2));
  expect(hexInto("ff", target, 1)).toBe(1);
  expect(target).toEqual(Uint8Array.of(0, 255));
});
