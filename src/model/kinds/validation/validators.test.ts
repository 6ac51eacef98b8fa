import { expect, test } from "bun:test";
import { POLICY_CASES } from "../../../../test/kinds/policies.ts";
import { RULE_CASES } from "../../../../test/kinds/rules.ts";
import { SETTINGS_CASES } from "../../../../test/kinds/settings.ts";
import { formatFieldError } from "../../schema/field-error.ts";
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
];

test("what is no object of the kind is refused", () => {
  for (const value of NO_OBJECTS)
    for (const validate of Object.values(VALIDATORS)) expect(validate(value).length).toBeGreaterThan(0);
});
