/** POL-41 to POL-48: what rules of Calico's policies match; each test is one trap for implementations. */
import { test } from "bun:test";
import { expectVerdicts, type World } from "./dsl.ts";

const PODS: World["pods"] = {
  "alpha/server": {
    labels: { app: "server" },
    addresses: ["10.0.0.1", "fd00::1"],
    ports: ["http=8080/tcp", "dns=53/udp"],
    initPorts: ["warmup=9000/tcp"],
  },
  "alpha/web": {
    labels: { app: "web", role: "x" },
    addresses: ["10.0.0.2", "fd00::2"],
    ports: ["http=80/tcp"],
    serviceAccount: "robot",
  },
  "beta/web": { labels: { app: "web" }, addresses: ["10.0.0.3", "fd00::3"], ports: ["http=8000/tcp"] },
};

const SETS = `
- {kind: GlobalNetworkSet, metadata: {name: friends, labels: {net: friends, pcns.team: red, projectcalico.org/namespace: alpha}}, spec: {nets: [198.51.100.0/25, 198.51.100.64/26, "2001:db8::/32", 198.51.100.200]}}
- {kind: NetworkSet, metadata: {name: own, namespace: beta, labels: {net: own, pcns.team: red}}, spec: {nets: [192.0.2.9/30]}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: alpha, labels: {job: ci}}}
- {kind: HostEndpoint, metadata: {name: h, labels: {app: host}}, spec: {node: n9, interfaceName: eth0, expectedIPs: [203.0.113.5], ports: [{name: http, protocol: TCP, port: 81}]}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s1, namespace: alpha, labels: {kubernetes.io/service-name: db}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.3], conditions: {ready: false}}, {addresses: [203.0.113.9]}], ports: [{port: 8000}, {protocol: UDP, port: 53}]}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s2, namespace: alpha, labels: {kubernetes.io/service-name: db}}, addressType: IPv6, endpoints: [{addresses: ["fd00::3"]}], ports: [{port: 8000}]}
`;

function world(object: string): World {
  return { namespaces: { alpha: { team: "red" }, beta: { team: "blue" } }, pods: PODS, objects: SETS + object };
}

/** One ingress rule for `alpha/server`, of a GlobalNetworkPolicy or of a NetworkPolicy of its namespace. */
function global(rule: string): World {
  return world(
    `- {kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {selector: app == 'server', ingress: [${rule}]}}`,
  );
}

function namespaced(rule: string): World {
  return world(
    `- {kind: NetworkPolicy, metadata: {name: p, namespace: alpha}, spec: {selector: app == 'server', ingress: [${rule}]}}`,
  );
}

function egress(rule: string): World {
  return world(
    `- {kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {selector: app == 'server', egress: [${rule}]}}`,
  );
}

/** Who may send to `alpha/server`: a friend of the global set, an address of beta's set, a host endpoint, somebody else. */
function senders(allowed: { readonly [name: string]: boolean }): string {
  const names: Readonly<Record<string, string>> = {
    alpha: "alpha/web",
    beta: "beta/web",
    friend: "198.51.100.1",
    own: "192.0.2.10",
    host: "203.0.113.5",
    other: "203.0.113.77",
  };
  return Object.entries(names)
    .map(
      ([key, from]) =>
        `${from} → ${from.includes("/") ? "alpha/server" : "10.0.0.1"}/tcp:80 ${allowed[key] === true ? "allow" : "deny"}`,
    )
    .join("\n");
}

test("trap 18: a rule's selector is of the policy's namespace, its nets are not", () => {
  expectVerdicts(namespaced("{action: Allow, source: {selector: app == 'web'}}"), senders({ alpha: true }));
  expectVerdicts(
    namespaced("{action: Allow, source: {nets: [10.0.0.0/24, 203.0.113.77]}}"),
    "10.0.0.3 → 10.0.0.1/tcp:80 allow\n203.0.113.77 → 10.0.0.1/tcp:80 allow",
  );
});

test("trap 19: in a global policy selectors reach everything; all() is what is in a namespace, global() what is in none", () => {
  expectVerdicts(
    global("{action: Allow, source: {selector: has(app)}}"),
    senders({ alpha: true, beta: true, host: true }),
  );
  expectVerdicts(
    global("{action: Allow, source: {namespaceSelector: all()}}"),
    senders({ alpha: true, beta: true, own: true }),
  );
  expectVerdicts(
    global("{action: Allow, source: {namespaceSelector: global()}}"),
    senders({ friend: true, host: true }),
  );
  expectVerdicts(
    namespaced("{action: Allow, source: {namespaceSelector: global(), selector: has(net)}}"),
    senders({ friend: true }),
  );
});

test("a namespaceSelector that only negates means namespaces all the same", () => {
  expectVerdicts(
    global(`{action: Allow, source: {namespaceSelector: "team != 'red'"}}`),
    senders({ beta: true, own: true }),
  );
});

test("trap 20: a negation inside a selector means known endpoints alone, notSelector everything else", () => {
  expectVerdicts(
    global(`{action: Allow, source: {selector: "app != 'web'"}}`),
    senders({ friend: true, own: true, host: true }),
  );
  expectVerdicts(
    global(`{action: Allow, source: {notSelector: "app == 'web'"}}`),
    senders({ friend: true, own: true, host: true, other: true }),
  );
});

test("trap 21: selector and notSelector are one set; within a namespace even notSelector alone is one", () => {
  expectVerdicts(
    global(`{action: Allow, source: {selector: "has(app)", notSelector: "app == 'host' || has(role)"}}`),
    senders({ beta: true }),
  );
  expectVerdicts(namespaced(`{action: Allow, source: {notSelector: "app == 'db'"}}`), senders({ alpha: true }));
  expectVerdicts(
    global(`{action: Allow, source: {namespaceSelector: all(), notSelector: "has(role)"}}`),
    senders({ beta: true, own: true }),
  );
});

test("trap 23: what only notNets says of a family", () => {
  expectVerdicts(
    global("{action: Allow, source: {notNets: [10.0.0.0/8]}}"),
    `
    203.0.113.77 → 10.0.0.1/tcp:80 allow
    10.0.0.2 → 10.0.0.1/tcp:80 deny
    2001:db8:1::1 → fd00::1/tcp:80 deny`,
  );
  expectVerdicts(
    global("{action: Deny, source: {notNets: [10.0.0.0/8]}}, {action: Allow}"),
    `
    203.0.113.77 → 10.0.0.1/tcp:80 deny
    10.0.0.2 → 10.0.0.1/tcp:80 allow
    2001:db8:1::1 → fd00::1/tcp:80 deny`,
  );
});

test("trap 24: an exception does not match, and a later rule may", () => {
  expectVerdicts(
    global(
      "{action: Allow, source: {nets: [10.0.0.0/24], notNets: [10.0.0.2/31]}}, {action: Allow, source: {nets: [10.0.0.2]}}",
    ),
    `
    10.0.0.2 → 10.0.0.1/tcp:80 allow ingress rule 1 of p
    10.0.0.3 → 10.0.0.1/tcp:80 deny
    10.0.0.9 → 10.0.0.1/tcp:80 allow ingress rule 0 of p`,
  );
});

test("trap 25: numbers, ranges and names of ports are alternatives of one protocol", () => {
  expectVerdicts(
    global("{action: Allow, protocol: TCP, destination: {ports: [80, '90:91', http]}}"),
    `
    beta/web → alpha/server/tcp:80 allow
    beta/web → alpha/server/tcp:90 allow
    beta/web → alpha/server/tcp:91 allow
    beta/web → alpha/server/tcp:92 deny
    beta/web → alpha/server/tcp:8080 allow
    beta/web → alpha/server/udp:80 deny`,
  );
  expectVerdicts(
    global("{action: Allow, destination: {ports: [http, dns]}}"),
    `
    beta/web → alpha/server/tcp:8080 allow
    beta/web → alpha/server/udp:53 allow
    beta/web → alpha/server/tcp:53 deny`,
  );
});

test("trap 26: a name is the port of each endpoint that the side selects", () => {
  const rule = (selector: string): World =>
    egress(`{action: Allow, protocol: TCP, destination: {${selector} ports: [http]}}`);
  expectVerdicts(
    rule(""),
    `
    alpha/server → alpha/web/tcp:80 allow
    alpha/server → beta/web/tcp:8000 allow
    alpha/server → beta/web/tcp:80 deny
    10.0.0.1 → 203.0.113.5/tcp:81 allow
    10.0.0.1 → 203.0.113.77/tcp:80 deny`,
  );
  expectVerdicts(
    rule("selector: has(role),"),
    `
    alpha/server → alpha/web/tcp:80 allow
    alpha/server → beta/web/tcp:8000 deny`,
  );
});

test("trap 27: ports of init containers have names too", () => {
  expectVerdicts(
    global("{action: Allow, protocol: TCP, destination: {ports: [warmup]}}"),
    "beta/web → alpha/server/tcp:9000 allow",
  );
});

test("trap 28: ICMP means IPv4 and ICMPv6 IPv6; without a type every type", () => {
  expectVerdicts(
    global("{action: Allow, protocol: ICMP}"),
    "10.0.0.2 → 10.0.0.1/icmp allow\nfd00::2 → fd00::1/icmp deny",
  );
  expectVerdicts(
    global("{action: Allow, protocol: ICMPv6, icmp: {}}"),
    "10.0.0.2 → 10.0.0.1/icmp deny\nfd00::2 → fd00::1/icmp allow",
  );
});

test("trap 30: services are endpoints at their own ports, ready or not, and as a source their addresses", () => {
  expectVerdicts(
    egress("{action: Allow, destination: {services: {name: db, namespace: alpha}}}"),
    `
    10.0.0.1 → 10.0.0.3/tcp:8000 allow
    10.0.0.1 → 10.0.0.3/udp:53 allow
    10.0.0.1 → 10.0.0.3/udp:8000 deny
    10.0.0.1 → 203.0.113.9/tcp:8000 allow
    fd00::1 → fd00::3/tcp:8000 allow
    fd00::1 → fd00::3/udp:53 deny`,
  );
  expectVerdicts(
    namespaced("{action: Allow, source: {services: {name: db}}}"),
    `
    10.0.0.3 → 10.0.0.1/tcp:1 allow
    10.0.0.2 → 10.0.0.1/tcp:1 deny`,
  );
  expectVerdicts(
    egress("{action: Allow, destination: {services: {name: none, namespace: alpha}}}"),
    "10.0.0.1 → 10.0.0.3/tcp:8000 deny",
  );
});

test("trap 31: names and selector of service accounts both hold, and mean the policy's namespace", () => {
  const accounts = (text: string): string => `{action: Allow, source: {serviceAccounts: {${text}}}}`;
  expectVerdicts(global(accounts("names: [robot]")), senders({ alpha: true }));
  expectVerdicts(global(accounts("names: [robot], selector: job == 'x'")), senders({}));
  expectVerdicts(global(accounts(`selector: "job != 'x'"`)), senders({ alpha: true }));
  expectVerdicts(namespaced(accounts("names: [robot, other]")), senders({ alpha: true }));
});

test("trap 32: http is the rest of the rule", () => {
  expectVerdicts(
    global("{action: Allow, protocol: TCP, http: {methods: [GET]}, destination: {ports: [80]}}"),
    "beta/web → alpha/server/tcp:80 allow\nbeta/web → alpha/server/tcp:81 deny",
  );
});

test("trap 33: a network set may mix families", () => {
  expectVerdicts(
    global("{action: Allow, source: {selector: net == 'friends'}}"),
    `
    198.51.100.1 → 10.0.0.1/tcp:80 allow
    2001:db8:9::1 → fd00::1/tcp:80 allow
    203.0.113.77 → 10.0.0.1/tcp:80 deny`,
  );
});

test("trap 34: host bits of a set's nets are ignored, an address alone is a net, nets may overlap", () => {
  expectVerdicts(
    global("{action: Allow, source: {selector: has(net)}}"),
    `
    192.0.2.8 → 10.0.0.1/tcp:80 allow
    192.0.2.12 → 10.0.0.1/tcp:80 deny
    198.51.100.100 → 10.0.0.1/tcp:80 allow
    198.51.100.200 → 10.0.0.1/tcp:80 allow
    198.51.100.201 → 10.0.0.1/tcp:80 deny`,
  );
});

test("trap 35: everything is a net", () => {
  const everything =
    "- {kind: GlobalNetworkSet, metadata: {name: all, labels: {any: where}}, spec: {nets: [0.0.0.0/0, '::/0']}}\n";
  const rule =
    "- {kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {selector: app == 'server', ingress: [{action: Allow, source: {selector: has(any)}}]}}";
  expectVerdicts(world(everything + rule), "203.0.113.77 → 10.0.0.1/tcp:80 allow\n2001:db8::1 → fd00::1/tcp:80 allow");
});

test("trap 57: a set cannot pretend to be in a namespace, or to have inherited a label", () => {
  expectVerdicts(global("{action: Allow, source: {namespaceSelector: team == 'red'}}"), senders({ alpha: true }));
  expectVerdicts(global("{action: Allow, source: {selector: pcns.team == 'red'}}"), senders({ alpha: true }));
});

test("trap 77: a pod on its host's network is no endpoint", () => {
  const pods = { ...PODS, "alpha/agent": { labels: { app: "agent" }, addresses: ["203.0.113.6"], hostNetwork: true } };
  expectVerdicts(
    { ...global("{action: Allow, source: {selector: app == 'agent'}}"), pods },
    "203.0.113.6 → 10.0.0.1/tcp:80 deny",
  );
});

test("trap 78: a host endpoint is its expected addresses alone", () => {
  const named =
    "- {kind: HostEndpoint, metadata: {name: i, labels: {app: bare}}, spec: {node: n9, interfaceName: eth1}}\n";
  const rule =
    "- {kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {selector: app == 'server', ingress: [{action: Allow, source: {selector: app == 'bare' || app == 'host'}}]}}";
  expectVerdicts(world(named + rule), senders({ host: true }));
});

test("protocols by name and number, UDPLite too", () => {
  expectVerdicts(
    global(
      "{action: Allow, protocol: UDPLite}, {action: Allow, protocol: 47}, {action: Allow, notProtocol: TCP, destination: {nets: [10.0.0.1]}}",
    ),
    `
    fd00::2 → fd00::1/udplite:7 allow ingress rule 0 of p
    fd00::2 → fd00::1/47 allow ingress rule 1 of p
    10.0.0.2 → 10.0.0.1/udp:9 allow ingress rule 2 of p
    10.0.0.2 → 10.0.0.1/tcp:9 deny`,
  );
});
