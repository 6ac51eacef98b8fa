import { constants } from "node:os";
import { expect, test } from "bun:test";
import { checkResult, errnoName, formatErrno, KernelError } from "./errno.ts";

test("names are the platform's", () => {
  // The platform has two names for some numbers.
  const aliases = new Set(["EWOULDBLOCK", "ENOTSUP"]);
  for (const [name, number] of Object.entries(constants.errno))
    if (!aliases.has(name)) expect(errnoName(number)).toBe(name);
  expect(errnoName(9999)).toBe("errno 9999");
  expect(formatErrno(17)).toBe("EEXIST (file exists)");
});

test("messages name action, object and cause", () => {
  expect(new KernelError("add route", "10.0.0.1/32", 17).message).toBe(
    "Cannot add route 10.0.0.1/32: EEXIST (file exists)",
  );
  expect(new KernelError("list links", "", 1, "not you").message).toBe(
    "Cannot list links: EPERM (operation not permitted): not you",
  );
  expect(checkResult("open", "x", 3)).toBe(3);
  expect(() => checkResult("open", "x", -2)).toThrow("Cannot open x: ENOENT");
});
