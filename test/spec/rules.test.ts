/** POL-11 to POL-19: what a rule matches, and what becomes of a policy that is not valid. */
import { expect, test } from "bun:test";
import { policyOfNetworkPolicy } from "../../src/model/convert/network-policy.ts";
import { expectVerdicts, policyResource, type World } from "./dsl.ts";

const PODS: World["pods"] = {
  "alpha/server": {
    labels: { app: "server" },
    addresses: ["10.0.0.1", "fd00::1"],
    ports: ["http=8080/tcp", "dns=53/udp", "dns=53/tcp"],
    initPorts: ["sidecar=9000/tcp"],
  },
  "alpha/web": { labels: { app: "web" }, addresses: ["10.0.0.2", "fd00::2"], ports: ["http=80/tcp"] },
  "beta/web": { labels: { app: "web" }, addresses: ["10.0.0.3", "fd00::3"], ports: ["http=8000/tcp"] },
  "beta/db": { labels: { app: "db" }, addresses: ["10.0.0.4", "fd00::4"] },
};

/** One ingress rule for `alpha/server`. */
function ingress(rule: string): World {
  return {
    namespaces: { alpha: { team: "red" }, beta: { team: "blue" } },
    pods: PODS,
    policies: { "alpha/p": `{podSelector: {matchLabels: {app: server}}, ingress: [${rule}]}` },
  };
}

/** One egress rule for `alpha/server`. */
function egress(rule: string): World {
  return {
    ...ingress("{}"),
    policies: { "alpha/p": `{podSelector: {matchLabels: {app: server}}, policyTypes: [Egress], egress: [${rule}]}` },
  };
}

for (const rule of ["{}", "{from: []}", "{ports: []}", "{from: [], ports: []}", "{from: null, ports: null}"]) {
  test(`POL-11: ${rule} matches everything`, () => {
    expectVerdicts(
      ingress(rule),
      `
      alpha/web → alpha/server/tcp:80 allow ingress rule 0 of alpha/p
      beta/db → alpha/server/icmp allow
      198.51.100.1 → 10.0.0.1/47 allow
      2001:db8::1 → fd00::1/udp:1 allow`,
    );
  });
}

test("POL-11: peer and port must both match", () => {
  expectVerdicts(
    ingress("{from: [{podSelector: {}}], ports: [{port: 80}]}"),
    `
    alpha/web → alpha/server/tcp:80 allow
    alpha/web → alpha/server/tcp:81 deny
    beta/web → alpha/server/tcp:80 deny`,
  );
});

for (const [peer, allowed] of [
  ["{podSelector: {}}", ["alpha/web"]],
  ["{podSelector: {matchLabels: {app: web}}}", ["alpha/web"]],
  ["{podSelector: {matchLabels: {app: db}}}", []],
  ["{namespaceSelector: {}}", ["alpha/web", "beta/web", "beta/db"]],
  ["{namespaceSelector: {matchLabels: {team: blue}}}", ["beta/web", "beta/db"]],
  ["{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [blue]}]}}", ["alpha/web"]],
  ["{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: web}}}", ["beta/web"]],
  ["{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}", ["alpha/web", "beta/web"]],
  [
    "{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: web}}}",
    ["alpha/web", "beta/web", "beta/db"],
  ],
] as const) {
  test(`POL-12, POL-13: from ${peer}`, () => {
    const pods = ["alpha/web", "beta/web", "beta/db"].map(
      (pod) => `${pod} → alpha/server/tcp:80 ${(allowed as readonly string[]).includes(pod) ? "allow" : "deny"}`,
    );
    expectVerdicts(
      ingress(`{from: [${peer}]}`),
      [...pods, "198.51.100.1 → 10.0.0.1/tcp:80 deny", "2001:db8::1 → fd00::1/tcp:80 deny"].join("\n"),
    );
    const away = ["alpha/web", "beta/web", "beta/db"].map(
      (pod) => `alpha/server → ${pod}/tcp:80 ${(allowed as readonly string[]).includes(pod) ? "allow" : "deny"}`,
    );
    expectVerdicts(egress(`{to: [${peer}]}`), [...away, "10.0.0.1 → 198.51.100.1/tcp:80 deny"].join("\n"));
  });
}

test("POL-12: a pod on its host's network is matched by block, not by selector", () => {
  const host: World = {
    ...ingress("{from: [{namespaceSelector: {}}]}"),
    pods: { ...PODS, "beta/agent": { addresses: ["192.0.2.7"], hostNetwork: true } },
  };
  expectVerdicts(host, "192.0.2.7 → 10.0.0.1/tcp:80 deny");
  expectVerdicts(
    { ...host, ...ingress("{from: [{ipBlock: {cidr: 192.0.2.7/32}}]}") },
    "192.0.2.7 → 10.0.0.1/tcp:80 allow",
  );
});

test("POL-14: edges of a block and of its exceptions", () => {
  expectVerdicts(
    ingress("{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.64/26, 192.0.2.4/32]}}]}"),
    `
    192.0.1.255 → 10.0.0.1/tcp:80 deny
    192.0.2.0 → 10.0.0.1/tcp:80 allow
    192.0.2.3 → 10.0.0.1/tcp:80 allow
    192.0.2.4 → 10.0.0.1/tcp:80 deny
    192.0.2.5 → 10.0.0.1/tcp:80 allow
    192.0.2.63 → 10.0.0.1/tcp:80 allow
    192.0.2.64 → 10.0.0.1/tcp:80 deny
    192.0.2.127 → 10.0.0.1/tcp:80 deny
    192.0.2.128 → 10.0.0.1/tcp:80 allow
    192.0.2.255 → 10.0.0.1/tcp:80 allow
    192.0.3.0 → 10.0.0.1/tcp:80 deny
    2001:db8::1 → fd00::1/tcp:80 deny`,
  );
  expectVerdicts(
    ingress("{from: [{ipBlock: {cidr: '2001:db8::/64', except: ['2001:db8::8/125']}}]}"),
    `
    2001:db8::7 → fd00::1/tcp:80 allow
    2001:db8::8 → fd00::1/tcp:80 deny
    2001:db8::f → fd00::1/tcp:80 deny
    2001:db8::10 → fd00::1/tcp:80 allow
    2001:db8:0:1:: → fd00::1/tcp:80 deny
    192.0.2.1 → 10.0.0.1/tcp:80 deny`,
  );
});

test("POL-14: leading zeros are decimal, and an IPv4-mapped range is the IPv4 range, in a block and in its exceptions", () => {
  expectVerdicts(
    ingress("{from: [{ipBlock: {cidr: 192.000.002.000/024, except: ['::ffff:192.0.2.64/122']}}]}"),
    `
    192.0.2.1 → 10.0.0.1/tcp:80 allow
    192.0.2.64 → 10.0.0.1/tcp:80 deny
    192.0.3.1 → 10.0.0.1/tcp:80 deny`,
  );
  expectVerdicts(
    ingress("{from: [{ipBlock: {cidr: '2001:00db8:0::/064'}}]}"),
    `
    2001:db8::7 → fd00::1/tcp:80 allow
    2001:db8:0:1:: → fd00::1/tcp:80 deny`,
  );
});

test("POL-14: an exception denies nothing that another entry, rule or policy allows", () => {
  const first = "{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25]}}";
  expectVerdicts(
    ingress(`{from: [${first}, {ipBlock: {cidr: 192.0.2.7/32}}]}`),
    "192.0.2.7 → 10.0.0.1/tcp:80 allow ingress rule 0 of alpha/p\n192.0.2.8 → 10.0.0.1/tcp:80 deny",
  );
  expectVerdicts(
    ingress(`{from: [${first}]}, {from: [{ipBlock: {cidr: 192.0.2.7/32}}]}`),
    "192.0.2.7 → 10.0.0.1/tcp:80 allow ingress rule 1 of alpha/p",
  );
  expectVerdicts(
    ingress(
      "{from: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.2/32]}}, {podSelector: {matchLabels: {app: web}}}]}",
    ),
    "10.0.0.2 → 10.0.0.1/tcp:80 allow",
  );
});

test("POL-14: everything less something, host bits ignored", () => {
  for (const all of ["0.0.0.0/0", "10.0.0.0/0", "255.255.255.255/0"]) {
    expectVerdicts(
      ingress(`{from: [{ipBlock: {cidr: ${all}, except: [10.0.0.0/8]}}]}`),
      `
      198.51.100.1 → 10.0.0.1/tcp:80 allow
      255.255.255.255 → 10.0.0.1/tcp:80 allow
      0.0.0.0 → 10.0.0.1/tcp:80 allow
      9.255.255.255 → 10.0.0.1/tcp:80 allow
      10.0.0.2 → 10.0.0.1/tcp:80 deny
      11.0.0.0 → 10.0.0.1/tcp:80 allow
      2001:db8::1 → fd00::1/tcp:80 deny`,
    );
  }
  expectVerdicts(
    ingress("{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [0.0.0.0/1, 128.0.0.0/1]}}]}"),
    "198.51.100.1 → 10.0.0.1/tcp:80 deny\n9.9.9.9 → 10.0.0.1/tcp:80 deny",
  );
});

test("POL-15: entries are alternatives, TCP by default, all ports of the protocol without one", () => {
  expectVerdicts(
    ingress("{ports: [{port: 80}, {protocol: UDP}, {protocol: SCTP, port: 5000}]}"),
    `
    alpha/web → alpha/server/tcp:80 allow
    alpha/web → alpha/server/tcp:53 deny
    alpha/web → alpha/server/udp:80 allow
    alpha/web → alpha/server/udp:65535 allow
    alpha/web → alpha/server/sctp:5000 allow
    alpha/web → alpha/server/sctp:80 deny`,
  );
  // One without port is not narrowed by its neighbours.
  expectVerdicts(ingress("{ports: [{port: 80}, {protocol: TCP}]}"), "alpha/web → alpha/server/tcp:9999 allow");
  expectVerdicts(
    ingress("{ports: [{}]}"),
    "alpha/web → alpha/server/tcp:9999 allow\nalpha/web → alpha/server/udp:9999 deny",
  );
});

test("POL-15: a hundred ports and ranges", () => {
  const ports = Array.from({ length: 100 }, (_, i) =>
    i % 2 === 0 ? `{port: ${1000 + 10 * i}}` : `{port: ${1000 + 10 * i}, endPort: ${1002 + 10 * i}}`,
  );
  expectVerdicts(
    ingress(`{ports: [${ports.join(", ")}]}`),
    `
    alpha/web → alpha/server/tcp:1000 allow
    alpha/web → alpha/server/tcp:1001 deny
    alpha/web → alpha/server/tcp:1992 allow
    alpha/web → alpha/server/tcp:1993 deny`,
  );
});

test("POL-16: both ends of a range belong to it, and source ports do not count", () => {
  expectVerdicts(
    ingress("{ports: [{port: 80, endPort: 90}, {protocol: UDP, port: 65535, endPort: 65535}, {port: 40000}]}"),
    `
    alpha/web → alpha/server/tcp:79 deny
    alpha/web → alpha/server/tcp:80 allow
    alpha/web → alpha/server/tcp:90 allow
    alpha/web → alpha/server/tcp:91 deny
    alpha/web → alpha/server/udp:65534 deny
    alpha/web → alpha/server/udp:65535 allow`,
  );
});

test("POL-17: a name is looked up at the destination, each pod its own number", () => {
  expectVerdicts(
    ingress("{ports: [{port: http}]}"),
    `
    alpha/web → alpha/server/tcp:8080 allow
    198.51.100.1 → 10.0.0.1/tcp:8080 allow
    alpha/web → alpha/server/tcp:80 deny
    alpha/web → alpha/server/udp:8080 deny`,
  );
  for (const peers of [
    "to: [{namespaceSelector: {}}], ",
    "to: [{ipBlock: {cidr: 10.0.0.0/24}}, {ipBlock: {cidr: 'fd00::/64'}}], ",
    "",
  ]) {
    expectVerdicts(
      egress(`{${peers}ports: [{port: http}]}`),
      `
      alpha/server → alpha/web/tcp:80 allow
      alpha/server → alpha/web/tcp:8000 deny
      alpha/server → beta/web/tcp:8000 allow
      alpha/server → beta/web/tcp:80 deny
      alpha/server → beta/db/tcp:80 deny
      10.0.0.1 → 198.51.100.1/tcp:80 deny`,
    );
  }
});

test("POL-17: names of host endpoints' ports are none of Kubernetes' policies", () => {
  const host =
    "- {kind: HostEndpoint, metadata: {name: h}, spec: {node: n9, interfaceName: eth0, expectedIPs: [10.0.0.2, 'fd00::2'], ports: [{name: http, protocol: TCP, port: 8000}]}}\n";
  expectVerdicts(
    { ...egress("{ports: [{port: http}]}"), objects: host },
    `
    alpha/server → alpha/web/tcp:80 allow
    alpha/server → alpha/web/tcp:8000 deny`,
  );
});

test("POL-17: protocols, several numbers and init containers", () => {
  expectVerdicts(
    ingress("{ports: [{port: dns, protocol: UDP}, {port: sidecar}]}"),
    `
    alpha/web → alpha/server/udp:53 allow
    alpha/web → alpha/server/tcp:53 deny
    alpha/web → alpha/server/tcp:9000 allow`,
  );
  const twice: World = {
    ...ingress("{ports: [{port: http}]}"),
    pods: { ...PODS, "alpha/server": { ...PODS["alpha/server"], ports: ["http=80/tcp", "http=81/tcp"] } },
  };
  expectVerdicts(
    twice,
    "alpha/web → alpha/server/tcp:80 allow\nalpha/web → alpha/server/tcp:81 allow\nalpha/web → alpha/server/tcp:82 deny",
  );
  expectVerdicts(ingress("{ports: [{port: nobody}]}"), "alpha/web → alpha/server/tcp:80 deny");
});

test("POL-18: ports never match what has none", () => {
  expectVerdicts(
    ingress("{ports: [{port: 80}, {protocol: TCP}, {protocol: UDP}, {protocol: SCTP}]}"),
    `
    alpha/web → alpha/server/icmp deny
    alpha/web → alpha/server/47 deny`,
  );
  expectVerdicts(
    ingress("{from: [{podSelector: {}}]}"),
    `
    alpha/web → alpha/server/icmp allow
    beta/web → alpha/server/icmp deny`,
  );
});

for (const [spec, field] of [
  [
    "{podSelector: {matchLabels: {app: server}}, ingress: [{}, {ports: [{protocol: ICMP}]}]}",
    "spec.ingress[1].ports[0].protocol",
  ],
  [
    "{podSelector: {matchLabels: {app: server}}, ingress: [{}], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}",
    "spec.egress[0].to[0].ipBlock.cidr",
  ],
  [
    "{podSelector: {matchLabels: {app: server}}, ingress: [{}, {from: [{ports: [{port: 80}]}]}]}",
    "spec.ingress[1].from[0].ports",
  ],
  ["{podSelector: {matchLabels: {app: server}}, ingress: [{from: [null]}]}", "spec.ingress[0].from[0]"],
  ["{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]"],
  [
    "{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress, sideways], ingress: [{}]}",
    "spec.policyTypes[1]",
  ],
] as const) {
  test(`POL-19: closed for what it selects: ${spec}`, () => {
    expect(policyOfNetworkPolicy(policyResource("alpha/p", spec)).error).toContain(`${field}: `);
    const world: World = { ...ingress("{}"), policies: { "alpha/p": spec } };
    expectVerdicts(
      world,
      `
      alpha/web → alpha/server/tcp:80 deny no ingress rule of alpha/p
      alpha/server → alpha/web/tcp:80 deny no egress rule of alpha/p
      beta/web → alpha/web/tcp:80 allow`,
    );
    expectVerdicts(
      { ...world, policies: { ...world.policies, "alpha/q": "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}" } },
      "alpha/web → alpha/server/tcp:80 allow ingress rule 0 of alpha/q",
    );
  });
}

for (const spec of [
  "{podSelector: {matchLabels: {'not a key': x}}, ingress: [{}]}",
  "{podSelector: [], ingress: [{}]}",
  "{podSelector: {matchExpressions: [{key: app, operator: Like, values: [a]}]}}",
  "[]",
  "{podSelector: {matchLabel: {app: server}}}",
]) {
  test(`POL-19: closed for every pod of the namespace: ${spec}`, () => {
    expectVerdicts(
      { ...ingress("{}"), policies: { "alpha/p": spec } },
      `
      alpha/web → alpha/server/tcp:80 deny
      beta/web → alpha/web/tcp:80 deny
      alpha/web → beta/web/tcp:80 deny no egress rule of alpha/p
      beta/web → beta/db/tcp:80 allow`,
    );
  });
}
