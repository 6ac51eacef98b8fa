/** What logging rules write before a packet. */
import { expect, test } from "bun:test";
import type { Policy } from "../../program/policy.ts";
import { logPrefixOf } from "./policy-chains.ts";

const POLICY: Policy = {
  source: { kind: "NetworkPolicy", namespace: "shop", name: "web" },
  tier: "security",
  ingress: [],
  egress: undefined,
  error: undefined,
};

test.each([
  ["calico-packet", "calico-packet: "],
  ["%t|%k|%n|%p", "security|np|web|shop/web: "],
  ["100%", "100%: "],
  ["%z %%t", "%z %security: "],
  ["grüße\n", "gr??e?: "],
])("%s", (format, expected) => {
  expect(logPrefixOf(POLICY, format)).toBe(expected);
});

test("the kernel takes no more than 127 bytes", () => {
  expect(logPrefixOf(POLICY, "x".repeat(500))).toHaveLength(127);
});

test("what is in no namespace has no slash", () => {
  const source = { kind: "GlobalNetworkPolicy", namespace: undefined, name: "all" } as const;
  expect(logPrefixOf({ ...POLICY, source }, "%k %p")).toBe("gnp all: ");
});
