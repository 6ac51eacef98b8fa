import { expect, test } from "bun:test";
import fc from "fast-check";
import { unwrap } from "../../lib/result.ts";
import { formatSelector } from "./canonical.ts";
import { evaluateSelector } from "./evaluate.ts";
import { parseSelector } from "./parse.ts";
import type { Selector } from "./selector.ts";

const LABELS = { app: "web", tier: "front-end", "a.b/c_d-e": "", get: "x" };

for (const [text, expected] of [
  ["", true],
  ["  \t ", true],
  ["all()", true],
  ["!all( )", false],
  ["global()", true],
  ["has(app)", true],
  ["has( a.b/c_d-e )", true],
  ["has(nope)", false],
  ["!has(nope)", true],
  ["app == 'web'", true],
  ['app=="web"', true],
  ["app == 'db'", false],
  ["nope == ''", false],
  ["a.b/c_d-e == ''", true],
  ["app != 'db'", true],
  ["app != 'web'", false],
  ["nope != 'web'", true],
  ["app in {'db', 'web'}", true],
  ["app in {'db','web',}", true],
  ["app in {}", false],
  ["nope in {'web'}", false],
  ["app not in {'web'}", false],
  ["app notin {'db'}", true],
  ["nope not in {'web'}", true],
  ["tier contains 't-e'", true],
  ["nope contains ''", false],
  ["tier starts with 'front'", true],
  ["tier startswith 'end'", false],
  ["tier ends with 'end'", true],
  ["nope ends with ''", false],
  ["has(app) && has(nope)", false],
  ["has(app) || has(nope)", true],
  ["has(nope) && has(nope) || has(app)", true],
  ["has(nope) && (has(nope) || has(app))", false],
  ["!has(app) || has(app)", true],
  ["!(has(app) && has(nope))", true],
  ["!!has(app)", true],
  ["all == 'x' || in == 'y'", false],
  ["get == 'x'", true],
  ["has(toString) || has(constructor)", false],
] as const) {
  test(`${JSON.stringify(text)} is ${expected}, also with labels as a map and read back from its canonical text`, () => {
    const selector = unwrap(parseSelector(text));
    expect(evaluateSelector(selector, LABELS)).toBe(expected);
    expect(evaluateSelector(selector, new Map(Object.entries(LABELS)))).toBe(expected);
    expect(evaluateSelector(unwrap(parseSelector(formatSelector(selector))), LABELS)).toBe(expected);
  });
}

for (const [text, wanted] of [
  [
    "app",
    'at character 4 (the end): after label "app" must come ==, !=, in, not in, contains, starts with or ends with',
  ],
  ["app = 'x'", 'at character 5, "= \'x\'": after label "app" must come'],
  ["app == x", 'at character 8, "x": must be text in quotes'],
  ["app == 'x", "must be text in quotes"],
  ["app in ('x')", "must be a list such as"],
  ["app in {'x'", "must be text in quotes, a comma or }"],
  ["(has(a)", "at character 8 (the end): must be )"],
  ["has(a))", 'at character 7, ")": must be && or || or the end'],
  ["has()", "after label"],
  ["has(a) &", "must be && or || or the end"],
  ["&& has(a)", "must be a label name"],
  ["ä == 'x'", "must be a label name"],
  [`${"(".repeat(101)}all()${")".repeat(101)}`, "must not nest deeper than 100"],
] as const) {
  test(`${JSON.stringify(text.slice(0, 20))} is refused`, () => {
    const result = parseSelector(text);
    expect(result.ok ? "read" : result.error.wanted).toContain(wanted);
  });
}

const texts = fc.constantFrom("a", "b", "", "x y", "it's", 'say "x"');
const names = fc.constantFrom("app", "tier", "x.y/z");
const selectors: fc.Arbitrary<Selector> = fc.letrec<{ any: Selector }>((tie) => ({
  any: fc.oneof(
    { depthSize: "small" },
    fc.constant<Selector>({ op: "all" }),
    fc.record({ op: fc.constant("has" as const), label: names }),
    fc.record({
      op: fc.constantFrom(
        "equal" as const,
        "not-equal" as const,
        "contains" as const,
        "starts-with" as const,
        "ends-with" as const,
      ),
      label: names,
      value: texts,
    }),
    fc.record({
      op: fc.constantFrom("in" as const, "not-in" as const),
      label: names,
      values: fc.array(texts, { maxLength: 3 }),
    }),
    fc.record({ op: fc.constant("not" as const), of: tie("any") }),
    fc.record({ op: fc.constantFrom("and" as const, "or" as const), of: fc.array(tie("any"), { maxLength: 3 }) }),
  ),
})).any;

test("canonical text reads back to the same meaning and the same text, and order makes no difference", () => {
  fc.assert(
    fc.property(selectors, fc.dictionary(names, texts), (selector, labels) => {
      const text = formatSelector(selector);
      const back = unwrap(parseSelector(text));
      expect(formatSelector(back)).toBe(text);
      expect(evaluateSelector(back, labels)).toBe(evaluateSelector(selector, labels));
      if (selector.op === "and" || selector.op === "or")
        expect(formatSelector({ op: selector.op, of: [...selector.of].reverse() })).toBe(text);
    }),
    { seed: 7, numRuns: 3000 },
  );
});

test("different meanings have different texts", () => {
  const distinct = [
    "has(a)",
    "!has(a)",
    "a == 'b'",
    "a != 'b'",
    "a in {'b', 'c'}",
    "a not in {'b', 'c'}",
    "a in {'b, c'}",
    "has(a) && has(b)",
    "has(a) || has(b)",
    "all()",
    "!all()",
  ];
  expect(new Set(distinct.map((text) => formatSelector(unwrap(parseSelector(text))))).size).toBe(distinct.length);
});
