import { expect, test } from "bun:test";
import { describeStart } from "./node.ts";

const ROUTES = { name: "routes", pending: 0, writes: 3, error: undefined, rows: [] };

test("that the kernel agrees is said only when it does", () => {
  expect(describeStart([ROUTES])).toBe("in sync: the kernel agrees with the datastore");
  expect(describeStart([ROUTES, { ...ROUTES, name: "nftables", pending: 7, error: "Cannot add set: ENOMEM" }])).toBe(
    "in sync with the datastore, but not yet the kernel: nftables: Cannot add set: ENOMEM",
  );
  expect(describeStart([{ ...ROUTES, pending: 2 }])).toBe(
    "in sync with the datastore, but not yet the kernel: routes: 2 rows wait for their interfaces",
  );
  const refused = { object: undefined, errno: 12, since: "2025-01-01T00:00:00Z", attempts: 1 };
  const rows = [
    { ...refused, row: "policy shop/web", state: "failed", error: "Cannot add set: ENOMEM" },
    { ...refused, row: "pod shop/web-0", state: "closed", error: "waits for policy shop/web" },
  ] as const;
  expect(describeStart([{ ...ROUTES, pending: 2, rows }])).toBe(
    "in sync with the datastore, but not yet the kernel: routes: policy shop/web: Cannot add set: ENOMEM",
  );
});
