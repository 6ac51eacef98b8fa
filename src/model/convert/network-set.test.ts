import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Prefix } from "../../net/prefix.ts";
import type { Resource } from "../resource.ts";
import { networkSetOf } from "./network-set.ts";

function setOf(nets: readonly unknown[]): Resource<"GlobalNetworkSet"> {
  const set = { apiVersion: "projectcalico.org/v3", kind: "GlobalNetworkSet", metadata: { name: "s" }, spec: { nets } };
  return set as Resource<"GlobalNetworkSet">;
}

const text = fc.oneof(
  fc.integer({ min: 0, max: 9 }).map((number) => `10.0.${number}.0/24`),
  fc.integer({ min: 0, max: 9 }).map((number) => `fd00::${number}`),
  fc.constantFrom(
    "10.0.0.1",
    "10.0.0.1/32",
    "10.0.0.9/24",
    "FD00::/64",
    "fd00::",
    "fd00::/32",
    "no net",
    "",
    "10.0.0.0/33",
    7,
  ),
);

test("a set that is read as a change of what it was is as if it was read anew", () => {
  fc.assert(
    fc.property(
      fc.array(text),
      fc.array(fc.array(text, { maxLength: 3 }), { maxLength: 6 }),
      fc.nat(),
      (first, steps, seed) => {
        let texts = first;
        let before: readonly Prefix[] | undefined;
        for (const [i, others] of steps.entries()) {
          const row = networkSetOf("GlobalNetworkSet", setOf(texts), before);
          expect(row).toEqual(networkSetOf("GlobalNetworkSet", setOf(texts)));
          before = row.ok ? row.value.nets : undefined;
          texts = texts.toSpliced((seed + i) % (texts.length + 1), i % 3, ...others);
        }
      },
    ),
  );
});

test("a set that is as it was has the same list of nets", () => {
  const texts = ["10.0.0.0/24", "10.0.1.7", "fd00::7"];
  const first = networkSetOf("GlobalNetworkSet", setOf(texts));
  const nets = first.ok ? first.value.nets : undefined;
  expect(nets).toEqual(["10.0.0.0/24", "10.0.1.7/32", "fd00::7/128"] as string[] as Prefix[]);
  const second = networkSetOf("GlobalNetworkSet", setOf(texts), nets);
  expect(second.ok && second.value.nets).toBe(nets);
});

test("of a set that changes, what it keeps are the texts that came last: these are compared at once when they come again", () => {
  // Each time other objects.
  const texts = (changed: string): string[] =>
    ["10.0.0.0/24", "10.0.1.0/24", changed, "fd00::/64"].map((each) => `${each} `.trim());
  const first = networkSetOf("GlobalNetworkSet", setOf(texts("10.0.2.0/24")));
  const last = texts("10.0.3.0/24");
  let compared = 0;
  const watched = new Proxy(last, {
    get: (list, key) => {
      if (key === "slice") compared++;
      return Reflect.get(list, key) as unknown;
    },
  });
  const second = networkSetOf("GlobalNetworkSet", setOf(watched), first.ok ? first.value.nets : undefined);
  expect(second.ok && second.value.nets).toEqual(last as Prefix[]);
  expect(compared).toBe(2);
});
