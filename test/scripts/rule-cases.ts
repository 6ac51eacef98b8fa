/**
 * RuleCases: CEL rules of CustomResourceDefinitions and what Kubernetes 1.34 answers: which definitions it refuses, which objects, in what
 * words. The embedded API is held to them here, a real kube-apiserver in test/kubernetes/api.test.ts.
 */
import { isJsonObject, type JsonValue } from "../../src/model/schema/json.ts";

/** One server, by requests that create, replace and delete. */
export interface RuleServer {
  /** Creates; the errors of a 422 as `field: message`, none when it is accepted. */
  readonly create: (path: string, object: object) => Promise<readonly string[]>;
  /** Replaces `spec` (and `status`, which the subresource writes). */
  readonly replace: (path: string, changes: object) => Promise<readonly string[]>;
  readonly served: (path: string) => Promise<boolean>;
  readonly remove: (path: string) => Promise<void>;
}

interface Step {
  readonly spec: object;
  /** Replaces the object of the step before instead of creating one. */
  readonly update?: boolean;
  readonly errors?: readonly string[];
}

export interface ObjectCase {
  readonly name: string;
  /** Schema of `spec`. */
  readonly schema: object;
  readonly steps: readonly Step[];
}

export interface DefinitionCase {
  readonly name: string;
  readonly schema: object;
  readonly errors: readonly string[];
}

const TEXT = { type: "string", maxLength: 40 };
const INTEGER = { type: "integer" };

function object(properties: object, ...rules: readonly object[]): object {
  return { type: "object", properties, "x-kubernetes-validations": rules };
}

function failed(rule: string, field = "spec", type = "object"): string {
  return `${field}: Invalid value: "${type}": failed rule: ${rule}`;
}

export const OBJECT_CASES: readonly ObjectCase[] = [
  {
    name: "reason, field path, message",
    schema: object(
      { a: TEXT, n: INTEGER, o: object({ x: INTEGER }) },
      { rule: "!has(self.n) || self.n > 1" },
      { rule: "!has(self.a) || self.a != 'no'", message: "a is bad", reason: "FieldValueForbidden", fieldPath: ".a" },
      { rule: "!has(self.a) || self.a != 'need'", message: "needed", reason: "FieldValueRequired", fieldPath: ".o.x" },
      { rule: "!has(self.a) || self.a != 'twice'", message: "again", reason: "FieldValueDuplicate" },
      { rule: "!has(self.a) || self.a != 'made'", messageExpression: "string(self.n)" },
    ),
    steps: [
      { spec: { n: 1 }, errors: [failed("!has(self.n) || self.n > 1")] },
      { spec: { a: "no" }, errors: ["spec.a: Forbidden: a is bad"] },
      { spec: { a: "need" }, errors: ["spec.o.x: Required value: needed"] },
      { spec: { a: "twice" }, errors: ['spec: Duplicate value: "object"'] },
      { spec: { a: "made", n: 5 }, errors: ['spec: Invalid value: "object": 5'] },
      { spec: { a: "made" }, errors: [failed("!has(self.a) || self.a != 'made'")] },
      { spec: { a: "no", n: 0 }, errors: [failed("!has(self.n) || self.n > 1"), "spec.a: Forbidden: a is bad"] },
      { spec: { a: "yes", n: 2 } },
      { spec: { n: 1 }, update: true, errors: [failed("!has(self.n) || self.n > 1")] },
    ],
  },
  {
    name: "beside the schema's errors",
    schema: object({ a: { type: "string", maxLength: 3 }, n: { type: "integer", maximum: 3 } }, { rule: "self.a != 'abc'" }),
    steps: [
      { spec: { a: "abc", n: 9 }, errors: ["spec.n: Invalid value: 9: spec.n in body should be less than or equal to 3", failed("self.a != 'abc'")] },
      {
        spec: { a: "abcd" },
        errors: [
          "spec.a: Too long: may not be more than 3 bytes",
          "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ],
      },
    ],
  },
  {
    name: "a rule that cannot be evaluated refuses",
    schema: object({ n: INTEGER, l: { type: "array", maxItems: 3, items: INTEGER } }, { rule: "self.n > 1" }, { rule: "self.l[0] == 1", message: "first" }),
    steps: [
      { spec: {}, errors: ['spec: Invalid value: "object": no such key: n evaluating rule: self.n > 1', 'spec: Invalid value: "object": no such key: l evaluating rule: first'] },
      { spec: { n: 3, l: [] }, errors: ['spec: Invalid value: "object": index out of bounds: 0 evaluating rule: first'] },
    ],
  },
  {
    name: "null is absent",
    schema: object({ n: { type: "integer", nullable: true }, h: { type: "integer", nullable: true } }, { rule: "!has(self.n) || self.n > 1" }, { rule: "has(self.h)", message: "no h" }),
    steps: [{ spec: { n: null, h: 1 } }, { spec: { h: null }, errors: ['spec: Invalid value: "object": no h'] }],
  },
  {
    name: "transitions",
    schema: object({
      a: { ...TEXT, "x-kubernetes-validations": [{ rule: "self == oldSelf", message: "a stays" }] },
      m: {
        type: "array", maxItems: 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        items: { ...object({ k: TEXT, v: INTEGER }, { rule: "self.v >= oldSelf.v", message: "v grows" }), required: ["k"] },
      },
      p: { type: "object", maxProperties: 5, additionalProperties: { type: "integer", "x-kubernetes-validations": [{ rule: "self >= oldSelf", message: "p grows" }] } },
      set: { type: "array", "x-kubernetes-list-type": "set", maxItems: 5, items: TEXT, "x-kubernetes-validations": [{ rule: "self == oldSelf", message: "set stays" }] },
      first: { ...TEXT, "x-kubernetes-validations": [{ rule: "oldSelf.hasValue() || self == 'one'", optionalOldSelf: true, message: "begins with one" }] },
    }),
    steps: [
      { spec: { first: "two" }, errors: ['spec.first: Invalid value: "string": begins with one'] },
      { spec: { a: "1", m: [{ k: "x", v: 1 }, { k: "y", v: 2 }], p: { q: 1 }, set: ["a", "b"], first: "one" } },
      { spec: { a: "2" }, update: true, errors: ['spec.a: Invalid value: "string": a stays'] },
      { spec: { m: [{ k: "y", v: 2 }, { k: "x", v: 1 }], set: ["b", "a"], p: { q: 1, r: 0 }, first: "two" }, update: true },
      { spec: { m: [{ k: "x", v: 0 }, { k: "z", v: 0 }], p: { q: 0 }, set: ["b"] }, update: true, errors: ['spec.m[0]: Invalid value: "object": v grows', 'spec.p[q]: Invalid value: "integer": p grows', 'spec.set: Invalid value: "array": set stays'] },
      { spec: {}, update: true },
      { spec: { a: "3" }, update: true },
    ],
  },
  {
    name: "what an update leaves as it was",
    schema: object({ list: { type: "array", "x-kubernetes-list-type": "set", maxItems: 5, items: TEXT }, sub: object({ list: { type: "array", "x-kubernetes-list-type": "set", maxItems: 5, items: TEXT } }) }, { rule: "self == oldSelf", message: "all stays" }),
    steps: [
      { spec: { list: ["a", "b"], sub: { list: ["c", "d"] } } },
      { spec: { list: ["b", "a"], sub: { list: ["d", "c"] } }, update: true },
      { spec: { list: ["b", "a"], sub: { list: ["d", "e"] } }, update: true, errors: ['spec: Invalid value: "object": all stays'] },
    ],
  },
  {
    name: "items, values, integers or text, patterns",
    schema: object({
      l: { type: "array", maxItems: 4, items: object({ x: INTEGER }, { rule: "self.x > 0" }) },
      p: { type: "object", maxProperties: 4, additionalProperties: { type: "integer", "x-kubernetes-validations": [{ rule: "self > 0", message: "positive" }] } },
      i: { "x-kubernetes-int-or-string": true, "x-kubernetes-validations": [{ rule: "type(self) == int ? self > 0 : self == 'x'", message: "above 0, or x" }] },
      s: { ...TEXT, "x-kubernetes-validations": [{ rule: "self.matches('(?i)^ab$')", message: "like ab" }] },
      arr: { type: "array", maxItems: 4, items: INTEGER, "x-kubernetes-validations": [{ rule: "self.sum() < 10 && self.isSorted()", messageExpression: "string(self.sum())" }] },
      "a-b": { ...TEXT, "x-kubernetes-validations": [{ rule: "self.size() > 1", message: "long" }] },
    }),
    steps: [
      {
        spec: { l: [{ x: 1 }, { x: 0 }], p: { "a.b": 0 }, i: 0, s: "AC", arr: [1, 2, 9], "a-b": "é" },
        errors: [
          failed("self.x > 0", "spec.l[1]"), 'spec.p[a.b]: Invalid value: "integer": positive', 'spec.i: Invalid value: "": above 0, or x', 'spec.s: Invalid value: "string": like ab',
          'spec.arr: Invalid value: "array": 12', 'spec.a-b: Invalid value: "string": long',
        ],
      },
      { spec: { l: [{ x: 1 }], p: { a: 1 }, i: "x", s: "AB", arr: [1, 2], "a-b": "éé" } },
    ],
  },
  {
    name: "addresses and ranges",
    schema: object(
      { a: TEXT, c: TEXT },
      ...["!has(self.a) || isIP(self.a)", "!has(self.c) || isCIDR(self.c)", "!has(self.a) || !isIP(self.a) || ip.isCanonical(self.a)"].map((rule) => ({ rule })),
      ...["ip(self.a).isGlobalUnicast()", "!ip(self.a).isLoopback()", "!ip(self.a).isLinkLocalUnicast()"].map((rule) => ({ rule: `!has(self.a) || !isIP(self.a) || ${rule}` })),
      ...["cidr(self.c) == cidr(self.c).masked()", "cidr(self.c).ip().family() == (cidr(self.c).prefixLength() > 32 ? 6 : 4)", "!cidr(self.c).containsIP('10.1.2.3')", "!cidr(self.c).containsCIDR('fd00::/120')"].map((rule) => ({ rule: `!has(self.c) || !isCIDR(self.c) || ${rule}` })),
    ),
    steps: [
      { spec: { a: "10.0.0.1", c: "10.0.0.0/16" } },
      { spec: { a: "fd00::1", c: "fd00::/121" } },
      { spec: { a: "010.0.0.1", c: "10.0.0.0/08" }, errors: [failed("!has(self.a) || isIP(self.a)"), failed("!has(self.c) || isCIDR(self.c)")] },
      { spec: { a: "::ffff:10.0.0.1", c: "::ffff:10.0.0.0/120" }, errors: [failed("!has(self.a) || isIP(self.a)"), failed("!has(self.c) || isCIDR(self.c)")] },
      { spec: { a: "FD00::1", c: "fd00::1/64" }, errors: [failed("!has(self.a) || !isIP(self.a) || ip.isCanonical(self.a)"), failed("!has(self.c) || !isCIDR(self.c) || cidr(self.c) == cidr(self.c).masked()"), failed("!has(self.c) || !isCIDR(self.c) || !cidr(self.c).containsCIDR('fd00::/120')")] },
      { spec: { a: "127.0.0.1", c: "10.0.0.0/8" }, errors: [failed("!has(self.a) || !isIP(self.a) || ip(self.a).isGlobalUnicast()"), failed("!has(self.a) || !isIP(self.a) || !ip(self.a).isLoopback()"), failed("!has(self.c) || !isCIDR(self.c) || !cidr(self.c).containsIP('10.1.2.3')")] },
      { spec: { a: "fe80::1", c: "fd00::/32" }, errors: [failed("!has(self.a) || !isIP(self.a) || ip(self.a).isGlobalUnicast()"), failed("!has(self.a) || !isIP(self.a) || !ip(self.a).isLinkLocalUnicast()"), failed("!has(self.c) || !isCIDR(self.c) || cidr(self.c).ip().family() == (cidr(self.c).prefixLength() > 32 ? 6 : 4)"), failed("!has(self.c) || !isCIDR(self.c) || !cidr(self.c).containsCIDR('fd00::/120')")] },
    ],
  },
];

const AT = "spec.validation.openAPIV3Schema.properties[spec]";

/** The first rule of `spec` is refused. */
function refused(rule: string, column: number, words: string, before = AT): string {
  const shown = JSON.stringify({ Rule: rule, Message: "", MessageExpression: "", Reason: null, FieldPath: "", OptionalOldSelf: null }).replace(/[<>&]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`);
  return `${before}.x-kubernetes-validations[0].rule: Invalid value: ${shown}: compilation failed: ERROR: <input>:1:${column}: ${words}\n | ${rule}\n | ${".".repeat(column - 1)}^`;
}

const PROPERTIES = { n: INTEGER, s: TEXT, sub: { type: "object", properties: { x: INTEGER } }, ls: { type: "array", maxItems: 4, items: TEXT }, free: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };

function badRule(rule: string, column: number, words: string): DefinitionCase {
  return { name: rule, schema: object(PROPERTIES, { rule }), errors: [refused(rule, column, words)] };
}

function badShape(field: string, rule: object, error: string): DefinitionCase {
  return { name: `${field} ${JSON.stringify(rule)}`, schema: object(PROPERTIES, rule), errors: [`${AT}.x-kubernetes-validations[0].${field}: ${error}`] };
}

export const DEFINITION_CASES: readonly DefinitionCase[] = [
  badRule("self.nope == 1", 5, "undefined field 'nope'"),
  badRule("has(self.sub.nope)", 4, "undefined field 'nope'"),
  badRule("has(self.free.x)", 4, "undefined field 'x'"),
  badRule("self.ls.all(i, self.nope)", 20, "undefined field 'nope'"),
  badRule("foo == 1", 1, "undeclared reference to 'foo' (in container '')"),
  badRule("self.s + 1 > 0", 8, "found no matching overload for '_+_' applied to '(string, int)'"),
  badRule("self.n == null", 8, "found no matching overload for '_==_' applied to '(int, null)'"),
  badRule("self.n > 0 && self.n == 1.0", 22, "found no matching overload for '_==_' applied to '(int, double)'"),
  badRule("self.ls.sum() == 1", 12, "found no matching overload for 'sum' applied to 'list(string).()'"),
  badRule("self.s.reverse() == ''", 15, "undeclared reference to 'reverse' (in container '')"),
  badRule("isIP(1)", 5, "found no matching overload for 'isIP' applied to '(int)'"),
  badRule("self.s.matches('[')", 16, "invalid matches argument"),
  badRule("!self.n", 1, "found no matching overload for '!_' applied to '(int)'"),
  badShape("rule", { rule: " " }, "Required value: rule is not specified"),
  badShape("message", { rule: "true", message: "a\nb" }, 'Invalid value: "a\\nb": must not contain line breaks'),
  badShape("message", { rule: "self.n\n> 1" }, "Required value: message must be specified if rule contains line breaks"),
  badShape("reason", { rule: "true", reason: "Nope" }, 'Unsupported value: "Nope": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"'),
  badShape("fieldPath", { rule: "true", fieldPath: ".zz" }, 'Invalid value: ".zz": must be a valid path'),
  badShape("fieldPath", { rule: "true", fieldPath: ".ls[0]" }, 'Invalid value: ".ls[0]": must be a valid path'),
  badShape("optionalOldSelf", { rule: "true", optionalOldSelf: true }, "Invalid value: true: may not be set if oldSelf is not used in rule"),
  {
    name: "the type of a rule",
    schema: object(PROPERTIES, { rule: "self.n" }),
    errors: [`${AT}.x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self.n","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: cel expression must evaluate to a bool`],
  },
  {
    name: "the type of a message",
    schema: object(PROPERTIES, { rule: "true", messageExpression: "self.n" }),
    errors: [`${AT}.x-kubernetes-validations[0].messageExpression: Invalid value: {"Rule":"true","Message":"","MessageExpression":"self.n","Reason":null,"FieldPath":"","OptionalOldSelf":null}: messageExpression must evaluate to a string`],
  },
  {
    name: "oldSelf of items that cannot be told apart",
    schema: object({ list: { type: "array", maxItems: 4, items: object({ x: INTEGER }, { rule: "self.x == oldSelf.x" }) } }),
    errors: [`${AT}.properties[list].items.x-kubernetes-validations[0].rule: Invalid value: "self.x == oldSelf.x": oldSelf cannot be used on the uncorrelatable portion of the schema within ${AT}.properties[list]`],
  },
  {
    name: "a rule inside anyOf",
    schema: { type: "object", anyOf: [{ "x-kubernetes-validations": [{ rule: "true" }] }] },
    errors: [`${AT}.anyOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural`],
  },
];

const DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GROUP = "rules.example.com";

function definition(plural: string, schema: object): object {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP, names: { plural, kind: plural.toUpperCase() }, scope: "Cluster",
      versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object", properties: { spec: schema } } } }],
    },
  };
}

/** The errors of each step of a case. */
export async function runObjectCase(server: RuleServer, { schema, steps }: ObjectCase, index: number): Promise<readonly (readonly string[])[]> {
  const plural = `r${index}${Buffer.from(crypto.getRandomValues(new Uint8Array(3))).toString("hex")}`;
  const base = `/apis/${GROUP}/v1/${plural}`;
  const refusals = await server.create(DEFINITIONS, definition(plural, schema));
  if (refusals.length > 0) return [refusals];
  while (!(await server.served(base))) await Bun.sleep(50);
  const found: (readonly string[])[] = [];
  let name = "";
  for (const [number, { spec, update = false }] of steps.entries()) {
    if (!update) name = `o${number}`;
    const whole = { apiVersion: `${GROUP}/v1`, kind: plural.toUpperCase(), metadata: { name }, spec };
    found.push(await (update ? server.replace(`${base}/${name}`, { spec }) : server.create(base, whole)));
  }
  await server.remove(`${DEFINITIONS}/${plural}.${GROUP}`);
  return found;
}

export function runDefinitionCase(server: RuleServer, { schema }: DefinitionCase): Promise<readonly string[]> {
  return server.create(`${DEFINITIONS}?dryRun=All`, definition("refused", schema));
}

/** The errors of a Status, each `field: message`. */
export function errorsOf(status: JsonValue): readonly string[] {
  const details = isJsonObject(status) ? status["details"] : undefined;
  const causes = isJsonObject(details) ? details["causes"] : undefined;
  if (!Array.isArray(causes)) throw new Error(`a refusal without causes: ${JSON.stringify(status)}`);
  return causes.map((cause) => (isJsonObject(cause) ? `${String(cause["field"])}: ${String(cause["message"])}` : ""));
}
