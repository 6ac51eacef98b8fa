/** Policies: cases of whole policies: names, tiers, types, flags of host policies, staged policies, ClusterNetworkPolicy, AdminNetworkPolicy. */
import type { PolicyKind } from "../../src/model/kinds/validation/validators.ts";
import type { JsonObject } from "../../src/model/schema/json.ts";
import { type Case, caseOf, objectOf, type Refused, times } from "./case.ts";

type Row = readonly [title: string, spec: JsonObject, refused?: Refused, words?: string];

const ALLOW = { action: "Allow" };

/** For every kind that is in a tier. */
const COMMON: readonly Row[] = [
  ["nothing", {}],
  ["a tier", { tier: "security" }],
  ["an empty tier", { tier: "" }],
  ["a tier with a dot", { tier: "a.b" }, "spec.tier"],
  ["a tier with capitals", { tier: "A" }, "spec.tier"],
  ["a tier of 64 characters", { tier: "t".repeat(64) }, "spec.tier"],
  ["order 0", { order: 0 }],
  ["a negative order", { order: -1.5 }],
  ["order in text", { order: "1" }, "spec.order"],
  ["a selector", { selector: "a == 'b' && !has(c)" }],
  ["a malformed selector", { selector: "a = 'b'" }, "spec.selector", "at character 3"],
  ["global() as selector", { selector: "global()" }, "spec.selector", "only in namespaceSelector of a rule"],
  ["an account selector", { serviceAccountSelector: "role == 'x'" }],
  ["a malformed account selector", { serviceAccountSelector: "role" }, "spec.serviceAccountSelector"],
  ["global() as account selector", { serviceAccountSelector: "global()" }, "spec.serviceAccountSelector"],
  ["types", { types: ["Ingress", "Egress"] }],
  ["a type twice", { types: ["Ingress", "Ingress"] }, "spec.types[1]"],
  ["an unknown type", { types: ["Both"] }, "spec.types[0]", '"Ingress", "Egress"'],
  ["no types", { types: [] }, "spec.types"],
  ["types without rules", { types: ["Egress"], ingress: [ALLOW] }],
  ["a hint", { performanceHints: ["AssumeNeededOnEveryNode"] }],
  ["an unknown hint", { performanceHints: ["junk"] }, "spec.performanceHints[0]"],
  ["1024 rules", { ingress: times(1024, () => ALLOW) }],
  ["1025 rules", { egress: times(1025, () => ALLOW) }, "spec.egress", "at most 1024 items"],
  ["rules without action", { ingress: [{}] }, "spec.ingress[0].action"],
  ["two errors", { selector: "a", ingress: [{ ...ALLOW, icmp: {} }] }, ["spec.selector", "spec.ingress[0].icmp"]],
];

const GLOBAL: readonly Row[] = [
  ["a namespace selector", { namespaceSelector: "projectcalico.org/name == 'x'" }],
  ["a malformed namespace selector", { namespaceSelector: "==" }, "spec.namespaceSelector"],
  ["global() as namespace selector", { namespaceSelector: "global()" }, "spec.namespaceSelector"],
  ["doNotTrack", { doNotTrack: true, applyOnForward: true, ingress: [ALLOW], egress: [ALLOW] }],
  ["preDNAT", { preDNAT: true, applyOnForward: true, ingress: [ALLOW] }],
  ["applyOnForward", { applyOnForward: true }],
  ["none of them", { doNotTrack: false, preDNAT: false, applyOnForward: false }],
  ["both", { doNotTrack: true, preDNAT: true, applyOnForward: true }, "spec.preDNAT", "when doNotTrack is true"],
  ["doNotTrack alone", { doNotTrack: true }, "spec.applyOnForward", "must be true when doNotTrack or preDNAT"],
  ["preDNAT alone", { preDNAT: true, applyOnForward: false }, "spec.applyOnForward"],
  ["preDNAT and egress rules", { preDNAT: true, applyOnForward: true, egress: [ALLOW] }, "spec.egress"],
  ["preDNAT and no egress rules", { preDNAT: true, applyOnForward: true, egress: [] }],
  ["preDNAT and Egress", { preDNAT: true, applyOnForward: true, types: ["Ingress", "Egress"] }, "spec.types"],
  ["preDNAT and Ingress", { preDNAT: true, applyOnForward: true, types: ["Ingress"] }],
  ["preDNAT that is no boolean", { preDNAT: "true" }, "spec.preDNAT"],
];

const STAGED: readonly Row[] = [
  ...["Set", "Delete", "Learn", "Ignore"].map((stagedAction): Row => [stagedAction, { stagedAction }]),
  ["an unknown action", { stagedAction: "set" }, "spec.stagedAction", '"Set", "Delete", "Learn", "Ignore"'],
  ["Delete with a tier", { stagedAction: "Delete", tier: "security" }],
  [
    "Delete with a selector",
    { stagedAction: "Delete", selector: "all()" },
    "spec.selector",
    "when stagedAction is Delete",
  ],
  ["Delete with an empty selector", { stagedAction: "Delete", selector: "", ingress: [] }],
  ["Delete with types", { stagedAction: "Delete", types: ["Ingress"] }],
  ["Delete with an order", { stagedAction: "Delete", order: 1 }, "spec.order"],
  ["Delete with types and rules", { stagedAction: "Delete", types: ["Ingress"], ingress: [ALLOW] }, "spec.ingress"],
];

const STAGED_GLOBAL: readonly Row[] = [
  ["Delete with applyOnForward", { stagedAction: "Delete", applyOnForward: true }, "spec.applyOnForward"],
  ["Delete with false", { stagedAction: "Delete", applyOnForward: false }],
];

const PODS = { podSelector: { matchLabels: { a: "b" } } };
const STAGED_KUBERNETES: readonly Row[] = [
  ["nothing", {}],
  ["pods", { ...PODS, policyTypes: ["Ingress", "Egress"] }],
  ["rules", { ...PODS, ingress: [{ from: [PODS], ports: [{ port: 80 }, { protocol: "UDP", port: "dns" }] }] }],
  ["a range", { ...PODS, egress: [{ to: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } }] }] }],
  ["Delete", { stagedAction: "Delete" }],
  ["Delete with pods", { stagedAction: "Delete", ...PODS }, "spec.podSelector"],
  ["a bad label", { podSelector: { matchLabels: { a: "b c" } } }, "spec.podSelector.matchLabels"],
  [
    "a bad operator",
    { podSelector: { matchExpressions: [{ key: "a", operator: "Is" }] } },
    "spec.podSelector.matchExpressions[0].operator",
  ],
  ["a bad protocol", { ingress: [{ ports: [{ protocol: "ICMP" }] }] }, "spec.ingress[0].ports[0].protocol"],
  ["port 0", { ingress: [{ ports: [{ port: 0 }] }] }, "spec.ingress[0].ports[0].port"],
  ["endPort before port", { ingress: [{ ports: [{ port: 80, endPort: 79 }] }] }, "spec.ingress[0].ports[0].endPort"],
  ["no range", { egress: [{ to: [{ ipBlock: { cidr: "x" } }] }] }, "spec.egress[0].to[0].ipBlock.cidr"],
  ["an empty peer", { egress: [{ to: [{}] }] }, "spec.egress[0].to[0]"],
  ["an unknown type", { policyTypes: ["Both"] }, "spec.policyTypes[0]"],
];

const SUBJECT = { namespaces: {} };
const cluster = (more: JsonObject): JsonObject => ({ tier: "Admin", priority: 10, subject: SUBJECT, ...more });
const ingress = (rule: JsonObject): JsonObject =>
  cluster({ ingress: [{ action: "Accept", from: [{ namespaces: {} }], ...rule }] });
const egress = (rule: JsonObject): JsonObject =>
  cluster({ egress: [{ action: "Deny", to: [{ namespaces: {} }], ...rule }] });
const POD = { namespaceSelector: {}, podSelector: { matchLabels: { a: "b" } } };

const admin = (more: JsonObject): JsonObject => ({ priority: 10, subject: SUBJECT, ...more });
const adminIn = (rule: JsonObject): JsonObject =>
  admin({ ingress: [{ action: "Allow", from: [{ namespaces: {} }], ...rule }] });
const adminOut = (rule: JsonObject): JsonObject =>
  admin({ egress: [{ action: "Deny", to: [{ namespaces: {} }], ...rule }] });
const port = (more: JsonObject): JsonObject => ({ portNumber: { protocol: "TCP", port: 80, ...more } });

const ADMIN: readonly Row[] = [
  ["nothing else", admin({})],
  ["no priority", { subject: SUBJECT }, "spec.priority"],
  ["priority 1001", admin({ priority: 1001 }), "spec.priority"],
  ["no subject", { priority: 1 }, "spec.subject"],
  ["pods without selector", admin({ subject: { pods: {} } }), "spec.subject.pods.podSelector"],
  [
    "a bad label",
    admin({ subject: { namespaces: { matchLabels: { "a b": "c" } } } }),
    "spec.subject.namespaces.matchLabels",
  ],
  ...["Allow", "Deny", "Pass"].map((action): Row => [`action ${action}`, adminIn({ action })]),
  ["action Accept", adminIn({ action: "Accept" }), "spec.ingress[0].action"],
  ["no peers", adminIn({ from: [] }), "spec.ingress[0].from"],
  ["an empty peer", adminIn({ from: [{}] }), "spec.ingress[0].from[0]"],
  ["no ports", adminIn({ ports: [] })],
  [
    "ports",
    adminIn({ ports: [port({}), { portRange: { protocol: "UDP", start: 1, end: 2 } }, { namedPort: "http" }] }),
  ],
  [
    "a range of one",
    adminIn({ ports: [{ portRange: { start: 2, end: 2 } }] }),
    "spec.ingress[0].ports[0].portRange.start",
  ],
  ["port 0", adminIn({ ports: [port({ port: 0 })] }), "spec.ingress[0].ports[0].portNumber.port"],
  [
    "another protocol",
    adminIn({ ports: [port({ protocol: "ICMP" })] }),
    "spec.ingress[0].ports[0].portNumber.protocol",
  ],
  ["two in one port", adminIn({ ports: [{ ...port({}), namedPort: "a" }] }), "spec.ingress[0].ports[0]"],
  ["networks", adminOut({ to: [{ networks: ["10.0.0.0/8"] }] })],
  ["a network that is none", adminOut({ to: [{ networks: ["x"] }] }), "spec.egress[0].to[0].networks[0]"],
  [
    "a named port of networks",
    adminOut({ to: [{ networks: ["10.0.0.0/8"] }], ports: [{ namedPort: "http" }] }),
    "spec.egress[0].ports",
    "they have no named ports",
  ],
];

const BASELINE: readonly (readonly [title: string, spec: JsonObject, refused?: string, name?: string])[] = [
  ["nothing else", { subject: SUBJECT }],
  ["a rule", { subject: SUBJECT, ingress: [{ action: "Deny", from: [{ namespaces: {} }] }] }],
  [
    "action Pass",
    { subject: SUBJECT, ingress: [{ action: "Pass", from: [{ namespaces: {} }] }] },
    "spec.ingress[0].action",
  ],
  ["another name", { subject: SUBJECT }, "metadata.name", "other"],
];

const CLUSTER: readonly Row[] = [
  ["Admin", cluster({})],
  ["Baseline", cluster({ tier: "Baseline", subject: { pods: POD } })],
  ["another tier", cluster({ tier: "default" }), "spec.tier", '"Admin", "Baseline"'],
  ["no tier", { priority: 1, subject: SUBJECT }, "spec.tier"],
  ["no priority", { tier: "Admin", subject: SUBJECT }, "spec.priority"],
  ["no subject", { tier: "Admin", priority: 1 }, "spec.subject"],
  ["priority 0", cluster({ priority: 0 })],
  ["priority 1000", cluster({ priority: 1000 })],
  ["priority 1001", cluster({ priority: 1001 }), "spec.priority"],
  ["priority -1", cluster({ priority: -1 }), "spec.priority"],
  ["empty subject", cluster({ subject: {} }), "spec.subject"],
  ["two subjects", cluster({ subject: { namespaces: {}, pods: POD } }), "spec.subject"],
  ["pods without selector", cluster({ subject: { pods: {} } }), "spec.subject.pods.podSelector"],
  [
    "a bad label",
    cluster({ subject: { namespaces: { matchLabels: { "a b": "c" } } } }),
    "spec.subject.namespaces.matchLabels",
  ],
  [
    "In without values",
    cluster({ subject: { namespaces: { matchExpressions: [{ key: "a", operator: "In" }] } } }),
    "spec.subject.namespaces.matchExpressions[0].values",
  ],
  ...["Accept", "Deny", "Pass"].map((action): Row => [`action ${action}`, ingress({ action })]),
  ["action Allow", ingress({ action: "Allow" }), "spec.ingress[0].action"],
  ["a name of 100 characters", ingress({ name: "n".repeat(100) })],
  ["a name of 101 characters", ingress({ name: "n".repeat(101) }), "spec.ingress[0].name"],
  ["no peers", ingress({ from: [] }), "spec.ingress[0].from"],
  ["26 peers", ingress({ from: times(26, () => ({ namespaces: {} })) }), "spec.ingress[0].from"],
  ["an empty peer", ingress({ from: [{}] }), "spec.ingress[0].from[0]"],
  ["26 rules", cluster({ ingress: times(26, () => ({ action: "Pass", from: [{ pods: POD }] })) }), "spec.ingress"],
  ["a port", ingress({ protocols: [{ tcp: { destinationPort: { number: 80 } } }] })],
  ["a range", ingress({ protocols: [{ udp: { destinationPort: { range: { start: 1, end: 2 } } } }] })],
  [
    "a range of one",
    ingress({ protocols: [{ sctp: { destinationPort: { range: { start: 2, end: 2 } } } }] }),
    "spec.ingress[0].protocols[0].sctp.destinationPort.range.start",
    "must be less than end",
  ],
  [
    "port 0",
    ingress({ protocols: [{ tcp: { destinationPort: { number: 0 } } }] }),
    "spec.ingress[0].protocols[0].tcp.destinationPort.number",
  ],
  [
    "a port and a range",
    ingress({ protocols: [{ tcp: { destinationPort: { number: 1, range: { start: 1, end: 2 } } } }] }),
    "spec.ingress[0].protocols[0].tcp.destinationPort",
  ],
  ["no protocols", ingress({ protocols: [] }), "spec.ingress[0].protocols"],
  [
    "two in one protocol",
    ingress({ protocols: [{ tcp: { destinationPort: { number: 1 } }, destinationNamedPort: "a" }] }),
    "spec.ingress[0].protocols[0]",
  ],
  ["a named port", ingress({ protocols: [{ destinationNamedPort: "http" }] })],
  ["networks", egress({ to: [{ networks: ["10.0.0.0/8", "fd00::/8"] }] })],
  [
    "a network that is none",
    egress({ to: [{ networks: ["10.0.0.0"] }] }),
    "spec.egress[0].to[0].networks[0]",
    "must be a range",
  ],
  ["nodes", egress({ to: [{ nodes: { matchLabels: { a: "b" } } }] })],
  ["domain names", egress({ action: "Accept", to: [{ domainNames: ["kubernetes.io", "*.example.org."] }] })],
  [
    "a bad domain name",
    egress({ action: "Accept", to: [{ domainNames: ["*"] }] }),
    "spec.egress[0].to[0].domainNames[0]",
  ],
  ["two kinds of peer", egress({ to: [{ nodes: {}, networks: ["10.0.0.0/8"] }] }), "spec.egress[0].to[0]"],
  [
    "named ports to networks",
    egress({ to: [{ networks: ["10.0.0.0/8"] }], protocols: [{ destinationNamedPort: "a" }] }),
    "spec.egress[0].protocols",
    "they have no named ports",
  ],
  ["named ports to pods", egress({ to: [{ pods: POD }], protocols: [{ destinationNamedPort: "a" }] })],
];

function cases(kind: PolicyKind, rows: readonly Row[]): Case[] {
  return rows.map(([title, spec, refused, words]) => caseOf(title, kind, objectOf(kind, spec), refused, words));
}

/** Metadata, for one kind: its rules are the same for all. */
const METADATA: readonly (readonly [title: string, metadata: JsonObject, refused?: Refused])[] = [
  ["a name with dots", { name: "knp.default.a-thing" }],
  ["a name of 253 characters", { name: "x".repeat(253) }],
  ["a name of 254 characters", { name: "x".repeat(254) }, "metadata.name"],
  ["a name with capitals", { name: "tHiNg" }, "metadata.name"],
  ["a name with other characters", { name: "t~!s" }, "metadata.name"],
  ["labels", { labels: { "rank_.0-9": "gold._0-9", "projectcalico.org/Name": "" } }],
  ["a label of 64 characters", { labels: { a: "v".repeat(64) } }, "metadata.labels"],
  ["a label in a bad domain", { labels: { "Example.org/a": "b" } }, "metadata.labels"],
  ["annotations", { annotations: { "Example.org/A": "anything at all" } }],
  ["a bad annotation", { annotations: { "...": "b" } }, "metadata.annotations"],
];

export const POLICY_CASES: readonly Case[] = [
  ...cases("NetworkPolicy", COMMON),
  ...cases("GlobalNetworkPolicy", [...COMMON, ...GLOBAL]),
  ...cases("StagedNetworkPolicy", [...COMMON.slice(0, 6), ...STAGED]),
  ...cases("StagedGlobalNetworkPolicy", [...GLOBAL, ...STAGED, ...STAGED_GLOBAL]),
  ...cases("StagedKubernetesNetworkPolicy", STAGED_KUBERNETES),
  ...cases("ClusterNetworkPolicy", CLUSTER),
  ...cases("AdminNetworkPolicy", ADMIN),
  ...BASELINE.map(([title, spec, refused, name = "default"]) =>
    caseOf(title, "BaselineAdminNetworkPolicy", objectOf("BaselineAdminNetworkPolicy", spec, { name }), refused),
  ),
  ...METADATA.map(([title, metadata, refused]) =>
    caseOf(title, "NetworkPolicy", objectOf("NetworkPolicy", {}, metadata), refused),
  ),
  caseOf(
    "an unknown field",
    "NetworkPolicy",
    objectOf("NetworkPolicy", { podSelector: {} }),
    "spec.podSelector",
    "no field",
    true,
  ),
  caseOf(
    "an unknown field in a rule",
    "NetworkPolicy",
    objectOf("NetworkPolicy", { ingress: [{ action: "Allow", from: [] }] }),
    "spec.ingress[0].from",
    "no field",
    true,
  ),
  caseOf("nulls", "NetworkPolicy", objectOf("NetworkPolicy", { tier: null, order: null, ingress: null })),
  caseOf("null in a list", "NetworkPolicy", objectOf("NetworkPolicy", { ingress: [null] }), "spec.ingress[0]"),
];
