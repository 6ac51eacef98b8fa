/**
 * Mistakes: policies as users get them wrong, what calicoctl says of each, and what an API server does: the field, its value and what is allowed, or what
 * has no effect. For a test; the validators of each field have their own cases in `test/kinds`.
 */

export interface Mistake {
  readonly title: string;
  readonly text: string;
  /** It is stored all the same: it has an effect, if another than its author means. */
  readonly isValid: boolean;
  readonly calicoctl: string;
  /** undefined: kubectl does not send it; empty: the server says nothing, the policy's status or the node does. */
  readonly api: string | undefined;
}

type Row = readonly [title: string, text: string, calicoctl: string, api: string | undefined];

const V3 = "projectcalico.org/v3";

function object(apiVersion: string, kind: string, spec: string, metadata = "{name: web, namespace: shop}"): string {
  return `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: ${metadata}\nspec:\n  ${spec.replaceAll("\n", "\n  ")}\n`;
}

const policy = (spec: string): string => object(V3, "NetworkPolicy", spec);
const global = (spec: string): string => object(V3, "GlobalNetworkPolicy", spec, "{name: web}");
const kubernetes = (spec: string): string => object("networking.k8s.io/v1", "NetworkPolicy", spec);

const REFUSED: readonly Row[] = [
  [
    "an action in small letters",
    policy("ingress: [{action: allow}]"),
    'spec.ingress[0].action: Unsupported value: "allow": supported values: "Allow", "Deny", "Log", "Pass"',
    'spec.ingress[0].action: Unsupported value: "allow": supported values: "Allow", "Deny", "Log", "Pass"',
  ],
  [
    "a rule without action",
    policy("ingress: [{protocol: TCP}]"),
    "spec.ingress[0].action: Required value: must be one of Allow, Deny, Log, Pass",
    "spec.ingress[0].action: Required value",
  ],
  [
    "Calico's fields in Kubernetes' policy",
    kubernetes("selector: all()\ningress: [{action: Allow}]"),
    'spec.selector: Forbidden value: "all()": unknown field, must be one of podSelector, ingress, egress, policyTypes',
    'unknown field "spec.selector"',
  ],
  [
    "an older version of the API",
    object("projectcalico.org/v1", "NetworkPolicy", "selector: all()"),
    'apiVersion: Invalid value: "projectcalico.org/v1": must be projectcalico.org/v3 or networking.k8s.io/v1 for kind NetworkPolicy',
    undefined,
  ],
  [
    "an unfinished selector",
    policy('ingress:\n- action: Allow\n  source: {namespaceSelector: "name == "}'),
    'spec.ingress[0].source.namespaceSelector: Invalid value: "name == ": at character 9 (the end): must be text in quotes',
    'spec.ingress[0].source.namespaceSelector: Invalid value: "name == ": at character 9 (the end): must be text in quotes',
  ],
  [
    "domains",
    policy("egress:\n- action: Allow\n  destination: {domains: [example.com]}"),
    'spec.egress[0].destination.domains: Forbidden value: ["example.com"]: is no field of this kind: there are nets, notNets, selector, notSelector, namespaceSelector, ports, notPorts, serviceAccounts, services',
    'unknown field "spec.egress[0].destination.domains"',
  ],
  [
    "a key twice",
    policy("ingress: [{action: Allow}]\ningress: [{action: Deny}]"),
    'Cannot read standard input:6: key "ingress" is given twice',
    undefined,
  ],
  [
    "from in Calico's policy",
    policy("ingress:\n- from: [{podSelector: {}}]"),
    'spec.ingress[0].from: Forbidden value: [{"podSelector":{}}]: is no field of this kind: there are action, ipVersion, protocol, notProtocol, icmp, notICMP, source, destination, http, metadata',
    'unknown field "spec.ingress[0].from"',
  ],
  [
    "a namespace selector as Kubernetes writes it",
    global("namespaceSelector: {matchLabels: {a: b}}"),
    'spec.namespaceSelector: Invalid value: {"matchLabels":{"a":"b"}}: must be of type string, such as app == \'web\'',
    'unknown field "spec.namespaceSelector.matchLabels"',
  ],
  [
    "preDNAT without applyOnForward",
    global("preDNAT: true\nselector: has(host)\ningress: [{action: Allow}]"),
    "spec.applyOnForward: Invalid value: false: must be true when doNotTrack or preDNAT is true",
    'spec.applyOnForward: Invalid value: "object": must be true when doNotTrack or preDNAT is true',
  ],
  [
    "a host endpoint without node",
    "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: a}\nspec: {interfaceName: eth0}\n",
    "spec.node: Required value",
    "spec.node: Required value",
  ],
  [
    "icmp with TCP",
    policy("ingress:\n- action: Allow\n  protocol: TCP\n  icmp: {type: 8}"),
    'spec.ingress[0].icmp: Invalid value: {"type":8}: may be given only with protocol ICMP, ICMPv6, 1 or 58',
    'spec.ingress[0].icmp: Invalid value: "object": may be given only with protocol ICMP, ICMPv6, 1 or 58',
  ],
  [
    "rules that are no list",
    policy("ingress: {action: Allow}"),
    'spec.ingress: Invalid value: {"action":"Allow"}: must be of type array',
    'unknown field "spec.ingress.action"',
  ],
  [
    "an action in Kubernetes' policy",
    kubernetes("podSelector: {}\ningress: [{action: Allow}]"),
    'spec.ingress[0].action: Forbidden value: "Allow": unknown field, must be one of ports, from',
    'unknown field "spec.ingress[0].action"',
  ],
  [
    "from in an egress rule",
    kubernetes("podSelector: {}\negress:\n- from: [{podSelector: {}}]"),
    'spec.egress[0].from: Forbidden value: [{"podSelector":{}}]: unknown field, must be one of ports, to',
    'unknown field "spec.egress[0].from"',
  ],
  [
    "endPort below port",
    kubernetes("podSelector: {}\ningress:\n- ports: [{port: 80, endPort: 70}]"),
    "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
    "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
  ],
  [
    "an exception outside of its block",
    kubernetes("podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.168.0.0/16]}}]"),
    'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "192.168.0.0/16": must be a strict subset of `cidr`',
    'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "192.168.0.0/16": must be a strict subset of `cidr`',
  ],
  [
    "peers that are no list",
    kubernetes("podSelector: {}\ningress:\n- from: {podSelector: {}}"),
    'spec.ingress[0].from: Invalid value: {"podSelector":{}}: must be a list',
    "json: cannot unmarshal object into Go struct field NetworkPolicy.spec.ingress.from of type slice",
  ],
  [
    "a block and pods in one peer",
    kubernetes("podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]"),
    "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
    "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
  ],
  [
    "an operator in small letters",
    kubernetes("podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}"),
    'spec.podSelector.matchExpressions[0].operator: Invalid value: "in": not a valid selector operator',
    'spec.podSelector.matchExpressions[0].operator: Invalid value: "in": not a valid selector operator',
  ],
  [
    "a port's number as text, in Kubernetes' policy",
    kubernetes("podSelector: {}\ningress:\n- ports: [{port: '80'}]"),
    'spec.ingress[0].ports[0].port: Invalid value: "80": must contain at least one letter (a-z)',
    'spec.ingress[0].ports[0].port: Invalid value: "80": must contain at least one letter (a-z)',
  ],
  [
    "a kind that does not exist",
    object("projectcalico.org/v3", "GlobalNetworkPolcy", "selector: all()"),
    'kind: Invalid value: "GlobalNetworkPolcy": is no kind that calicoctl handles; did you mean GlobalNetworkPolicy?',
    undefined,
  ],
  [
    "no name",
    "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {namespace: shop}\nspec:\n  selector: all()\n",
    "metadata.name: Required value: the object needs a name",
    "metadata.name: Required value: name or generateName is required",
  ],
  [
    "net for nets",
    policy("ingress:\n- action: Allow\n  source: {net: 10.0.0.0/8}"),
    'spec.ingress[0].source.net: Forbidden value: "10.0.0.0/8": is no field of this kind; did you mean nets?',
    'unknown field "spec.ingress[0].source.net"',
  ],
  [
    "a range with host bits",
    policy("ingress:\n- action: Allow\n  source: {nets: [10.0.0.1/8]}"),
    'spec.ingress[0].source.nets[0]: Invalid value: "10.0.0.1/8": host bits must be zero, as in 10.0.0.0/24 or fd00::/64',
    'spec.ingress[0].source.nets[0]: Invalid value: "10.0.0.1/8": host bits must be zero, as in 10.0.0.0/24 or fd00::/64',
  ],
  [
    "a host's name among nets",
    policy("ingress:\n- action: Allow\n  source: {nets: [example.com]}"),
    'spec.ingress[0].source.nets[0]: Invalid value: "example.com": must be a range such as 10.0.0.0/24 or an address such as fd00::1',
    'spec.ingress[0].source.nets[0]: Invalid value: "string": must be a range such as 10.0.0.0/24 or an address such as fd00::1',
  ],
  [
    "ipBlock in Calico's policy",
    policy("ingress:\n- action: Allow\n  source: {ipBlock: {cidr: 10.0.0.0/8}}"),
    'spec.ingress[0].source.ipBlock: Forbidden value: {"cidr":"10.0.0.0/8"}: is no field of this kind: there are nets, notNets, selector, notSelector, namespaceSelector, ports, notPorts, serviceAccounts, services',
    'unknown field "spec.ingress[0].source.ipBlock"',
  ],
  [
    "nets of another family than ipVersion",
    policy("ingress:\n- action: Allow\n  ipVersion: 6\n  source: {nets: [10.0.0.0/8]}"),
    'spec.ingress[0].source.nets: Invalid value: ["10.0.0.0/8"]: must be of the family that ipVersion gives',
    'spec.ingress[0].source.nets: Invalid value: "object": must be of the family that ipVersion gives',
  ],
  [
    "nets of both families",
    policy("ingress:\n- action: Allow\n  source: {nets: [10.0.0.0/8, 'fd00::/8']}"),
    'spec.ingress[0].source.nets: Invalid value: ["10.0.0.0/8","fd00::/8"]: must not have both IPv4 and IPv6 ranges: use two rules',
    'spec.ingress[0].source.nets: Invalid value: ["10.0.0.0/8","fd00::/8"]: must not have both IPv4 and IPv6 ranges: use two rules',
  ],
  [
    "nets that are no list",
    policy("ingress:\n- action: Allow\n  source: {nets: 10.0.0.0/8}"),
    'spec.ingress[0].source.nets: Invalid value: "10.0.0.0/8": must be of type array',
    'spec.ingress[0].source.nets: Invalid value: "string": spec.ingress[0].source.nets in body must be of type array: "string"',
  ],
  [
    "namespaceSelector in a policy of a namespace",
    policy("namespaceSelector: a == 'b'"),
    "spec.namespaceSelector: Forbidden value: \"a == 'b'\": is no field of this kind: there are tier, order, selector, serviceAccountSelector, types, ingress, egress, performanceHints",
    'unknown field "spec.namespaceSelector"',
  ],
  [
    "an order as text",
    policy("order: '100'"),
    'spec.order: Invalid value: "100": must be of type number',
    'spec.order: Invalid value: "string": spec.order in body must be of type number: "string"',
  ],
  [
    "a range of ports that ends before it begins",
    policy("ingress:\n- action: Allow\n  protocol: TCP\n  destination: {ports: ['90:80']}"),
    'spec.ingress[0].destination.ports[0]: Invalid value: "90:80": must not begin after its end',
    'spec.ingress[0].destination.ports[0]: Invalid value: "90:80": must not begin after its end',
  ],
  [
    "ports beside source and destination",
    policy("ingress:\n- action: Allow\n  protocol: TCP\n  ports: [80]"),
    "spec.ingress[0].ports: Forbidden value: [80]: is no field of this kind: there are action, ipVersion, protocol, notProtocol, icmp, notICMP, source, destination, http, metadata",
    'unknown field "spec.ingress[0].ports"',
  ],
  [
    "a port with ICMP",
    policy("ingress:\n- action: Allow\n  protocol: ICMP\n  destination: {ports: [80]}"),
    "spec.ingress[0].destination.ports: Invalid value: [80]: must be empty unless protocol is TCP, UDP or SCTP: other protocols have no ports",
    'spec.ingress[0].destination.ports: Invalid value: "object": must be empty unless protocol is TCP, UDP or SCTP: other protocols have no ports',
  ],
  [
    "a port without protocol",
    policy("ingress:\n- action: Allow\n  destination: {ports: [80]}"),
    "spec.ingress[0].destination.ports: Invalid value: [80]: must be names unless protocol is TCP, UDP or SCTP",
    'spec.ingress[0].destination.ports: Invalid value: "object": must be names unless protocol is TCP, UDP or SCTP',
  ],
  [
    "a protocol in small letters",
    policy("ingress:\n- action: Allow\n  protocol: tcp\n  destination: {ports: [80]}"),
    'spec.ingress[0].protocol: Invalid value: "tcp": must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255',
    "spec.ingress[0].protocol: Invalid value: \"tcp\": spec.ingress[0].protocol in body should match '^(TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite)$'",
  ],
  [
    "one equals sign in a rule",
    policy("ingress:\n- action: Allow\n  source: {selector: role = 'x'}"),
    'spec.ingress[0].source.selector: Invalid value: "role = \'x\'": at character 6, "= \'x\'": after label "role" must come ==, !=, in, not in, contains, starts with or ends with',
    'spec.ingress[0].source.selector: Invalid value: "role = \'x\'": at character 6, "= \'x\'": after label "role" must come ==, !=, in, not in, contains, starts with or ends with',
  ],
  [
    "and for &&",
    policy("selector: app == 'web' and tier == 'x'"),
    "spec.selector: Invalid value: \"app == 'web' and tier == 'x'\": at character 14, \"and tier == \": must be && or || or the end",
    "spec.selector: Invalid value: \"app == 'web' and tier == 'x'\": at character 14, \"and tier == \": must be && or || or the end",
  ],
  [
    "a list in parentheses",
    policy("selector: app in ('web', 'db')"),
    "spec.selector: Invalid value: \"app in ('web', 'db')\": at character 8, \"('web', 'db'\": must be a list such as {'a', 'b'}",
    "spec.selector: Invalid value: \"app in ('web', 'db')\": at character 8, \"('web', 'db'\": must be a list such as {'a', 'b'}",
  ],
  [
    "podSelector in Calico's policy",
    policy("podSelector: {matchLabels: {app: web}}\ningress: [{action: Allow}]"),
    'spec.podSelector: Forbidden value: {"matchLabels":{"app":"web"}}: is no field of this kind; did you mean selector?',
    'unknown field "spec.podSelector"',
  ],
  [
    "a selector as Kubernetes writes it",
    policy("selector:\n  matchLabels: {app: web}"),
    'spec.selector: Invalid value: {"matchLabels":{"app":"web"}}: must be of type string, such as app == \'web\'',
    'unknown field "spec.selector.matchLabels"',
  ],
  [
    "one equals sign",
    policy("selector: app = 'web'\ningress: [{action: Allow}]"),
    'spec.selector: Invalid value: "app = \'web\'": at character 5, "= \'web\'": after label "app" must come ==, !=, in, not in, contains, starts with or ends with',
    'spec.selector: Invalid value: "app = \'web\'": at character 5, "= \'web\'": after label "app" must come ==, !=, in, not in, contains, starts with or ends with',
  ],
  [
    "has without the closing parenthesis",
    policy("selector: has(app"),
    'spec.selector: Invalid value: "has(app": at character 4, "(app": has must be followed at once by (, the name of a label of at most 512 characters, and )',
    'spec.selector: Invalid value: "has(app": at character 4, "(app": has must be followed at once by (, the name of a label of at most 512 characters, and )',
  ],
  [
    "a value without quotes",
    policy("selector: app == web"),
    'spec.selector: Invalid value: "app == web": at character 8, "web": must be text in quotes',
    'spec.selector: Invalid value: "app == web": at character 8, "web": must be text in quotes',
  ],
  [
    "a Service and ports",
    policy(
      "egress:\n- action: Allow\n  protocol: TCP\n  destination: {services: {name: db, namespace: shop}, ports: [80]}",
    ),
    "spec.egress[0].destination.ports: Forbidden value: [80]: must be empty in a rule with services: the Service's endpoints have their ports",
    "spec.egress[0].destination.ports: Forbidden: must be empty in a rule with services: the Service's endpoints have their ports",
  ],
  [
    "a Service without name",
    policy("egress:\n- action: Allow\n  destination: {services: {namespace: shop}}"),
    "spec.egress[0].destination.services.name: Required value: must name the Service",
    "spec.egress[0].destination.services.name: Required value: must name the Service",
  ],
  [
    "an address that is none in a network set",
    "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: a}\nspec: {nets: [10.0.0.0/8, 10.0.0.300]}\n",
    'spec.nets[1]: Invalid value: "10.0.0.300": must be a range such as 10.0.0.0/24 or an address such as fd00::1',
    'spec.nets[1]: Invalid value: "string": must be a range such as 10.0.0.0/24 or an address such as fd00::1',
  ],
  [
    "no spec",
    "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nselector: all()\n",
    'selector: Forbidden value: "all()": is no field of this kind: there are apiVersion, kind, metadata, spec, status',
    'unknown field "selector"',
  ],
  [
    "a tier in capitals",
    policy("tier: Security"),
    'spec.tier: Invalid value: "Security": must have only characters a-z, 0-9 and -, and begin and end with a letter or digit',
    "spec.tier: Invalid value: \"Security\": spec.tier in body should match '^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$'",
  ],
  [
    "another order of the tier default",
    "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\nspec: {order: 5}\n",
    "spec.order: Invalid value: 5: must be 1000000 in the tier default",
    'spec.order: Invalid value: "object": must be 1000000 in the tier default',
  ],
  [
    "a tier's default action that no tier has",
    "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\nspec: {order: 5, defaultAction: Allow}\n",
    'spec.defaultAction: Unsupported value: "Allow": supported values: "Deny", "Pass"',
    'spec.defaultAction: Unsupported value: "Allow": supported values: "Deny", "Pass"',
  ],
  [
    "a type in small letters",
    policy("types: [ingress]"),
    'spec.types[0]: Unsupported value: "ingress": supported values: "Ingress", "Egress"',
    'spec.types[0]: Unsupported value: "ingress": supported values: "Ingress", "Egress"',
  ],
  [
    "a field that does not exist",
    policy("selector: all()\nlogging: true"),
    "spec.logging: Forbidden value: true: is no field of this kind: there are tier, order, selector, serviceAccountSelector, types, ingress, egress, performanceHints",
    'unknown field "spec.logging"',
  ],
  [
    "a tab in YAML",
    "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n\tname: web\n",
    "Cannot read standard input:4: tab characters must not be used in indentation",
    undefined,
  ],
];

const ACCEPTED: readonly Row[] = [
  [
    "egress rules, and types without Egress",
    policy("types: [Ingress]\ningress: [{action: Allow}]\negress: [{action: Deny}]"),
    'spec.egress: [{"action":"Deny"}] has no effect: spec.types does not name Egress, so no rule of this direction counts',
    'spec.egress: [{"action":"Deny"}] has no effect: spec.types does not name Egress, so no rule of this direction counts',
  ],
  [
    "http, which is not enforced",
    policy("ingress:\n- action: Allow\n  http: {methods: [get]}"),
    'spec.ingress[0].http: {"methods":["get"]} is not enforced: the rule applies to all that its other fields match',
    'spec.ingress[0].http: {"methods":["get"]} is not enforced: the rule applies to all that its other fields match',
  ],
  [
    "host bits in Kubernetes' policy",
    kubernetes("podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 10.0.0.1/8}}]"),
    'spec.ingress[0].from[0].ipBlock.cidr: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)',
    'spec.ingress[0].from[0].ipBlock.cidr: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)',
  ],
  [
    "a range of ports with a dash",
    policy("ingress:\n- action: Allow\n  protocol: TCP\n  destination: {ports: ['80-90']}"),
    'spec.ingress[0].destination.ports[0]: "80-90" is the name of a port; a range is 80:90',
    'spec.ingress[0].destination.ports[0]: "80-90" is the name of a port; a range is 80:90',
  ],
  [
    "ingress rules, and types without Ingress",
    policy("types: [Egress]\ningress: [{action: Allow}]"),
    'spec.ingress: [{"action":"Allow"}] has no effect: spec.types does not name Ingress, so no rule of this direction counts',
    'spec.ingress: [{"action":"Allow"}] has no effect: spec.types does not name Ingress, so no rule of this direction counts',
  ],
];

export const MISTAKES: readonly Mistake[] = [REFUSED, ACCEPTED].flatMap((rows) =>
  rows.map(([title, text, calicoctl, api]) => ({ title, text, isValid: rows === ACCEPTED, calicoctl, api })),
);
