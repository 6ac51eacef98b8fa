import { expect, test } from "bun:test";
import fc from "fast-check";
import { objectOf } from "../../../../test/kinds/case.ts";
import { POLICY_CASES } from "../../../../test/kinds/policies.ts";
import { RULE_CASES } from "../../../../test/kinds/rules.ts";
import { SETTINGS_CASES } from "../../../../test/kinds/settings.ts";
import { formatFieldError } from "../../schema/field-error.ts";
import { isJsonObject, type JsonObject, type JsonValue } from "../../schema/json.ts";
import { VALIDATORS } from "./validators.ts";

const CASES = [...RULE_CASES, ...POLICY_CASES, ...SETTINGS_CASES];

test.each(CASES.map((each) => [each.title, each] as const))("%s", (_, { kind, object, refused, words }) => {
  const before = JSON.stringify(object);
  const errors = VALIDATORS[kind](object);
  expect([...new Set(errors.map(({ field }) => field))]).toEqual([...refused]);
  if (errors[0] !== undefined) expect(formatFieldError(errors[0])).toContain(words);
  expect(JSON.stringify(object)).toBe(before);
});

test("titles are unique, and each kind has cases of both kinds", () => {
  expect(new Set(CASES.map(({ title }) => title)).size).toBe(CASES.length);
  for (const kind of Object.keys(VALIDATORS)) {
    const of = CASES.filter((each) => each.kind === kind);
    expect(of.some(({ refused }) => refused.length === 0)).toBeTrue();
    expect(of.some(({ refused }) => refused.length > 0)).toBeTrue();
  }
});

const NO_OBJECTS: readonly unknown[] = [
  undefined,
  null,
  1,
  "x",
  [],
  {},
  { metadata: 1, spec: [] },
  { metadata: { name: "x", labels: [] }, spec: {} },
  { metadata: { name: { toString: {} } }, spec: {} },
];

test("what is no object of the kind is refused", () => {
  for (const value of NO_OBJECTS)
    for (const validate of Object.values(VALIDATORS)) expect(validate(value).length).toBeGreaterThan(0);
});

/** The object with the value at one of its places, which the number chooses, replaced. */
function withChange(object: JsonObject, choice: number, value: JsonValue): JsonObject {
  const copy = structuredClone(object);
  const places: (() => void)[] = [];
  const visit = (node: JsonValue): void => {
    if (Array.isArray(node))
      node.forEach((item, i) => {
        places.push(() => void (node[i] = value));
        visit(item);
      });
    else if (isJsonObject(node))
      for (const [field, child] of Object.entries(node)) {
        places.push(() => void (node[field] = value));
        visit(child);
      }
  };
  visit(copy);
  places[choice % places.length]?.();
  return copy;
}

test("any value anywhere is judged without an exception, and the same twice", () => {
  const small = CASES.filter(({ object }) => JSON.stringify(object).length < 2000);
  fc.assert(
    fc.property(fc.constantFrom(...small), fc.nat(), fc.jsonValue(), ({ kind, object }, choice, value) => {
      const changed = withChange(object, choice, value as JsonValue);
      const errors = VALIDATORS[kind](changed);
      expect(VALIDATORS[kind](changed)).toEqual(errors);
      for (const error of errors) expect(formatFieldError(error)).toStartWith(error.field);
    }),
    { seed: 7, numRuns: 5000 },
  );
});

test("the largest policy that an API server stores is judged at once", () => {
  const nets = Array.from({ length: 256 }, (_, i) => `fd00:1234:5678:${i.toString(16)}::/64`);
  const rule = { action: "Allow", source: { nets, selector: "a == 'b' && has(c)" } };
  const object = objectOf("NetworkPolicy", { ingress: Array.from({ length: 400 }, () => rule) });
  expect(JSON.stringify(object).length).toBeGreaterThan(2_500_000);
  const began = performance.now();
  expect(VALIDATORS.NetworkPolicy(object)).toEqual([]);
  expect(performance.now() - began).toBeLessThan(5000);
});
