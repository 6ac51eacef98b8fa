/**
 * Rule: one rule of a policy or profile, and EntityRule, one side of the packets that it matches.
 * Upstream: api/pkg/apis/projectcalico/v3/policy_common.go.
 */
import type { Infer, Schema, ValidationRule } from "../schema/schema.ts";
import { MOST_NAME, MOST_RANGE, NAME, SELECTOR, withoutGlobal } from "./common.ts";
import { WORDS } from "./words.ts";

export const PROTOCOL_NAMES = ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"] as const;
/** Most rules of one direction. */
export const MOST_RULES = 1024;

/** What text must look like; tools say it in words. */
export const PATTERNS = {
  protocol: `^(${PROTOCOL_NAMES.join("|")})$`,
  port: "^([a-zA-Z0-9_.-]{1,128}|[0-9]{1,5}:[0-9]{1,5})$",
  tier: "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
} as const;

const PROTOCOL = {
  "x-kubernetes-int-or-string": true,
  minimum: 1,
  maximum: 255,
  pattern: PATTERNS.protocol,
} as const satisfies Schema;
/** A number, a range such as `80:90`, or a name. The order of a range and the highest port in text are for validators. */
const PORTS = {
  type: "array",
  maxItems: 50,
  "x-kubernetes-list-type": "atomic",
  items: {
    "x-kubernetes-int-or-string": true,
    minimum: 1,
    maximum: 65535,
    pattern: PATTERNS.port,
  },
} as const satisfies Schema;

/**
 * The cost that an API server estimates grows with all ranges that a policy may have, and these rules are near its limit: host bits and
 * lists with ranges of both families are for validators; between lists, the first range of each is compared.
 */
const IS_RANGE: ValidationRule = { rule: "isCIDR(self) || isIP(self)", message: WORDS.cidrOrAddress };
const NETS = { type: "array", maxItems: 256, "x-kubernetes-list-type": "set" } as const satisfies Schema;
const RANGE = {
  type: "string",
  maxLength: MOST_RANGE,
  "x-kubernetes-validations": [IS_RANGE],
} as const satisfies Schema;
const NOT_RANGE = {
  ...RANGE,
  "x-kubernetes-validations": [IS_RANGE, { rule: "!self.endsWith('/0')", message: WORDS.catchAll }],
} as const satisfies Schema;

const ICMP = {
  type: "object",
  properties: {
    type: { type: "integer", description: "Every type when absent.", minimum: 0, maximum: 254 },
    code: { type: "integer", description: "Every code when absent.", minimum: 0, maximum: 255 },
  },
  "x-kubernetes-validations": [
    {
      rule: "!has(self.code) || has(self.type)",
      message: WORDS.icmpType,
      reason: "FieldValueRequired",
      fieldPath: ".type",
    },
  ],
} as const satisfies Schema;

/** With `services`, nothing else may say which endpoints are meant. */
function servicesAlone(field: string, isEmpty: string): ValidationRule {
  return {
    rule: `!has(self.services) || !has(self.${field}) || ${isEmpty}`,
    message: WORDS.servicesAlone,
    reason: "FieldValueForbidden",
    fieldPath: `.${field}`,
  };
}

const ENTITY_RULES: readonly ValidationRule[] = [
  ...withoutGlobal("selector", "notSelector"),
  {
    rule: "!has(self.namespaceSelector) || !self.namespaceSelector.contains('global(') || self.namespaceSelector.trim() == 'global()'",
    message: WORDS.globalAlone,
    fieldPath: ".namespaceSelector",
  },
  ...["selector", "notSelector", "namespaceSelector"].map((field) => servicesAlone(field, `self.${field} == ''`)),
  ...["nets", "notNets"].map((field) => servicesAlone(field, `size(self.${field}) == 0`)),
  servicesAlone("serviceAccounts", "false"),
];

export const ENTITY_RULE = {
  type: "object",
  "x-kubernetes-validations": ENTITY_RULES,
  properties: {
    nets: { ...NETS, items: RANGE, description: "The address is in one of these ranges." },
    notNets: { ...NETS, items: NOT_RANGE, description: "The address is in none of these ranges." },
    selector: { ...SELECTOR, description: "The address is one of an endpoint or network set that this selects." },
    notSelector: { ...SELECTOR, description: "The address is none of an endpoint or network set that this selects." },
    namespaceSelector: {
      ...SELECTOR,
      description: "Restricts the selectors to namespaces; global() restricts them to what is in no namespace.",
    },
    ports: { ...PORTS, description: "The port is one of these: numbers, ranges such as 80:90, or names." },
    notPorts: { ...PORTS, description: "The port is none of these." },
    serviceAccounts: {
      type: "object",
      description: "The address is one of a pod with one of these service accounts.",
      properties: {
        names: {
          type: "array",
          maxItems: 256,
          "x-kubernetes-list-type": "set",
          items: { type: "string", maxLength: MOST_NAME },
        },
        selector: SELECTOR,
      },
      "x-kubernetes-validations": withoutGlobal("selector"),
    },
    services: {
      type: "object",
      description: "The address is one of the Service's endpoints.",
      properties: {
        name: NAME,
        namespace: { ...NAME, description: "The policy's own namespace when absent." },
      },
      "x-kubernetes-validations": [
        {
          rule: "has(self.name) && self.name != ''",
          message: WORDS.servicesName,
          reason: "FieldValueRequired",
          fieldPath: ".name",
        },
      ],
    },
  },
} as const satisfies Schema;

/** Empty text means absent. */
const HTTP_PATH = { type: "string", maxLength: 1024, pattern: "^(/[^? #]*)?$" } as const satisfies Schema;

const isIcmp = (field: string): string => `(self.${field} == 'ICMP' || self.${field} == 1)`;
const isIcmp6 = (field: string): string => `(self.${field} == 'ICMPv6' || self.${field} == 58)`;
const HAS_PORTS =
  "(self.protocol == 'TCP' || self.protocol == 'UDP' || self.protocol == 'SCTP' || self.protocol == 6 || self.protocol == 17 || self.protocol == 132)";

function versionRule(field: "protocol" | "notProtocol", test: string, version: 4 | 6, message: string): ValidationRule {
  return {
    rule: `!has(self.${field}) || !${test} || !has(self.ipVersion) || self.ipVersion == ${version}`,
    message,
    fieldPath: ".ipVersion",
  };
}

const SIDES = ["source", "destination"] as const;
const PORT_LISTS = SIDES.flatMap((side) => [`${side}.ports`, `${side}.notPorts`]);
const NET_LISTS = SIDES.flatMap((side) => [`${side}.nets`, `${side}.notNets`]);
/** `has(self.source) && has(self.source.nets)`. */
const given = (path: string): string => `has(self.${path.split(".")[0]}) && has(self.${path})`;
/** Of a list of ranges. */
const isSix = (path: string): string => `self.${path}[0].contains(':')`;

const RULE_RULES: readonly ValidationRule[] = [
  {
    rule: `!has(self.icmp) || (has(self.protocol) && (${isIcmp("protocol")} || ${isIcmp6("protocol")}))`,
    message: WORDS.icmpProtocol,
    fieldPath: ".icmp",
  },
  versionRule("protocol", isIcmp("protocol"), 4, WORDS.version4),
  versionRule("protocol", isIcmp6("protocol"), 6, WORDS.version6),
  versionRule("notProtocol", isIcmp("notProtocol"), 4, WORDS.notVersion4),
  versionRule("notProtocol", isIcmp6("notProtocol"), 6, WORDS.notVersion6),
  {
    rule: "!has(self.http) || self.action == 'Allow'",
    message: WORDS.httpAction,
    reason: "FieldValueForbidden",
    fieldPath: ".http",
  },
  {
    rule: "!has(self.http) || !has(self.protocol) || self.protocol == 'TCP' || self.protocol == 6",
    message: WORDS.httpProtocol,
    fieldPath: ".protocol",
  },
  ...PORT_LISTS.flatMap((path): ValidationRule[] => [
    {
      rule: `!has(self.protocol) || !(${given(path)}) || size(self.${path}) == 0 || ${HAS_PORTS}`,
      message: WORDS.portsProtocol,
      fieldPath: `.${path}`,
    },
    {
      rule: `has(self.protocol) || !(${given(path)}) || self.${path}.all(port, type(port) == string)`,
      message: WORDS.numbersProtocol,
      fieldPath: `.${path}`,
    },
  ]),
  ...["ports", "notPorts"].map((field): ValidationRule => ({
    rule: `!has(self.destination) || !has(self.destination.services) || !has(self.destination.${field}) || size(self.destination.${field}) == 0`,
    message: WORDS.servicesPorts,
    reason: "FieldValueForbidden",
    fieldPath: `.destination.${field}`,
  })),
  ...NET_LISTS.map((path): ValidationRule => ({
    rule: `!has(self.ipVersion) || !(${given(path)}) || size(self.${path}) == 0 || ${isSix(path)} == (self.ipVersion == 6)`,
    message: WORDS.familyOfIpVersion,
    fieldPath: `.${path}`,
  })),
  ...NET_LISTS.flatMap((path, i) =>
    NET_LISTS.slice(0, i).map((other): ValidationRule => ({
      rule: `!(${given(path)}) || !(${given(other)}) || size(self.${path}) == 0 || size(self.${other}) == 0 || ${isSix(path)} == ${isSix(other)}`,
      message: WORDS.familyOfRule,
      fieldPath: `.${path}`,
    })),
  ),
];

export const RULE = {
  type: "object",
  required: ["action"],
  "x-kubernetes-validations": RULE_RULES,
  properties: {
    action: { type: "string", enum: ["Allow", "Deny", "Log", "Pass"] },
    ipVersion: { type: "integer", enum: [4, 6] },
    protocol: { ...PROTOCOL, description: "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or 1 to 255." },
    notProtocol: { ...PROTOCOL, description: "Every protocol but this one." },
    icmp: ICMP,
    notICMP: ICMP,
    source: ENTITY_RULE,
    destination: ENTITY_RULE,
    http: {
      type: "object",
      properties: {
        methods: {
          type: "array",
          maxItems: 20,
          "x-kubernetes-list-type": "set",
          items: { type: "string", maxLength: 1024 },
        },
        paths: {
          type: "array",
          maxItems: 20,
          "x-kubernetes-list-type": "atomic",
          items: {
            type: "object",
            properties: { exact: HTTP_PATH, prefix: HTTP_PATH },
            "x-kubernetes-validations": [
              {
                rule: "(has(self.exact) && self.exact != '') != (has(self.prefix) && self.prefix != '')",
                message: WORDS.httpPath,
              },
            ],
          },
        },
      },
    },
    metadata: {
      type: "object",
      properties: { annotations: { type: "object", additionalProperties: { type: "string" } } },
    },
  },
} as const satisfies Schema;

const LIST = { type: "array", maxItems: MOST_RULES, "x-kubernetes-list-type": "atomic" } as const satisfies Schema;

function misplacedServices(side: "source" | "destination", message: string): ValidationRule {
  return {
    rule: `!has(self.${side}) || !has(self.${side}.services)`,
    message,
    reason: "FieldValueForbidden",
    fieldPath: `.${side}.services`,
  };
}

function servicesNamespace(side: "source" | "destination"): ValidationRule {
  return {
    rule: `!has(self.${side}) || !has(self.${side}.services) || (has(self.${side}.services.__namespace__) && self.${side}.services.__namespace__ != '')`,
    message: WORDS.servicesNamespace,
    reason: "FieldValueRequired",
    fieldPath: `.${side}.services.namespace`,
  };
}

const NO_HTTP: ValidationRule = {
  rule: "!has(self.http)",
  message: WORDS.httpEgress,
  reason: "FieldValueForbidden",
  fieldPath: ".http",
};
const NO_PASS: ValidationRule = { rule: "self.action != 'Pass'", message: WORDS.passInProfile, fieldPath: ".action" };
const INGRESS = [...RULE_RULES, misplacedServices("destination", WORDS.servicesInIngress)];
const EGRESS = [...RULE_RULES, misplacedServices("source", WORDS.servicesInEgress), NO_HTTP];
const GLOBAL_INGRESS = [...INGRESS, servicesNamespace("source")];
const GLOBAL_EGRESS = [...EGRESS, servicesNamespace("destination")];

function rules<const T extends readonly ValidationRule[]>(
  validations: T,
): typeof LIST & { readonly items: typeof RULE } {
  return { ...LIST, items: { ...RULE, "x-kubernetes-validations": validations } };
}

/** The rules of policies in a namespace, of policies of the cluster, and of profiles. */
export const INGRESS_RULES = rules(INGRESS);
export const EGRESS_RULES = rules(EGRESS);
export const GLOBAL_INGRESS_RULES = rules(GLOBAL_INGRESS);
export const GLOBAL_EGRESS_RULES = rules(GLOBAL_EGRESS);
export const PROFILE_INGRESS_RULES = rules([...GLOBAL_INGRESS, NO_PASS]);
export const PROFILE_EGRESS_RULES = rules([...GLOBAL_EGRESS, NO_PASS]);

export type Rule = Infer<typeof RULE>;
export type EntityRule = Infer<typeof ENTITY_RULE>;
