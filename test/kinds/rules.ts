/** Rules: cases of single rules, each as the only rule of a policy. */
import type { PolicyKind } from "../../src/model/kinds/validation/validators.ts";
import type { JsonObject, JsonValue } from "../../src/model/schema/json.ts";
import { type Case, caseOf, objectOf, type Refused, times } from "./case.ts";

type Row = readonly [title: string, rule: JsonObject, refused?: Refused, words?: string];

const TCP = { protocol: "TCP" };
const to = (entity: JsonObject, more: JsonObject = {}): JsonObject => ({ ...more, destination: entity });
const from = (entity: JsonObject, more: JsonObject = {}): JsonObject => ({ ...more, source: entity });
const ports = (...list: JsonValue[]): JsonObject => to({ ports: list }, TCP);

const ACTIONS: readonly Row[] = [
  ...["Allow", "Deny", "Log", "Pass"].map((action): Row => [`action ${action}`, { action }]),
  ["action in lower case", { action: "allow" }, "action", '"Allow", "Deny", "Log", "Pass"'],
  ["action that is none", { action: "Reject" }, "action"],
  ["empty action", { action: "" }, "action"],
  ["action that is no text", { action: 1 }, "action", "must be of type string"],
  ["ipVersion 4", { ipVersion: 4 }],
  ["ipVersion 6", { ipVersion: 6 }],
  ["ipVersion 0", { ipVersion: 0 }, "ipVersion", 'supported values: "4", "6"'],
  ["ipVersion as text", { ipVersion: "4" }, "ipVersion"],
];

const PROTOCOLS: readonly Row[] = [
  ...["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite", 1, 6, 17, 58, 132, 255].map((protocol): Row => [
    `protocol ${protocol}`,
    { protocol },
  ]),
  ["protocol in lower case", { protocol: "tcp" }, "protocol"],
  ["unknown protocol", { protocol: "GRE" }, "protocol", "TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite"],
  ["number in text", { protocol: "6" }, "protocol"],
  ["empty protocol", { protocol: "" }, "protocol"],
  ["protocol 0", { protocol: 0 }, "protocol", "greater than or equal to 1"],
  ["protocol 256", { protocol: 256 }, "protocol", "less than or equal to 255"],
  ["protocol 6.5", { protocol: 6.5 }, "protocol"],
  ["negative protocol", { protocol: -1 }, "protocol"],
  ["not protocol UDPLite", { notProtocol: "UDPLite" }],
  ["not protocol 7", { notProtocol: 7 }],
  ["not protocol 0", { notProtocol: 0 }, "notProtocol"],
  ["unknown not protocol", { notProtocol: "GRE" }, "notProtocol"],
  ["protocol and not protocol", { protocol: "TCP", notProtocol: "UDP" }],
];

const ICMP: readonly Row[] = [
  ["icmp with ICMP", { protocol: "ICMP", icmp: { type: 8 } }],
  ["icmp with 1", { protocol: 1, icmp: { type: 8, code: 0 } }],
  ["icmp with ICMPv6", { protocol: "ICMPv6", icmp: { type: 128 } }],
  ["icmp with 58", { protocol: 58, icmp: { type: 128 } }],
  ["empty icmp", { protocol: "ICMP", icmp: {} }],
  ["icmp without protocol", { icmp: { type: 8 } }, "icmp", "may be given only with protocol ICMP"],
  ["icmp with TCP", { protocol: "TCP", icmp: { type: 8 } }, "icmp"],
  ["icmp with not protocol", { notProtocol: "ICMP", icmp: { type: 8 } }, "icmp"],
  ["notICMP without protocol", { notICMP: { type: 8 } }],
  ["notICMP with ICMP", { protocol: "ICMP", notICMP: { type: 8, code: 1 } }],
  ["type 0", { protocol: "ICMP", icmp: { type: 0 } }],
  ["type 254", { protocol: "ICMP", icmp: { type: 254 } }],
  ["type 255", { protocol: "ICMP", icmp: { type: 255 } }, "icmp.type"],
  ["type -1", { protocol: "ICMP", icmp: { type: -1 } }, "icmp.type"],
  ["code 255", { protocol: "ICMP", icmp: { type: 3, code: 255 } }],
  ["code 256", { protocol: "ICMP", icmp: { type: 3, code: 256 } }, "icmp.code"],
  ["code without type", { protocol: "ICMP", icmp: { code: 1 } }, "icmp.type", "must be given with code"],
  ["notICMP: code without type", { notICMP: { code: 1 } }, "notICMP.type"],
  ["notICMP: type 255", { notICMP: { type: 255 } }, "notICMP.type"],
  ["ICMP and 4", { protocol: "ICMP", ipVersion: 4 }],
  ["ICMP and 6", { protocol: "ICMP", ipVersion: 6 }, "ipVersion", "must be 4 or absent"],
  ["1 and 6", { protocol: 1, ipVersion: 6 }, "ipVersion"],
  ["ICMPv6 and 6", { protocol: "ICMPv6", ipVersion: 6 }],
  ["ICMPv6 and 4", { protocol: "ICMPv6", ipVersion: 4 }, "ipVersion", "must be 6 or absent"],
  ["58 and 4", { protocol: 58, ipVersion: 4 }, "ipVersion"],
  ["not ICMP and 6", { notProtocol: "ICMP", ipVersion: 6 }, "ipVersion", "with notProtocol ICMP"],
  ["not ICMPv6 and 4", { notProtocol: "ICMPv6", ipVersion: 4 }, "ipVersion"],
  ["not ICMPv6 and 6", { notProtocol: "ICMPv6", ipVersion: 6 }],
];

const PORTS: readonly Row[] = [
  ["a port", ports(80)],
  ["port 1", ports(1)],
  ["port 65535", ports(65535)],
  ["a port in text", ports("80")],
  ["a range", ports("80:90")],
  ["a range of one", ports("80:80")],
  ["the whole range", ports("1:65535")],
  ["a name", ports("http")],
  ["a name with capitals, dots and hyphens", ports("My_Port.1-a")],
  ["a name of 128 characters", ports("n".repeat(128))],
  ["mixed ports", ports(1, "2:3", "http", 65535)],
  ["50 ports", ports(...times(50, (i) => i + 1))],
  ["51 ports", ports(...times(51, (i) => i + 1)), "destination.ports", "must have at most 50 items"],
  ["port 0", ports(0), "destination.ports[0]"],
  ["port 65536", ports(80, 65536), "destination.ports[1]"],
  ["negative port", ports(-1), "destination.ports[0]"],
  ["port 0 in text", ports("0"), "destination.ports[0]", "must be from 1 to 65535"],
  ["port 65536 in text", ports("65536"), "destination.ports[0]"],
  ["range from 0", ports("0:100"), "destination.ports[0]", "must be from 1 to 65535"],
  ["range to 65536", ports("1:65536"), "destination.ports[0]"],
  ["range in descending order", ports("90:80"), "destination.ports[0]", "must not begin after its end"],
  ["range with a hyphen is a name", ports("80-90")],
  ["range without an end", ports("80:"), "destination.ports[0]"],
  ["range without a start", ports(":80"), "destination.ports[0]"],
  ["range of three", ports("1:2:3"), "destination.ports[0]"],
  ["range of names", ports("a:b"), "destination.ports[0]"],
  ["range with six digits", ports("100000:100001"), "destination.ports[0]"],
  ["empty name", ports(""), "destination.ports[0]"],
  ["name with a blank", ports("a b"), "destination.ports[0]"],
  ["name of 129 characters", ports("n".repeat(129)), "destination.ports[0]"],
  ["source ports with 6", from({ ports: [80] }, { protocol: 6 })],
  ["source not ports with 17", from({ notPorts: [80] }, { protocol: 17 })],
  ["ports with SCTP", to({ ports: [80] }, { protocol: "SCTP" })],
  ["ports with 132", to({ ports: [80] }, { protocol: 132 })],
  ["ports with ICMP", to({ ports: [80] }, { protocol: "ICMP" }), "destination.ports", "other protocols have no ports"],
  ["ports with UDPLite", to({ ports: [80] }, { protocol: "UDPLite" }), "destination.ports"],
  ["ports with 7", from({ ports: [80] }, { protocol: 7 }), "source.ports"],
  ["not ports with 100", from({ notPorts: [80] }, { protocol: 100 }), "source.notPorts"],
  ["named ports with ICMP", to({ ports: ["http"] }, { protocol: "ICMP" }), "destination.ports"],
  ["empty ports with 7", from({ ports: [] }, { protocol: 7 })],
  ["empty not ports with ICMPv6", to({ notPorts: [] }, { protocol: "ICMPv6" })],
  ["numbers without protocol", to({ ports: [80] }), "destination.ports", "must be names unless protocol"],
  ["range without protocol", to({ notPorts: ["80:90"] }), "destination.notPorts", "must be names unless protocol"],
  ["names without protocol", to({ ports: ["http", "https"] })],
  ["not names without protocol", from({ notPorts: ["http"] })],
  ["name and number without protocol", from({ ports: ["http", 80] }), "source.ports"],
  ["numbers with not protocol", to({ ports: [80] }, { notProtocol: "UDP" }), "destination.ports"],
  [
    "all four lists",
    { ...TCP, source: { ports: [1], notPorts: [2] }, destination: { ports: ["a"], notPorts: ["3:4"] } },
  ],
];

const NETS: readonly Row[] = [
  ["IPv4 nets", from({ nets: ["10.0.0.0/8", "192.168.1.1/32"] })],
  ["IPv6 nets", from({ nets: ["fd00::/8", "::1/128"] })],
  ["IPv6 that is not canonical", from({ nets: ["FD00:0:0::/48"] })],
  ["everything", from({ nets: ["0.0.0.0/0"] })],
  ["everything, IPv6", to({ nets: ["::/0"] })],
  ["nets and not nets", from({ nets: ["10.0.0.0/8"], notNets: ["10.1.0.0/16"] })],
  ["256 nets", from({ nets: times(256, (i) => `10.0.${i}.0/24`) })],
  ["257 nets", from({ nets: times(257, (i) => `10.${i >> 8}.${i & 255}.0/24`) }), "source.nets", "at most 256 items"],
  ["the same twice", from({ nets: ["10.0.0.0/8", "10.0.0.0/8"] }), "source.nets[1]"],
  ["no range", from({ nets: ["garbage"] }), "source.nets[0]", "must be a range such as"],
  ["an address", from({ nets: ["10.0.0.1"] })],
  ["an IPv6 address", from({ notNets: ["fd00::1"] })],
  ["length 33", from({ nets: ["10.0.0.0/33"] }), "source.nets[0]"],
  ["length 129", from({ nets: ["fd00::/129"] }), "source.nets[0]"],
  ["leading zeros", from({ nets: ["010.0.0.0/8"] }), "source.nets[0]"],
  ["a zone", from({ nets: ["fe80::%eth0/64"] }), "source.nets[0]"],
  ["empty", to({ nets: [""] }), "destination.nets[0]"],
  ["host bits", from({ nets: ["10.0.0.1/8"] }), "source.nets[0]", "host bits must be zero"],
  ["host bits, IPv6", to({ notNets: ["fd00::1/64"] }), "destination.notNets[0]", "host bits must be zero"],
  ["a net of a number", from({ nets: [10] }), "source.nets[0]"],
  ["not everything", from({ notNets: ["0.0.0.0/0"] }), "source.notNets[0]", "must not cover every address"],
  ["not everything, IPv6", to({ notNets: ["::/0"] }), "destination.notNets[0]"],
  ["not everything, written long", to({ notNets: ["0::0/0"] }), "destination.notNets[0]"],
  ["not half of everything", to({ notNets: ["0.0.0.0/1"] })],
  ["families in one list", from({ nets: ["10.0.0.0/8", "fd00::/8"] }), "source.nets", "both IPv4 and IPv6"],
  ["families in one list of not nets", to({ notNets: ["fd00::/8", "10.0.0.0/8"] }), "destination.notNets"],
  [
    "families of both sides",
    { source: { nets: ["10.0.0.0/8"] }, destination: { nets: ["fd00::/8"] } },
    "destination.nets",
    "same family",
  ],
  ["families of nets and not nets", from({ nets: ["fd00::/8"], notNets: ["10.0.0.0/8"] }), "source.notNets"],
  [
    "families of not nets",
    { source: { notNets: ["fd00::/8"] }, destination: { notNets: ["10.0.0.0/8"] } },
    "destination.notNets",
  ],
  ["one family everywhere", { source: { nets: ["10.0.0.0/8"] }, destination: { notNets: ["10.0.0.0/16"] } }],
  ["IPv4 and ipVersion 4", from({ nets: ["10.0.0.0/8"] }, { ipVersion: 4 })],
  ["IPv4 and ipVersion 6", from({ nets: ["10.0.0.0/8"] }, { ipVersion: 6 }), "source.nets", "that ipVersion gives"],
  ["IPv6 and ipVersion 4", to({ notNets: ["fd00::/8"] }, { ipVersion: 4 }), "destination.notNets"],
  ["empty nets and ipVersion 6", from({ nets: [] }, { ipVersion: 6 })],
  ["nets, selector and service accounts", from({ nets: ["10.0.0.0/8"], selector: "a == 'b'", serviceAccounts: {} })],
];

const SELECTORS: readonly Row[] = [
  ["a selector", from({ selector: 'foo == "bar"' })],
  ["has with slashes", from({ selector: "has(calico/k8s_NS-.1/role)" })],
  ["all fields of selectors", from({ selector: "a == 'b'", notSelector: "!has(c)", namespaceSelector: "d in {'e'}" })],
  ["empty selectors", from({ selector: "", notSelector: "", namespaceSelector: "" })],
  ["a malformed selector", from({ selector: "thing=hello &" }), "source.selector", "at character 6"],
  ["a malformed not selector", to({ notSelector: "a ==" }), "destination.notSelector", "must be text in quotes"],
  ["a malformed namespace selector", from({ namespaceSelector: "a in" }), "source.namespaceSelector"],
  ["1024 characters", from({ selector: `a == '${"v".repeat(1017)}'` })],
  ["1025 characters", from({ selector: `a == '${"v".repeat(1018)}'` }), "source.selector", "1024"],
  [
    "global() in selector",
    from({ selector: "  global()  " }),
    "source.selector",
    "only in namespaceSelector of a rule",
  ],
  ["global() in not selector", from({ notSelector: "global()" }), "source.notSelector"],
  ["global() in a malformed selector", from({ selector: "global() && bad" }), "source.selector"],
  ["global()", from({ namespaceSelector: "global()" })],
  ["global() with blanks around", from({ namespaceSelector: " \tglobal() " })],
  ["global() with a blank inside", from({ namespaceSelector: "global( )" }), "source.namespaceSelector"],
  ["global() and", from({ namespaceSelector: " global() && all()" }), "source.namespaceSelector", "the whole selector"],
  ["global() or", to({ namespaceSelector: "global()||all()" }), "destination.namespaceSelector"],
  ["not global()", to({ namespaceSelector: "!global()" }), "destination.namespaceSelector"],
  ["global() in parentheses", to({ namespaceSelector: "(global())" }), "destination.namespaceSelector"],
  ["service accounts", from({ serviceAccounts: { names: ["a", "b"], selector: "role == 'x'" } })],
  ["empty service accounts", from({ serviceAccounts: {} })],
  ["the same account twice", from({ serviceAccounts: { names: ["a", "a"] } }), "source.serviceAccounts.names[1]"],
  ["a malformed account selector", from({ serviceAccounts: { selector: "!" } }), "source.serviceAccounts.selector"],
  ["global() for accounts", from({ serviceAccounts: { selector: "global()" } }), "source.serviceAccounts.selector"],
];

const SERVICE = { services: { name: "web", namespace: "shop" } };
const SERVICES: readonly Row[] = [
  ["a Service", from(SERVICE)],
  ["a Service of the own namespace", from({ services: { name: "web" } })],
  ["a Service without a name", from({ services: {} }), "source.services.name", "must name the Service"],
  ["a Service with an empty name", from({ services: { name: "" } }), "source.services.name"],
  ["a Service with a bad name", from({ services: { name: "Web" } }), "source.services.name"],
  ["a Service in a bad namespace", from({ services: { name: "w", namespace: "A_b" } }), "source.services.namespace"],
  [
    "a Service and selector",
    from({ ...SERVICE, selector: "all()" }),
    "source.selector",
    "must be absent in a rule with services",
  ],
  ["a Service and not selector", from({ ...SERVICE, notSelector: "has(a)" }), "source.notSelector"],
  ["a Service and namespaces", from({ ...SERVICE, namespaceSelector: "all()" }), "source.namespaceSelector"],
  ["a Service and nets", from({ ...SERVICE, nets: ["10.0.0.0/8"] }), "source.nets"],
  ["a Service and not nets", from({ ...SERVICE, notNets: ["10.0.0.0/8"] }), "source.notNets"],
  ["a Service and accounts", from({ ...SERVICE, serviceAccounts: {} }), "source.serviceAccounts"],
  ["a Service and empty fields", from({ ...SERVICE, selector: "", nets: [] })],
  ["a Service and source ports", from({ ...SERVICE, ports: [80], notPorts: [81] }, TCP)],
  ["a Service as destination", to(SERVICE), "destination.services", "only in source of ingress rules"],
];

const HTTP: readonly Row[] = [
  ["http", { http: { methods: ["GET", "PUT"] } }],
  ["http and TCP", { ...TCP, http: { methods: ["GET"] } }],
  ["http and 6", { protocol: 6, http: { paths: [{ exact: "/a" }, { prefix: "/b/" }] } }],
  ["http and UDP", { protocol: "UDP", http: {} }, "protocol", "must be TCP, 6 or absent"],
  ["http and Deny", { action: "Deny", http: {} }, "http", "may be given only with action Allow"],
  ["http and Log", { action: "Log", http: {} }, "http"],
  ["a method twice", { http: { methods: ["GET", "GET"] } }, "http.methods[1]"],
  ["21 methods", { http: { methods: times(21, (i) => `M${i}`) } }, "http.methods"],
  ["21 paths", { http: { paths: times(21, (i) => ({ exact: `/${i}` })) } }, "http.paths"],
  [
    "exact and prefix",
    { http: { paths: [{ exact: "/a", prefix: "/b" }] } },
    "http.paths[0]",
    "one of exact and prefix",
  ],
  ["neither", { http: { paths: [{}] } }, "http.paths[0]"],
  ["an empty path", { http: { paths: [{ exact: "" }] } }, "http.paths[0]"],
  ["a path without slash", { http: { paths: [{ exact: "a" }] } }, "http.paths[0].exact"],
  ["a path with ?", { http: { paths: [{ exact: "/fo?o" }] } }, "http.paths[0].exact"],
  ["a path with #", { http: { paths: [{ prefix: "/f#oo" }] } }, "http.paths[0].prefix"],
  ["a path with a blank", { http: { paths: [{ exact: "/fo o" }] } }, "http.paths[0].exact"],
];

const METADATA: readonly Row[] = [
  ["annotations", { metadata: { annotations: { foo: "bar", "Example.org/Name": "" } } }],
  ["a bad annotation", { metadata: { annotations: { "...": "bar" } } }, "metadata.annotations"],
  ["an annotation without prefix", { metadata: { annotations: { "/a": "bar" } } }, ["metadata.annotations"]],
  ["a number as annotation", { metadata: { annotations: { a: 1 } } }, "metadata.annotations.a"],
  ["256 KiB", { metadata: { annotations: { a: "x".repeat(256 * 1024 - 1) } } }],
  ["more than 256 KiB", { metadata: { annotations: { a: "x".repeat(256 * 1024) } } }, "metadata.annotations"],
];

/** The same, but as egress rules. */
const EGRESS: readonly Row[] = [
  ["a Service", to(SERVICE)],
  ["a Service of the own namespace", to({ services: { name: "web" } })],
  ["a Service as source", from(SERVICE), "source.services", "only in destination of egress rules"],
  [
    "a Service and ports",
    to({ ...SERVICE, ports: [80] }, TCP),
    "destination.ports",
    "must be empty in a rule with services",
  ],
  ["a Service and not ports", to({ ...SERVICE, notPorts: [80] }, TCP), "destination.notPorts"],
  ["a Service and source ports", { ...TCP, source: { ports: [80] }, destination: SERVICE }],
  ["a Service and accounts", to({ ...SERVICE, serviceAccounts: { names: ["a"] } }), "destination.serviceAccounts"],
  ["http", { http: { methods: ["GET"] } }, "http", "may be given only in ingress rules"],
  ["ports", ports(80)],
  ["port 0", ports(0), "destination.ports[0]"],
  ["global() in selector", to({ selector: "global()" }), "destination.selector"],
];

/** In a policy of the cluster. */
const GLOBAL_INGRESS: readonly Row[] = [
  ["a Service", from(SERVICE)],
  [
    "a Service without namespace",
    from({ services: { name: "web" } }),
    "source.services.namespace",
    "must be given here",
  ],
  [
    "a Service with an empty namespace",
    from({ services: { name: "web", namespace: "" } }),
    "source.services.namespace",
  ],
  ["global()", from({ namespaceSelector: "global()" })],
  ["http", { http: {} }],
];
const GLOBAL_EGRESS: readonly Row[] = [
  ["a Service", to(SERVICE)],
  ["a Service without namespace", to({ services: { name: "web" } }), "destination.services.namespace"],
  ["http", { http: {} }, "http"],
];
const PROFILE: readonly Row[] = [
  ["Allow", { action: "Allow" }],
  ["Log", { action: "Log" }],
  ["Pass", { action: "Pass" }, "action", "must be Allow, Deny or Log in a profile"],
  ["port 0", ports(0), "destination.ports[0]"],
];

function cases(kind: PolicyKind, direction: "ingress" | "egress", rows: readonly Row[]): Case[] {
  return rows.map(([title, rule, refused, words]) => {
    const place = `spec.${direction}[0]`;
    const below = (field: string): string => `${place}.${field}`;
    const fields =
      refused === undefined ? undefined : typeof refused === "string" ? below(refused) : refused.map(below);
    const object = objectOf(kind, { [direction]: [{ action: "Allow", ...rule }] });
    return caseOf(`${direction}: ${title}`, kind, object, fields, words);
  });
}

export const RULE_CASES: readonly Case[] = [
  ...[ACTIONS, PROTOCOLS, ICMP, PORTS, NETS, SELECTORS, SERVICES, HTTP, METADATA].flatMap((rows) =>
    cases("NetworkPolicy", "ingress", rows),
  ),
  ...cases("NetworkPolicy", "egress", EGRESS),
  ...cases("GlobalNetworkPolicy", "ingress", GLOBAL_INGRESS),
  ...cases("GlobalNetworkPolicy", "egress", GLOBAL_EGRESS),
  ...cases("StagedNetworkPolicy", "ingress", SERVICES.slice(0, 4)),
  ...cases("StagedGlobalNetworkPolicy", "egress", GLOBAL_EGRESS),
  ...cases("Profile", "ingress", PROFILE),
];
