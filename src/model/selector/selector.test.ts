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
  ["app in { }", false],
  ["app in\t{ 'web' , }", true],
  ["app not  in{'db'}", true],
  ["app contains'we'", true],
  ["contains contains 'x'", false],
  ["not not in {'x'}", true],
  ["in in {'x'}", false],
  ["has == 'x' || global != 'x'", true],
  ["! app == 'db'", true],
  ["! !! has(app)", false],
  ["!app == 'db' && has(nope)", false],
  ["app == \"it's\" || tier contains '\"'", false],
  ["all()&&has(app)||has(nope)", true],
  ["-a./_ == 'x'", false],
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
  ["has()", "has must be followed at once by ("],
  ["has(a) &", "must be && or || or the end"],
  ["&& has(a)", "must be a label name"],
  ["ä == 'x'", "must be a label name"],
  [
    `${"(".repeat(513)}all()${")".repeat(513)}`,
    'at character 514, "all())))))))": parentheses must not nest deeper than 512',
  ],
  ["b == b", 'at character 6, "b": must be text in quotes'],
  ["b contains b", "at character 12"],
  ["b starts with b", "at character 15"],
  ["'b1' == b", "at character 1"],
  ["a b", 'at character 3, "b": after label "a" must come'],
  ["!", "at character 2 (the end): must be a label name"],
  ['foo == "bar" &', 'at character 14, "&"'],
  ['foo == "bar" |', 'at character 14, "|"'],
  ["foo != ||", "at character 8"],
  ['foo in {"", ||', "at character 13"],
  ['foo in ""', "at character 8"],
  ["foo in {,}", "at character 9"],
  ['"FOO', "at character 1"],
  ["(", "at character 2 (the end)"],
  ["()", "at character 2"],
  [")", "at character 1"],
  ["%", "at character 1"],
  ['a == "b" && %', 'at character 13, "%"'],
  ["has(foo) &&", "at character 12 (the end)"],
  ["has (a)", "has must be followed at once by ("],
  [
    "has('a')",
    "at character 4, \"('a')\": has must be followed at once by (, the name of a label of at most 512 characters, and )",
  ],
  ["has(app", "has must be followed at once by ("],
  ["all(x)", "all must be followed at once by ( and )"],
  ["all ()", "all must be followed at once by ( and )"],
  ["a == 'b'\n&& has(c)", "at character 9"],
  ["a=='b' c=='d'", "at character 8, \"c=='d'\": must be && or || or the end"],
  ["a === 'b'", "at character 5"],
  ["a =='b", "must be text in quotes"],
  ["a inn {'b'}", "must be a list such as"],
  [`has(${"l".repeat(513)})`, "of at most 512 characters"],
  [`${"l".repeat(513)} == 'v'`, "must have at most 512 characters"],
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

const LABELS_BY_NAME = new Map(Object.entries(LABELS));
const nested = (open: string, close: string, length: number): string => {
  const depth = Math.floor((length - 6) / (open.length + close.length));
  return `${open.repeat(depth)}has(a)${close.repeat(depth)}`;
};

/** Text of at most 1,024 characters, the longest selector that an object may have. */
const HOSTILE: readonly (readonly [title: string, text: string])[] = [
  ["parentheses", nested("(", ")", 1024)],
  ["negations", `${"!".repeat(1018)}has(a)`],
  ["negated parentheses", nested("!(", ")", 1024)],
  ["doubly negated parentheses", nested("!!(", ")", 1024)],
  ["AND in AND", nested("has(b)&&(", ")", 1024)],
  ["AND in OR in AND", nested("has(b)&&(has(c)||(", "))", 1024)],
  ["AND in AND in OR in OR", nested("!c&&(c!='d'&&(d==''||(a in{}||(".replace("!c", "!has(c)"), "))))", 1024)],
  ["negated AND and OR", nested("!(has(b)&&!(has(c)||", "))", 1024)],
  ["many terms of AND", Array.from({ length: 100 }, (_, i) => `has(${i})`).join("&&")],
  ["many terms of AND and OR", Array.from({ length: 60 }, (_, i) => `has(a)&&has(${i})`).join("||")],
  ["one term many times", Array.from({ length: 120 }, () => "has(a)").join("||")],
  ["a list", `a in {${Array.from({ length: 200 }, (_, i) => `"${i}"`).join(",")}}`],
  ["blanks", `has(a)${" ".repeat(1010)}&&all()`.slice(0, 1024)],
  ["an open call", `has(${" \t".repeat(510)}`],
  ["an open list", `a in {${"'',".repeat(330)}`],
  ["500 open negations", "!(".repeat(500)],
  ["1,024 open parentheses", "(".repeat(1024)],
  ["quotes", `a == ${`"'`.repeat(500)}`],
];

test.each(HOSTILE)("1,024 hostile characters are read or refused at once: %s", (_, text) => {
  const began = performance.now();
  for (let round = 0; round < 20; round++) {
    const selector = parseSelector(text);
    if (!selector.ok) {
      expect(selector.error.wanted).toMatch(/^at character \d+/);
      continue;
    }
    const canonical = formatSelector(selector.value);
    const again = unwrap(parseSelector(canonical));
    expect(formatSelector(again)).toBe(canonical);
    expect(evaluateSelector(again, LABELS_BY_NAME)).toBe(evaluateSelector(selector.value, LABELS_BY_NAME));
  }
  // 20 rounds take some 10 ms; an exponential form would take years.
  expect(performance.now() - began).toBeLessThan(5000);
});

test("1,000 terms in any order, twice, are one selector", () => {
  const terms = Array.from({ length: 1000 }, (_, i) => `label-${i} == 'v' || !has(label-${i})`);
  const canonical = formatSelector(unwrap(parseSelector(terms.map((term) => `(${term})`).join("&&"))));
  const turned = [...terms.slice(500), ...terms.slice(0, 500), ...terms].map((term) => `(${term})`);
  expect(formatSelector(unwrap(parseSelector(turned.join(" && "))))).toBe(canonical);
});

test.each([
  ["", "all()"],
  [" (all() )", "all()"],
  ["! (has( b)||! has(a ))", "!(!has(a) || has(b))"],
  ["!!(a == 'b')", 'a == "b"'],
  ["!(!(has(a) && has(b)))", "has(a) && has(b)"],
  ["a startswith '\"'", "a starts with '\"'"],
  ['a!="\'"', 'a != "\'"'],
  ['a in {"z", "z", "x", "y", "x", "a"}', 'a in {"a", "x", "y", "z"}'],
  ["a notin {}", "a not in {}"],
  ["has(b) && (has(a) && has(b))", "has(a) && has(b)"],
  ["has(a) && (has(c) || has(b))", "has(a) && (has(b) || has(c))"],
  ["has(a) || all()", "all()"],
  ["all() && has(a)", "has(a)"],
  ["global()", "!has(projectcalico.org/namespace)"],
])("the canonical text of %j is %j", (text, canonical) => {
  expect(formatSelector(unwrap(parseSelector(text)))).toBe(canonical);
});
