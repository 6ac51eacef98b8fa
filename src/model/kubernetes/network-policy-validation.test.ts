import { expect, test } from "bun:test";
import { load } from "js-yaml";
import { formatFieldError } from "../schema/field-error.ts";
import { validateNetworkPolicy } from "./network-policy-validation.ts";

function errorsOf(spec: string): string[] {
  return validateNetworkPolicy({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "p" },
    spec: load(spec),
  }).map(formatFieldError);
}

for (const spec of [
  "{}",
  "{podSelector: {}}",
  "{podSelector: null, ingress: null, egress: null, policyTypes: null}",
  "{podSelector: {matchLabels: {app: web, example.com/x_y.z: ''}, matchExpressions: [{key: a, operator: In, values: ['', b]}, {key: a, operator: Exists}, {key: a, operator: DoesNotExist, values: []}]}}",
  "{podSelector: {}, ingress: [{}, {from: [], ports: []}, {from: null, ports: null}], policyTypes: [Ingress, Ingress]}",
  "{podSelector: {}, egress: [{to: [{podSelector: {}}, {namespaceSelector: {}}, {podSelector: {}, namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/0, except: [10.1.0.0/16]}}, {ipBlock: {cidr: '::/0', except: []}}]}]}",
  "{podSelector: {}, ingress: [{ports: [{}, {protocol: SCTP}, {port: 1}, {port: 65535, endPort: 65535}, {port: http-alt, protocol: UDP}, {port: null, endPort: null, protocol: null}]}]}",
]) {
  test(`valid: ${spec}`, () => expect(errorsOf(spec)).toEqual([]));
}

const PORT = "{podSelector: {}, ingress: [{ports: [";
for (const [spec, ...errors] of [
  [
    `${PORT}{protocol: ICMP}]}]}`,
    'spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"',
  ],
  [
    `${PORT}{protocol: tcp}]}]}`,
    'spec.ingress[0].ports[0].protocol: Unsupported value: "tcp": supported values: "TCP", "UDP", "SCTP"',
  ],
  [
    `${PORT}{port: 0}, {port: 65536}]}]}`,
    "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    "spec.ingress[0].ports[1].port: Invalid value: 65536: must be between 1 and 65535, inclusive",
  ],
  [`${PORT}{port: 80.5}]}]}`, "spec.ingress[0].ports[0].port: Invalid value: 80.5: must be an integer or a string"],
  [`${PORT}{port: true}]}]}`, "spec.ingress[0].ports[0].port: Invalid value: true: must be an integer or a string"],
  [
    `${PORT}{port: '80'}]}]}`,
    'spec.ingress[0].ports[0].port: Invalid value: "80": must contain at least one letter (a-z)',
  ],
  [
    `${PORT}{port: a-name-that-is-too-long}]}]}`,
    'spec.ingress[0].ports[0].port: Invalid value: "a-name-that-is-too-long": must be no more than 15 characters',
  ],
  [
    `${PORT}{port: A--b-}]}]}`,
    'spec.ingress[0].ports[0].port: Invalid value: "A--b-": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
    'spec.ingress[0].ports[0].port: Invalid value: "A--b-": must not contain consecutive hyphens',
    'spec.ingress[0].ports[0].port: Invalid value: "A--b-": must not begin or end with a hyphen',
  ],
  [
    `${PORT}{port: 80, endPort: 79}]}]}`,
    "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
  ],
  [
    `${PORT}{port: 80, endPort: 70000}]}]}`,
    "spec.ingress[0].ports[0].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
  ],
  [
    `${PORT}{port: http, endPort: 90}]}]}`,
    "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
  ],
  [
    `${PORT}{endPort: 90}]}]}`,
    "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified",
  ],
  ["{podSelector: {}, ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]: Required value: must specify a peer"],
  [
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
    "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
  ],
  ["{podSelector: {}, egress: [{to: [{ipBlock: {}}]}]}", "spec.egress[0].to[0].ipBlock.cidr: Required value"],
  [
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.1}}]}]}",
    'spec.egress[0].to[0].ipBlock.cidr: Invalid value: "10.0.0.1": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
  ],
  [
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/16, 'fd00::/16', 10.0.0.0/7]}}]}]}",
    ...[0, 1, 2, 3].map(
      (i) =>
        `spec.egress[0].to[0].ipBlock.except[${i}]: Invalid value: ${JSON.stringify(["10.0.0.0/8", "11.0.0.0/16", "fd00::/16", "10.0.0.0/7"][i])}: must be a strict subset of \`cidr\``,
    ),
  ],
  [
    "{podSelector: {}, ingress: [{from: [{ports: [{port: 80}], podSelector: {}}]}]}",
    "spec.ingress[0].from[0].ports: Forbidden: unknown field, must be one of podSelector, namespaceSelector, ipBlock",
  ],
  [
    "{podSelector: {}, ingress: [{to: [{podSelector: {}}]}]}",
    "spec.ingress[0].to: Forbidden: unknown field, must be one of ports, from",
  ],
  ["{podSelector: {}, ingress: [null]}", "spec.ingress[0]: Invalid value: null: must be an object"],
  ["{podSelector: {}, ingress: {}}", "spec.ingress: Invalid value: {}: must be a list"],
  [
    "{podSelector: {}, policyTypes: [ingress]}",
    'spec.policyTypes[0]: Unsupported value: "ingress": supported values: "Ingress", "Egress"',
  ],
  [
    "{podSelector: {}, policyTypes: [Ingress, Egress, Ingress]}",
    'spec.policyTypes: Invalid value: ["Ingress","Egress","Ingress"]: may not specify more than two policyTypes',
  ],
  [
    "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
    "spec.podSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
  ],
  [
    "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}",
    "spec.podSelector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
  ],
  [
    "{podSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}}",
    'spec.podSelector.matchExpressions[0].operator: Invalid value: "Gt": not a valid selector operator',
  ],
  ["{podSelector: {matchLabels: {a: 1}}}", "spec.podSelector.matchLabels: Invalid value: 1: must be a string"],
  [
    "{podSelector: {matchLabels: {/a: x}}}",
    'spec.podSelector.matchLabels: Invalid value: "/a": prefix part must be non-empty',
  ],
] as const) {
  test(`refused: ${spec}`, () => expect(errorsOf(spec)).toEqual([...errors]));
}

test("label keys and values are refused with Kubernetes' messages", () => {
  expect(errorsOf("{podSelector: {matchLabels: {a: '-x'}}}")[0]).toStartWith(
    'spec.podSelector.matchLabels: Invalid value: "-x": a valid label must be an empty string or consist of',
  );
  expect(errorsOf("{podSelector: {matchLabels: {'a b': x}}}")[0]).toStartWith(
    'spec.podSelector.matchLabels: Invalid value: "a b": name part must consist of',
  );
  expect(errorsOf("{podSelector: {matchLabels: {a/b/c: x}}}")[0]).toStartWith(
    'spec.podSelector.matchLabels: Invalid value: "a/b/c": a qualified name must consist of',
  );
  expect(errorsOf(`{podSelector: {matchLabels: {a: ${"x".repeat(64)}}}}`)[0]).toEndWith(
    "must be no more than 63 bytes",
  );
});

test("a value that is not an object is refused whole", () => {
  expect(validateNetworkPolicy(undefined).map(({ field }) => field)).toEqual(["<nil>"]);
  expect(validateNetworkPolicy({ spec: [] }).map(({ field }) => field)).toEqual(["spec"]);
});
