/**
 * probe: a kind whose rules try what rules in CEL may say, and objects that keep them or not. Kubernetes and the embedded API must say the
 * same of each.
 */
import type { JsonObject } from "../../src/model/schema/json.ts";

export const PROBE_PATH = "/apis/example.org/v1/probes";

const TEXT = { type: "string", maxLength: 64 } as const;

/** Each has its own text as its message, so that an error names the rule. */
const RULES: readonly string[] = [
  "!has(self.name) || self.name.matches('^(?i)[a-z]+$')",
  "!has(self.name) || (self.name.size() < 9 && size(self.name) > 1 && self.name.lowerAscii() != 'no' && self.name.replace('a', 'b').contains('b') == self.name.contains('a'))",
  "!has(self.count) || self.count / 2 * 2 == self.count",
  "!has(self.count) || self.count % 7 != 1",
  "!has(self.share) || (self.share > 0 && self.share < 1.5)",
  "!has(self.port) || self.port == 80 || self.port == 'http'",
  "!has(self.port) || self.port > 79",
  "!has(self.tags) || (self.tags.all(t, t.startsWith('a')) && self.tags.size() < 3)",
  "!has(self.tags) || sets.contains(self.tags, ['ab'])",
  "!has(self.items) || (self.items.map(i, i.size).sum() < 9 && self.items.exists_one(i, i.id == 'x'))",
  "!has(self.items) || self.items.filter(i, i.size > 3).size() == 0",
  "!has(self.items) || self.items[0].size == 1",
  "!has(self.labels) || self.labels.all(k, self.labels[k] != k)",
  "!has(self.labels) || 'must' in self.labels",
  "!has(self.since) || self.since < timestamp('2025-01-01T00:00:00Z')",
  "!has(self.period) || self.period >= duration('1m')",
  "self.?inner.?value.orValue(1) == 1",
  "!has(self.address) || (isIP(self.address) && ip(self.address).family() == 6)",
  "!has(self.address) || !ip(self.address).isLoopback()",
  "!has(self.range) || (isCIDR(self.range) && cidr(self.range) == cidr(self.range).masked())",
  "!has(self.range) || cidr(self.range).prefixLength() > 8",
  "!has(self.range) || !cidr('10.0.0.0/8').containsCIDR(self.range)",
  "!has(self.range) || !cidr(self.range).containsIP('fd00::1')",
  "!has(self.__namespace__) || self.__namespace__ == self.a__dash__b",
];

export const PROBE_DEFINITION = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "probes.example.org" },
  spec: {
    group: "example.org",
    names: { plural: "probes", singular: "probe", kind: "Probe", listKind: "ProbeList" },
    scope: "Cluster",
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: "object",
            "x-kubernetes-validations": [{ rule: "self.metadata.name.startsWith('p')", message: "names begin with p" }],
            properties: {
              spec: {
                type: "object",
                "x-kubernetes-validations": [
                  ...RULES.map((rule) => ({ rule, message: rule })),
                  {
                    rule: "!has(self.count) || self.count < 50",
                    message: "unused",
                    messageExpression: "'the count of ' + self.name",
                    reason: "FieldValueForbidden",
                    fieldPath: ".count",
                  },
                  {
                    rule: "!has(self.count) || self.count != 44",
                    message: "used",
                    messageExpression: "self.items[5].id",
                    reason: "FieldValueRequired",
                    fieldPath: ".inner.value",
                  },
                  { rule: "!has(self.count) || self.count != 46" },
                  { rule: "!has(oldSelf.count) || has(self.count)", message: "count stays" },
                  {
                    rule: "oldSelf.hasValue() || !has(self.count) || self.count < 40",
                    message: "count begins below 40",
                    optionalOldSelf: true,
                  },
                ],
                properties: {
                  name: TEXT,
                  count: {
                    type: "integer",
                    maximum: 99,
                    "x-kubernetes-validations": [
                      { rule: "self >= oldSelf", message: "count grows", reason: "FieldValueInvalid" },
                    ],
                  },
                  share: { type: "number" },
                  port: { "x-kubernetes-int-or-string": true },
                  tags: {
                    type: "array",
                    maxItems: 4,
                    items: TEXT,
                    "x-kubernetes-list-type": "set",
                    "x-kubernetes-validations": [{ rule: "self == oldSelf", message: "tags stay" }],
                  },
                  items: {
                    type: "array",
                    maxItems: 4,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["id"],
                    items: {
                      type: "object",
                      required: ["id"],
                      properties: {
                        id: TEXT,
                        size: {
                          type: "integer",
                          "x-kubernetes-validations": [
                            { rule: "self >= oldSelf", message: "sizes grow" },
                            { rule: "self != 2", message: "two is no size" },
                          ],
                        },
                      },
                    },
                  },
                  labels: {
                    type: "object",
                    maxProperties: 4,
                    additionalProperties: {
                      ...TEXT,
                      "x-kubernetes-validations": [{ rule: "self != 'bad'", message: "bad label" }],
                    },
                  },
                  since: { type: "string", format: "date-time" },
                  period: { type: "string", format: "duration", maxLength: 16 },
                  inner: { type: "object", properties: { value: { type: "integer" } } },
                  address: TEXT,
                  range: TEXT,
                  namespace: TEXT,
                  "a-b": TEXT,
                },
              },
            },
          },
        },
      },
    ],
  },
} as const;

/** What is wrong with these rules. */
export const WRONG_RULES: readonly (readonly [string, JsonObject])[] = [
  ["syntax", { rule: "self.name ==" }],
  ["an unknown field", { rule: "self.nope" }],
  ["an unknown field below has", { rule: "has(self.nope)" }],
  ["types that do not go together", { rule: "self.name == 1" }],
  ["an unknown function", { rule: "self.name.nope()" }],
  ["a wrong pattern", { rule: "self.name.matches('[')" }],
  ["no truth value", { rule: "self.name" }],
  ["an unknown reason", { rule: "true", reason: "Because" }],
  ["a path to no field", { rule: "true", fieldPath: ".nope" }],
  ["a message of two lines", { rule: "true", message: "a\nb" }],
  ["a message of another type", { rule: "true", messageExpression: "1" }],
  ["optionalOldSelf without oldSelf", { rule: "true", optionalOldSelf: true }],
];

export const PROBES: readonly (readonly [string, JsonObject])[] = [
  ["nothing", {}],
  [
    "good",
    {
      name: "Aac",
      count: 4,
      share: 0.5,
      port: 80,
      tags: ["ab", "a"],
      items: [{ id: "x", size: 1 }],
      labels: { must: "x" },
      since: "2024-01-01T00:00:00Z",
      period: "2h",
      inner: { value: 1 },
      address: "fd00::1",
      range: "fd01::/48",
      namespace: "n",
      "a-b": "n",
    },
  ],
  ["text", { name: "a1", address: "::1", range: "10.1.0.1/16" }],
  ["short text", { name: "a", port: "http" }],
  ["numbers", { count: 15, share: 1.5, port: 79 }],
  ["a big count", { name: "abc", count: 52, port: "https" }],
  ["a message that fails", { count: 44, port: 80 }],
  ["a rule without a message", { count: 46 }],
  [
    "lists",
    {
      tags: ["b", "a", "ac"],
      items: [
        { id: "y", size: 2 },
        { id: "x", size: 8 },
      ],
    },
  ],
  ["missing below a list", { items: [{ id: "x" }], tags: [] }],
  ["maps", { labels: { a: "a", b: "bad" } }],
  ["times", { since: "2026-01-01T00:00:00Z", period: "5s", inner: { value: 2 } }],
  ["addresses, IPv4", { address: "10.0.0.1", range: "0.0.0.0/0" }],
  ["addresses, IPv6", { address: "fe80::1%eth0", range: "::/0" }],
  ["addresses, mapped", { address: "::ffff:10.0.0.1", range: "::ffff:10.0.0.0/104" }],
  ["no addresses", { address: "x", range: "x" }],
  ["reserved names", { namespace: "a", "a-b": "b" }],
  ["too much wrong for rules", { name: "a1", count: 7, items: [{ size: 2 }] }],
  ["wrong, not too much", { name: "a1", count: 100 }],
];

/** Changes to the probe that is `good`. */
export const PROBE_CHANGES: readonly (readonly [string, JsonObject])[] = [
  ["smaller count", { count: 2 }],
  ["bigger count", { count: 48 }],
  ["no count", { count: null }],
  ["other tags", { tags: ["ab"] }],
  ["tags in another order", { tags: ["a", "ab"] }],
  [
    "a size that shrinks",
    {
      items: [
        { id: "z", size: 0 },
        { id: "x", size: 0 },
      ],
    },
  ],
  ["a wrong size", { items: [{ id: "z", size: 2 }] }],
  ["nothing", {}],
];
