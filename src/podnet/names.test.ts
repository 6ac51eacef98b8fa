import { createHash } from "node:crypto";
import { expect, test } from "bun:test";
import { hostInterfaceName } from "./names.ts";

test("cali and the first 11 hex digits of SHA-1 of namespace.name, at most 15 characters", () => {
  for (const [namespace, pod] of [
    ["default", "web"],
    ["kube-system", "coredns-5d78c9869d-abcde"],
    ["a", "é"],
  ] as const) {
    const name = hostInterfaceName(namespace, pod);
    expect(name).toBe(`cali${createHash("sha1").update(`${namespace}.${pod}`).digest("hex").slice(0, 11)}`);
    expect(name.length).toBe(15);
  }
  // As in upstream's own tests.
  expect(hostInterfaceName("default", "podA")).toBe("cali7f94ce7c295");
});
