import { describe, expect, test } from "bun:test";
import { formatFieldError } from "../../../../src/model/schema/field-error.ts";
import type { JsonValue } from "../../../../src/model/schema/json.ts";
import type { Schema, ValidationRule } from "../../../../src/model/schema/schema.ts";
import { validateStructural } from "../structural.ts";
import { escapeName } from "./types.ts";
import { compileRules } from "./validator.ts";

const TEXT = { type: "string" } as const;
const SPEC = {
  type: "object",
  properties: {
    name: TEXT,
    count: { type: "integer" },
    share: { type: "number" },
    on: { type: "boolean" },
    port: { "x-kubernetes-int-or-string": true },
    since: { type: "string", format: "date-time" },
    period: { type: "string", format: "duration" },
    note: { type: "string", nullable: true },
    tags: { type: "array", items: TEXT, "x-kubernetes-list-type": "set" },
    items: { type: "array", items: { type: "object", properties: { id: TEXT, size: { type: "integer" } } } },
    labels: { type: "object", additionalProperties: TEXT },
    inner: { type: "object", properties: { deep: { type: "object", properties: { value: { type: "integer" } } } } },
    namespace: TEXT,
    "a-b.c/d": TEXT,
    loose: { "x-kubernetes-preserve-unknown-fields": true },
  },
} as const satisfies Schema;

function withRules(spec: Schema, ...rules: readonly ValidationRule[]): Schema {
  return { type: "object", properties: { spec: { ...spec, "x-kubernetes-validations": rules } } };
}

/** What the schema's rules have against the value, or against the change to it. */
function errorsOf(schema: Schema, value: JsonValue, old?: JsonValue): readonly string[] {
  const { check, problems } = compileRules(schema, "schema");
  expect(problems).toEqual([]);
  return (check?.(value, old) ?? []).map(formatFieldError);
}

describe("expressions hold or do not", () => {
  test.each<[string, JsonValue, boolean]>([
    ["self.count + 1 == 3", { count: 2 }, true],
    ["self.share > 1 && self.share == 1.5", { share: 1.5 }, true],
    ["!has(self.name) || self.name.startsWith('a')", {}, true],
    ["!has(self.name) || self.name.startsWith('a')", { name: "b" }, false],
    ["has(self.inner.deep.value) ? self.inner.deep.value == 1 : false", { inner: { deep: { value: 1 } } }, true],
    ["self.port == 80 || self.port == 'http'", { port: 80 }, true],
    ["self.port == 80 || self.port == 'http'", { port: "http" }, true],
    ["self.port == 80 || self.port == 'http'", { port: 81 }, false],
    ["self.tags.all(t, t.size() == 1) && size(self.tags) == 2 && 'a' in self.tags", { tags: ["a", "b"] }, true],
    ["self.items.exists(i, i.id == 'x' && i.size > 1)", { items: [{ id: "x", size: 2 }] }, true],
    [
      "self.items.map(i, i.size).sum() == 3 && self.items.map(i, i.size).max() == 2",
      { items: [{ size: 1 }, { size: 2 }] },
      true,
    ],
    [
      "self.items.filter(i, i.size > 1).size() == 1 && self.items.exists_one(i, i.size == 2)",
      { items: [{ size: 1 }, { size: 2 }] },
      true,
    ],
    [
      "self.items[0] == self.items[1]",
      {
        items: [
          { id: "a", size: 1 },
          { id: "a", size: 1 },
        ],
      },
      true,
    ],
    [
      "self.items[0] == self.items[1]",
      {
        items: [
          { id: "a", size: 1 },
          { id: "a", size: 2 },
        ],
      },
      false,
    ],
    ["self.labels.all(k, k.matches('^[a-z]+$') && self.labels[k] != '')", { labels: { a: "x", b: "y" } }, true],
    ["self.labels.all(k, k.matches('^[a-z]+$') && self.labels[k] != '')", { labels: { a: "x", B: "y" } }, false],
    ["self.name.matches('^(?i)allow$')", { name: "ALLOW" }, true],
    ["self.note == null", { note: null }, true],
    [
      "self.since < timestamp('2025-01-01T00:00:00Z') && self.period > duration('1m')",
      { since: "2024-01-01T00:00:00Z", period: "1h" },
      true,
    ],
    ["self.__namespace__ == 'x' && self.a__dash__b__dot__c__slash__d == 'y'", { namespace: "x", "a-b.c/d": "y" }, true],
    ["self.?inner.?deep.?value.orValue(7) == 7", {}, true],
    [
      "self.name.replace('a', 'b', 1) == 'ba' && self.name.charAt(1) == 'a' && self.name.find('a+') == 'aa'",
      { name: "aa" },
      true,
    ],
    ["self.name.findAll('[0-9]+') == ['1', '22'] && self.name.findAll('[0-9]+', 1) == ['1']", { name: "1a22" }, true],
    [
      "sets.contains(self.tags, ['a']) && !sets.intersects(self.tags, ['c']) && sets.equivalent(self.tags, ['b', 'a'])",
      { tags: ["a", "b"] },
      true,
    ],
    ["sets.equivalent(self.tags, ['a']) || sets.equivalent(['a'], self.tags)", { tags: ["a", "b"] }, false],
    ["self.name.charAt(2) == ''", { name: "aa" }, true],
    ["has(self.items[0].id) && !has(self.items[0].size) && self.items[0] != null", { items: [{ id: "x" }] }, true],
    ["self.items.all(i, item, item.id == ['x', 'y'][i])", { items: [{ id: "x" }, { id: "y" }] }, true],
    ["self.items.all(i, item, item.id == ['x', 'y'][i])", { items: [{ id: "x" }, { id: "x" }] }, false],
    ["isURL(self.name) && url(self.name).getScheme() in ['http', 'https']", { name: "https://example.org" }, true],
    ["isURL(self.name) && url(self.name).getScheme() in ['http', 'https']", { name: "ftp://example.org" }, false],
    ["!format.dns1123Label().validate(self.name).hasValue()", { name: "a.b" }, false],
    ["quantity(self.name).isLessThan(quantity('1Gi')) && int(double(self.count)) == 2", { name: "1G", count: 2 }, true],
    [
      "self.since + self.period == timestamp('2024-01-01T01:00:00.000001Z') && string(self.period) == '3600s'",
      { since: "2024-01-01T00:00:00.000001Z", period: "1h" },
      true,
    ],
    ["[1, 2, 2].isSorted() && [1, 2, 2].lastIndexOf(2) == 2 && ['b', 'a'].min() == 'a'", {}, true],
  ])("%s of %j: %p", (rule, spec, holds) => {
    expect(errorsOf(withRules(SPEC, { rule }), { spec })).toEqual(
      holds ? [] : [`spec: Invalid value: "object": failed rule: ${rule}`],
    );
  });

  test.each([
    "ip('10.0.0.1').family() == 4 && ip('fd00::1').family() == 6",
    "isIP('10.0.0.1') && isIP('fd00::1') && !isIP('10.0.0.01') && !isIP('::ffff:10.0.0.1') && !isIP('fe80::1%eth0') && !isIP('10.0.0.0/8')",
    "isCIDR('10.0.0.0/8') && isCIDR('fd00::/64') && !isCIDR('10.0.0.0/33') && !isCIDR('fd00::/129') && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/08')",
    "string(cidr('10.0.0.1/8')) == '10.0.0.1/8' && string(cidr('10.0.0.1/8').masked()) == '10.0.0.0/8' && string(cidr('fd00::1/64').masked()) == 'fd00::/64'",
    "cidr('10.0.0.0/8') == cidr('10.0.0.0/8') && cidr('10.0.0.1/8') != cidr('10.0.0.0/8') && ip('fd00:0::1') == ip('fd00::1')",
    "cidr('10.0.0.0/8').prefixLength() == 8 && cidr('fd00::1/64').ip() == ip('fd00::1')",
    "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('fd00::/64').containsIP(ip('fd00::9')) && !cidr('10.0.0.0/8').containsIP('fd00::1')",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR('10.1.0.0/8') && !cidr('fd00::/64').containsCIDR('fd00::/48') && cidr('fd00::/48').containsCIDR(cidr('fd00::/64'))",
    "ip('127.0.0.1').isLoopback() && ip('::1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('::').isUnspecified()",
    "ip('169.254.1.1').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()",
    "ip('10.0.0.1').isGlobalUnicast() && ip('fd00::1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast() && !ip('ff02::1').isGlobalUnicast()",
    "ip.isCanonical('fd00::1') && !ip.isCanonical('FD00::1')",
  ])("%s", (rule) => expect(errorsOf(withRules(SPEC, { rule }), { spec: {} })).toEqual([]));
});

describe("error messages", () => {
  test.each<[string, ValidationRule, JsonValue, string]>([
    ["message", { rule: "self.count > 1", message: "too few" }, { count: 1 }, 'spec: Invalid value: "object": too few'],
    [
      "messageExpression",
      { rule: "self.count > 1", message: "too few", messageExpression: "string(self.count) + ' is too few'" },
      { count: 1 },
      'spec: Invalid value: "object": 1 is too few',
    ],
    [
      "a messageExpression of values of several types",
      { rule: "self.count > 1", message: "too few", messageExpression: "'%s has %d'.format([self.name, self.count])" },
      { name: "x", count: 1 },
      'spec: Invalid value: "object": x has 1',
    ],
    [
      "a messageExpression that fails",
      { rule: "self.count > 1", message: "too few", messageExpression: "self.name" },
      { count: 1 },
      'spec: Invalid value: "object": too few',
    ],
    [
      "a messageExpression of two lines",
      { rule: "self.count > 1", message: "too few", messageExpression: "'a\\nb'" },
      { count: 1 },
      'spec: Invalid value: "object": too few',
    ],
    ["reason Forbidden", { rule: "false", message: "no", reason: "FieldValueForbidden" }, {}, "spec: Forbidden: no"],
    [
      "reason Required",
      { rule: "has(self.name)", message: "no", reason: "FieldValueRequired", fieldPath: ".name" },
      {},
      "spec.name: Required value: no",
    ],
    [
      "reason Duplicate",
      { rule: "false", message: "no", reason: "FieldValueDuplicate" },
      {},
      'spec: Duplicate value: "object"',
    ],
    [
      "fieldPath",
      { rule: "false", message: "no", fieldPath: ".inner.deep" },
      {},
      'spec.inner.deep: Invalid value: "object": no',
    ],
    [
      "fieldPath with a key",
      { rule: "false", message: "no", fieldPath: ".labels['x.y']" },
      {},
      'spec.labels[x.y]: Invalid value: "object": no',
    ],
    [
      "an expression that fails",
      { rule: "self.name == 'x'" },
      {},
      "spec: Invalid value: \"object\": no such key: name evaluating rule: self.name == 'x'",
    ],
    [
      "an expression whose types do not go together",
      { rule: "self.port > 79" },
      { port: "http" },
      "spec: Invalid value: \"object\": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.port > 79",
    ],
    [
      "a message longer than 5 KiB",
      { rule: "self.count > 1", message: "too few", messageExpression: `'${"é".repeat(2561)}'` },
      { count: 1 },
      'spec: Invalid value: "object": too few',
    ],
    [
      "a message of 5 KiB",
      { rule: "self.count > 1", message: "too few", messageExpression: `'${"é".repeat(2560)}'` },
      { count: 1 },
      `spec: Invalid value: "object": ${"é".repeat(2560)}`,
    ],
    [
      "the least of nothing",
      { rule: "self.items.map(i, i.size).min() == 0", message: "no" },
      { items: [] },
      'spec: Invalid value: "object": min called on empty list evaluating rule: no',
    ],
    [
      "a character beyond the end",
      { rule: "self.name.charAt(3) == ''", message: "no" },
      { name: "aa" },
      'spec: Invalid value: "object": index out of range: 3 evaluating rule: no',
    ],
    [
      "a function that fails",
      { rule: "ip(self.name).family() == 4", message: "no" },
      { name: "x" },
      'spec: Invalid value: "object": IP Address "x" parse error during conversion from string: must be like 10.0.0.1 or fd00::1 evaluating rule: no',
    ],
  ])("%s", (_, rule, spec, words) => expect(errorsOf(withRules(SPEC, rule), { spec })).toEqual([words]));

  test("rules at the root see the name and stand without a field", () => {
    const schema = {
      type: "object",
      properties: { spec: SPEC },
      "x-kubernetes-validations": [{ rule: "self.metadata.name == 'default'", message: "there is one" }],
    } as const;
    expect(errorsOf(schema, { metadata: { name: "other" }, spec: {} })).toEqual([
      '<nil>: Invalid value: "object": there is one',
    ]);
    expect(errorsOf(schema, { metadata: { name: "default" }, spec: {} })).toEqual([]);
  });

  test("rules of items, values of maps and allOf name their place", () => {
    const positive = { type: "integer", "x-kubernetes-validations": [{ rule: "self > 0", message: "no" }] } as const;
    const schema: Schema = {
      type: "object",
      properties: {
        list: { type: "array", items: positive },
        map: { type: "object", additionalProperties: positive },
        both: { type: "integer", allOf: [{ "x-kubernetes-validations": [{ rule: "self < 9", message: "less" }] }] },
      },
    };
    expect(errorsOf(schema, { list: [1, 0], map: { a: 1, b: 0 }, both: 9 })).toEqual([
      'list[1]: Invalid value: "integer": no',
      'map[b]: Invalid value: "integer": no',
      'both: Invalid value: "integer": less',
    ]);
  });
});

describe("changes", () => {
  const immutable = { rule: "self == oldSelf", message: "stays" };

  test.each<[string, Schema, JsonValue, JsonValue]>([
    ["text", TEXT, "a", "b"],
    ["an object", SPEC, { name: "a", items: [{ id: "x" }] }, { name: "a", items: [{ id: "y" }] }],
    ["a list", { type: "array", items: TEXT }, ["a", "b"], ["b", "a"]],
    ["a set", { type: "array", items: TEXT, "x-kubernetes-list-type": "set" }, ["a", "b"], ["a", "c"]],
    ["a map", { type: "object", additionalProperties: TEXT }, { a: "b" }, { a: "c" }],
  ])("a transition rule runs where there is an old value: %s", (_, schema, before, after) => {
    const whole = withRules(schema, immutable);
    expect(errorsOf(whole, { spec: after })).toEqual([]);
    expect(errorsOf(whole, { spec: after }, {})).toEqual([]);
    expect(errorsOf(whole, { spec: before }, { spec: before })).toEqual([]);
    expect(errorsOf(whole, { spec: after }, { spec: before })).toEqual([
      `spec: Invalid value: ${JSON.stringify(schema.type)}: stays`,
    ]);
  });

  test("a set has no order", () => {
    const schema = withRules({ type: "array", items: TEXT, "x-kubernetes-list-type": "set" }, immutable);
    expect(errorsOf(schema, { spec: ["a", "b"] }, { spec: ["b", "a"] })).toEqual([]);
  });

  test("items of a list of type map are matched by their keys", () => {
    const item: Schema = {
      type: "object",
      properties: {
        id: TEXT,
        size: { type: "integer", "x-kubernetes-validations": [{ rule: "self >= oldSelf", message: "grows" }] },
      },
    };
    const schema: Schema = {
      type: "object",
      properties: {
        list: { type: "array", items: item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"] },
      },
    };
    const old = {
      list: [
        { id: "a", size: 1 },
        { id: "b", size: 5 },
      ],
    };
    expect(
      errorsOf(
        schema,
        {
          list: [
            { id: "b", size: 6 },
            { id: "a", size: 2 },
            { id: "c", size: 0 },
          ],
        },
        old,
      ),
    ).toEqual([]);
    expect(errorsOf(schema, { list: [{ id: "b", size: 4 }] }, old)).toEqual([
      'list[0].size: Invalid value: "integer": grows',
    ]);
  });

  test("with optionalOldSelf a transition rule also runs without an old value", () => {
    const schema = withRules(SPEC, {
      rule: "oldSelf.hasValue() || self.count == 0",
      message: "begins at 0",
      optionalOldSelf: true,
    });
    expect(errorsOf(schema, { spec: { count: 1 } })).toEqual(['spec: Invalid value: "object": begins at 0']);
    expect(errorsOf(schema, { spec: { count: 1 } }, { spec: { count: 0 } })).toEqual([]);
  });

  test("what was wrong before is forgiven until it changes", () => {
    const schema = withRules(SPEC, { rule: "self.count > 1", message: "too few" });
    expect(errorsOf(schema, { spec: { count: 1 } }, { spec: { count: 1 } })).toEqual([]);
    expect(errorsOf(schema, { spec: { count: 1, name: "x" } }, { spec: { count: 1 } })).toEqual([
      'spec: Invalid value: "object": too few',
    ]);
  });

  test("items that cannot be matched are forgiven with the list around them", () => {
    const schema: Schema = {
      type: "object",
      properties: {
        list: {
          type: "array",
          items: { type: "integer", "x-kubernetes-validations": [{ rule: "self > 0", message: "no" }] },
        },
      },
    };
    expect(errorsOf(schema, { list: [0], x: 1 }, { list: [0] })).toEqual([]);
    expect(errorsOf(schema, { list: [0, 1] }, { list: [0] })).toEqual(['list[0]: Invalid value: "integer": no']);
  });
});

describe("a rule that cannot be used", () => {
  test.each<[string, object, string, string]>([
    ["syntax", { rule: "self.count >" }, "rule", "compilation failed: "],
    ["an unknown field", { rule: "self.nope == 1" }, "rule", "compilation failed: no such key: nope"],
    [
      "an unknown field below has",
      { rule: "self.count > 0 || has(self.inner.nope)" },
      "rule",
      "compilation failed: no such key: nope",
    ],
    [
      "an unknown field of an item",
      { rule: "self.items.all(i, has(i.nope))" },
      "rule",
      "compilation failed: no such key: nope",
    ],
    ["a field without a type", { rule: "has(self.loose)" }, "rule", "compilation failed: no such key: loose"],
    [
      "types that do not go together",
      { rule: "self.count == 'a'" },
      "rule",
      "compilation failed: no such overload: int == string",
    ],
    ["an unknown function", { rule: "self.name.isURL()" }, "rule", "compilation failed: found no matching overload"],
    [
      "a wrong pattern",
      { rule: "self.name.matches('[')" },
      "rule",
      'compilation failed: invalid matches argument: "["',
    ],
    ["no truth value", { rule: "self.count" }, "rule", "cel expression must evaluate to a bool"],
    ["an unknown variable", { rule: "other" }, "rule", "compilation failed: unknown variable: other"],
    [
      "a message of another type",
      { rule: "true", messageExpression: "self.count" },
      "messageExpression",
      "messageExpression must evaluate to a string",
    ],
    [
      "a message that does not compile",
      { rule: "true", messageExpression: "self.nope" },
      "messageExpression",
      "messageExpression compilation failed: no such key: nope",
    ],
    ["no rule", { rule: " " }, "rule", "rule is not specified"],
    ["an empty message", { rule: "true", message: " " }, "message", "must be non-empty if specified"],
    ["a message of two lines", { rule: "true", message: "a\nb" }, "message", "must not contain line breaks"],
    [
      "a rule of two lines without a message",
      { rule: "true &&\ntrue" },
      "message",
      "message must be specified if rule contains line breaks",
    ],
    [
      "an unknown reason",
      { rule: "true", reason: "Because" },
      "reason",
      '"FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"',
    ],
    ["a path to no field", { rule: "true", fieldPath: ".inner.nope" }, "fieldPath", "must be a valid path"],
    ["a path that is none", { rule: "true", fieldPath: "inner" }, "fieldPath", "must be a valid path"],
    [
      "optionalOldSelf without oldSelf",
      { rule: "true", optionalOldSelf: true },
      "optionalOldSelf",
      "may not be set if oldSelf is not used in rule",
    ],
  ])("%s", (_, rule, field, words) => {
    const { check, problems } = compileRules(withRules(SPEC, rule as ValidationRule), "schema");
    expect(problems.map((problem) => problem.field)).toEqual([
      `schema.properties[spec].x-kubernetes-validations[0].${field}`,
    ]);
    expect(problems[0]?.detail).toStartWith(words);
    // A definition that was stored all the same lets nothing pass.
    expect((check?.({ spec: {} }, undefined) ?? []).map(formatFieldError)[0]).toStartWith(
      'spec: Invalid value: "object": rule compile error: ',
    );
  });

  test.each<[string, Schema]>([
    [
      "items of a list",
      { type: "array", items: { type: "string", "x-kubernetes-validations": [{ rule: "self == oldSelf" }] } },
    ],
    [
      "an atomic map",
      {
        type: "object",
        "x-kubernetes-map-type": "atomic",
        properties: { a: { type: "string", "x-kubernetes-validations": [{ rule: "self == oldSelf" }] } },
      },
    ],
  ])("oldSelf in %s", (_, spec) => {
    const { problems } = compileRules({ type: "object", properties: { spec } }, "schema");
    expect(problems.map((problem) => problem.detail)).toEqual([
      "oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[spec]",
    ]);
  });
});

test.each<[string, Schema, readonly string[]]>([
  [
    "anyOf",
    { anyOf: [{ properties: { a: { "x-kubernetes-validations": [{ rule: "true" }] } } }] },
    ["s.anyOf[0].properties[a].x-kubernetes-validations"],
  ],
  [
    "oneOf inside allOf",
    { allOf: [{ oneOf: [{ "x-kubernetes-validations": [{ rule: "true" }] }] }] },
    ["s.allOf[0].oneOf[0].x-kubernetes-validations"],
  ],
  [
    "allOf inside anyOf",
    { anyOf: [{ allOf: [{ properties: { a: { "x-kubernetes-validations": [{ rule: "true" }] } } }] }] },
    ["s.anyOf[0].allOf[0].properties[a].x-kubernetes-validations"],
  ],
  ["not", { not: { "x-kubernetes-validations": [{ rule: "true" }] } }, ["s.not.x-kubernetes-validations"]],
  ["allOf", { allOf: [{ properties: { a: { "x-kubernetes-validations": [{ rule: "true" }] } } }] }, []],
])("rules may stand in allOf, in no other combination: %s", (_, schema, fields) => {
  const whole = JSON.parse(JSON.stringify({ type: "object", properties: { a: TEXT }, ...schema })) as JsonValue;
  expect(validateStructural(whole, "s").map((error) => error.field)).toEqual([...fields]);
});

test("what is no list of rules is refused", () => {
  expect(
    validateStructural({ type: "object", "x-kubernetes-validations": "true" }, "s").map((error) => error.field),
  ).toEqual(["s.x-kubernetes-validations"]);
});

test.each([
  ["name", "name"],
  ["namespace", "__namespace__"],
  ["a-b", "a__dash__b"],
  ["a__b", "a__underscores__b"],
  ["a.b/c", "a__dot__b__slash__c"],
  ["$ref", undefined],
  ["1st", undefined],
])("the field %s is known as %s", (name, expected) => expect(escapeName(name)).toBe(expected));
