import { expect, test } from "bun:test";
import { describeStart } from "./node.ts";

const ROUTES = { name: "routes", pending: 0, writes: 3, error: undefined };

test("that the kernel agrees is said only when it does", () => {
  expect(describeStart([ROUTES])).toBe("in sync: the kernel agrees with the datastore");
  expect(describeStart([ROUTES, { ...ROUTES, name: "nftables", pending: 7, error: "Cannot add set: ENOMEM" }])).toBe(
    "in sync with the datastore, but not yet the kernel: nftables: Cannot add set: ENOMEM",
  );
  expect(describeStart([{ ...ROUTES, pending: 2 }])).toBe(
    "in sync with the datastore, but not yet the kernel: routes: 2 rows wait for their interfaces",
  );
});
