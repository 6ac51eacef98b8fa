/** `why` over Calico's kinds: tiers, passes, network sets, closed and staged policies, host endpoints and the settings of nodes. */
import { describe, expect, test } from "bun:test";
import { deployment, NAMESPACE, pod, policy, why } from "./test-manifests.ts";

const V3 = "projectcalico.org/v3";
const object = (kind: string, name: string, spec: string, apiVersion = V3, more = ""): string =>
  `---\n{apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: ${name}${more}}, spec: ${spec}}\n`;
const FILES = NAMESPACE + pod("web", "10.65.0.4") + pod("front", "10.65.0.5", "", "n2");

describe("tiers", () => {
  const TIER = object("Tier", "first", "{order: 5}");
  const DENY =
    "{tier: first, selector: app == 'web', ingress: [{action: Deny, protocol: TCP, destination: {ports: [22]}}";

  test("a rule of an earlier tier decides, with its text", async () => {
    const guard = object("GlobalNetworkPolicy", "guard", `${DENY}, {action: Pass}]}`);
    const { code, out } = await why(FILES + TIER + guard, "front", "web:22");
    expect([code, out]).toEqual([
      1,
      expect.stringContaining(
        "entering shop/web: denied by ingress rule 1 of GlobalNetworkPolicy guard in tier first (spec.ingress[0]: deny tcp to ports 22)\n",
      ),
    ]);
  });

  test("rules that passed and logged are named", async () => {
    const guard = object("GlobalNetworkPolicy", "guard", `${DENY}, {action: Log}, {action: Pass}]}`);
    const { code, out } = await why(FILES + TIER + guard, "front", "web:80");
    expect(code).toBe(0);
    expect(out).toContain("before that, logged by ingress rule 2 of GlobalNetworkPolicy guard in tier first");
    expect(out).toContain("before that, passed by ingress rule 3 of GlobalNetworkPolicy guard in tier first");
    const answer = JSON.parse((await why(FILES + TIER + guard, "front", "web:22", "json")).out).pairs[0].answers[0];
    expect(answer.ingress).toMatchObject({ action: "deny", tier: "first", rule: "deny tcp to ports 22" });
  });

  test("the end of a tier denies", async () => {
    const guard = object("GlobalNetworkPolicy", "guard", `${DENY}]}`);
    const { out } = await why(FILES + TIER + guard, "front", "web:80");
    expect(out).toContain(
      "denied: no ingress rule of GlobalNetworkPolicy guard, which selects it, matched, and tier first denies the rest\n",
    );
  });
});

test("every name of Calico's NetworkPolicy, and lists of it", async () => {
  const spec = "{selector: app == 'web', types: [Ingress]}";
  for (const [kind, apiVersion] of [
    ["NetworkPolicy", V3],
    ["CalicoPolicy", V3],
    ["NetworkPolicy", "crd.projectcalico.org/v1"],
  ] as const) {
    const { code, out } = await why(FILES + object(kind, "p", spec, apiVersion), "front", "web:80");
    expect([code, out]).toEqual([1, expect.stringContaining("Calico NetworkPolicy shop/p, which selects it, matched")]);
  }
  const list = `---\n{apiVersion: ${V3}, kind: NetworkPolicyList, items: [{metadata: {name: p}, spec: ${spec}}]}\n`;
  expect((await why(FILES + list, "front", "web:80")).code).toBe(1);
});

test("labels that crd.projectcalico.org keeps in an annotation", async () => {
  const set = object(
    "GlobalNetworkSet",
    "s",
    "{nets: [10.65.0.5/32]}",
    "crd.projectcalico.org/v1",
    `, annotations: {projectcalico.org/metadata: '{"labels":{"set":"x"}}'}`,
  );
  const open = object(
    "GlobalNetworkPolicy",
    "default.p",
    "{selector: app == 'web', ingress: [{action: Allow, source: {selector: has(set)}}]}",
    "crd.projectcalico.org/v1",
  );
  const { code, out } = await why(FILES + set + open, "front", "web:80");
  expect([code, out]).toEqual([0, expect.stringContaining("GlobalNetworkPolicy p in tier default")]);
});

test("a policy that is not valid is closed, with the reason", async () => {
  const bad = object(
    "NetworkPolicy",
    "bad",
    "{selector: app == 'web', ingress: [{action: Allow, source: {nets: [x]}}]}",
  );
  const { code, out, error } = await why(FILES + bad, "front", "web:80");
  expect([code, out]).toEqual([
    1,
    expect.stringContaining(
      "denied by Calico NetworkPolicy shop/bad in tier default, which is invalid and denies everything\n",
    ),
  ]);
  expect(error).toStartWith("warning: Calico NetworkPolicy shop/bad is invalid and denies everything: ");
});

describe("staged policies", () => {
  const staged = (spec: string, kind = "StagedNetworkPolicy", name = "s"): string => object(kind, name, spec);
  const DENY = "{selector: app == 'web', ingress: [{action: Deny}]}";

  test("decide nothing, and what they would decide is said", async () => {
    const { code, out } = await why(FILES + staged(DENY), "front", "web:80");
    expect(code).toBe(0);
    expect(out).toStartWith("shop/front → shop/web: allowed\n");
    expect(out).toContain("with StagedNetworkPolicy shop/s enforced:\n  shop/front → shop/web: denied\n");
    expect(out).toContain("denied by ingress rule 1 of Calico NetworkPolicy shop/s in tier default");
    const json = JSON.parse((await why(FILES + staged(DENY), "front", "web:80", "json")).out);
    expect(json).toMatchObject({
      allowed: true,
      certain: true,
      staged: { policies: ["StagedNetworkPolicy shop/s"], allowed: false, certain: true },
    });
  });

  test("that change nothing here say so, and those of other pods nothing", async () => {
    const allow = staged("{selector: app == 'web', ingress: [{action: Allow}]}");
    const enforced = object("NetworkPolicy", "s", "{selector: app == 'web', ingress: [{action: Allow}]}");
    expect((await why(FILES + enforced + allow, "front", "web:80")).out).toEndWith(
      "with StagedNetworkPolicy shop/s enforced: the same\n",
    );
    expect((await why(FILES + staged(DENY.replace("'web'", "'db'")), "front", "web:80")).out).not.toContain("enforced");
  });

  test("stage the deletion of what is enforced under their name", async () => {
    const enforced = object("NetworkPolicy", "s", DENY) + object("NetworkPolicy", "z", DENY);
    const one = await why(FILES + enforced + staged("{stagedAction: Delete}"), "front", "web:80");
    expect([one.code, one.out]).toEqual([
      1,
      expect.stringContaining("with StagedNetworkPolicy shop/s enforced:\n  shop/front"),
    ]);
    expect(one.out).toContain("Calico NetworkPolicy shop/z in tier default");
    const both = staged("{stagedAction: Delete}") + staged("{stagedAction: Delete}", "StagedNetworkPolicy", "z");
    expect((await why(FILES + enforced + both, "front", "web:80")).out).toContain(
      "with StagedNetworkPolicy shop/s, StagedNetworkPolicy shop/z enforced:\n  shop/front → shop/web: allowed\n",
    );
  });

  test("of Kubernetes' form, and of the cluster's scope", async () => {
    const kubernetes = staged("{podSelector: {}, policyTypes: [Ingress]}", "StagedKubernetesNetworkPolicy");
    expect((await why(FILES + kubernetes, "front", "web:80")).out).toContain(
      "with StagedKubernetesNetworkPolicy shop/s enforced:\n  shop/front → shop/web: denied\n",
    );
    const global = staged("{ingress: [{action: Deny}]}", "StagedGlobalNetworkPolicy");
    expect((await why(FILES + global, "front", "web:80")).out).toContain(
      "with StagedGlobalNetworkPolicy s enforced:\n  shop/front → shop/web: denied\n",
    );
  });
});

test("a ClusterNetworkPolicy", async () => {
  const spec =
    "{tier: Admin, priority: 5, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}";
  const { out } = await why(
    FILES + object("ClusterNetworkPolicy", "c", spec, "policy.networking.k8s.io/v1alpha2"),
    "front",
    "web:80",
  );
  expect(out).toContain(
    "denied by ingress rule 1 of ClusterNetworkPolicy c in tier kube-admin (spec.ingress[0]: deny from pods in namespaces (all))\n",
  );
});

describe("protocols", () => {
  const ICMP = object(
    "NetworkPolicy",
    "p",
    "{selector: app == 'web', ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8}}, {action: Allow, protocol: 47}]}",
  );

  test("are listed where rules tell them apart", async () => {
    const { out } = await why(FILES + ICMP, "front", "web");
    expect(out).toContain("    icmp type 8: allowed\n");
    expect(out).toContain("    gre: allowed\n");
    expect(out).toContain("    tcp, udp, sctp, icmp types 0-7, icmp types 9-255, other protocols: denied\n");
  });

  test("are asked for by name and number", async () => {
    for (const [asked, code] of [
      ["web/icmp:8", 0],
      ["web/icmp:8:0", 0],
      ["web/icmp:9", 1],
      ["web/icmp", 1],
      ["shop/web/47", 0],
      ["shop/web/gre", 0],
      ["10.65.0.4/48", 1],
    ] as const)
      expect([asked, (await why(FILES + ICMP, "front", asked)).code]).toEqual([asked, code]);
    expect((await why(FILES + ICMP, "front", "web/47")).out).toContain("    gre: allowed\n");
    expect((await why(FILES + ICMP, "front", "web/48")).out).toContain("    protocol 48: denied\n");
  });

  test("source ports", async () => {
    const from = object(
      "NetworkPolicy",
      "p",
      "{selector: app == 'web', ingress: [{action: Allow, protocol: UDP, source: {ports: [53]}}]}",
    );
    expect((await why(FILES + from, "front", "web:80/udp")).out).toContain("    80/udp from port 53: allowed\n");
  });
});

describe("what is not known, with rules that deny", () => {
  const YOUNG = NAMESPACE + deployment("web") + deployment("front");

  test("a net that denies may be that of the sender", async () => {
    const guard = object(
      "GlobalNetworkPolicy",
      "g",
      "{selector: app == 'web', ingress: [{action: Deny, source: {nets: [10.0.0.0/8]}}, {action: Allow}]}",
    );
    expect((await why(YOUNG + guard, "front", "web:80")).code).toBe(2);
    expect((await why(YOUNG + guard.replace("10.0.0.0/8", "169.254.169.254/32"), "front", "web:80")).code).toBe(0);
    expect((await why(YOUNG + guard.replace("{action: Allow}", "{action: Deny}"), "front", "web:80")).code).toBe(1);
  });

  test("a negated net, and one that all addresses are in", async () => {
    const guard = object(
      "GlobalNetworkPolicy",
      "g",
      "{selector: app == 'web', ingress: [{action: Deny, source: {notNets: [10.0.0.0/8]}}, {action: Allow}]}",
    );
    expect((await why(YOUNG + guard, "front", "web:80")).code).toBe(2);
  });

  test("the endpoints of a Service that is not there", async () => {
    const rule = object(
      "NetworkPolicy",
      "p",
      "{selector: app == 'web', ingress: [{action: Allow, source: {services: {name: front}}}]}",
    );
    const { code, out } = await why(YOUNG + rule, "front", "web:80");
    expect([code, out]).toEqual([2, expect.stringContaining("the endpoints of Service shop/front")]);
    const service =
      "---\n{apiVersion: v1, kind: Service, metadata: {name: front, namespace: shop}, spec: {selector: {app: front}, ports: [{port: 80}]}}\n";
    expect((await why(YOUNG + rule + service, "front", "web:80")).code).toBe(0);
    expect((await why(YOUNG + rule + service.replace("app: front", "app: x"), "front", "web:80")).code).toBe(1);
  });

  test("labels of a service account without an object", async () => {
    const rule = object(
      "NetworkPolicy",
      "p",
      "{selector: app == 'web', ingress: [{action: Allow, source: {serviceAccounts: {selector: has(x)}}}]}",
    );
    const { code, out } = await why(
      FILES.replace("{nodeName: n2, ", "{nodeName: n2, serviceAccountName: robot, ") + rule,
      "front",
      "web:80",
    );
    expect([code, out]).toEqual([2, expect.stringContaining("the labels of service account shop/robot")]);
  });
});

describe("host endpoints", () => {
  const node = (name: string, addr: string): string =>
    `---\n{apiVersion: v1, kind: Node, metadata: {name: ${name}}, status: {addresses: [{type: InternalIP, address: ${addr}}]}}\n`;
  const NODES = node("n1", "192.0.2.1") + node("n2", "192.0.2.2");
  const HOST = (interfaceName: string, ips: string): string =>
    object(
      "HostEndpoint",
      "h1",
      `{node: n1, interfaceName: ${interfaceName}, expectedIPs: [${ips}]}`,
      V3,
      ", labels: {role: host}",
    );
  const RULES = object(
    "GlobalNetworkPolicy",
    "hosts",
    "{selector: role == 'host', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}",
  );

  test("protect the node at the address that they expect", async () => {
    const files = FILES + NODES + HOST("eth0", "192.0.2.1") + RULES;
    const { code, out } = await why(files, "front", "host/n1:81");
    expect(code).toBe(1);
    expect(out).toContain(
      "at node n1, host's own ingress (host endpoint h1): denied: no ingress rule of GlobalNetworkPolicy hosts, which selects it, matched, and tier default denies the rest\n",
    );
    expect((await why(files, "front", "192.0.2.1:80")).code).toBe(0);
    expect((await why(files, "host/n2", "host/n1:81")).code).toBe(1);
    expect((await why(files, "front", "host/n1:22")).out).toContain("a failsafe port of the node");
    expect((await why(files, "web", "host/n1:81")).code).toBe(0);
    const { hosts } = JSON.parse((await why(files, "front", "host/n1:81", "json")).out).pairs[0].answers[0];
    expect(hosts).toMatchObject([
      { node: "n1", hook: "normal", direction: "ingress", verdicts: [{ action: "deny", endpoint: "h1" }] },
    ]);
  });

  test("an interface's name alone says nothing about the address", async () => {
    const { code, out } = await why(FILES + NODES + HOST("eth0", "") + RULES, "front", "host/n1:81");
    expect([code, out]).toEqual([
      2,
      expect.stringContaining("not certain: not known, and it may decide: by which interface of node n1"),
    ]);
    expect((await why(FILES + NODES + HOST("'*'", "") + RULES, "front", "host/n1:81")).code).toBe(1);
  });

  test("policy of forwarded traffic between pods of two nodes", async () => {
    const forward = object(
      "GlobalNetworkPolicy",
      "hosts",
      "{selector: role == 'host', applyOnForward: true, ingress: [{action: Deny, protocol: TCP, destination: {ports: [80]}}, {action: Allow}], egress: [{action: Allow}]}",
    );
    const files = FILES + NODES + HOST("'*'", "") + forward;
    const { code, out } = await why(files, "front", "web:80");
    expect([code, out]).toEqual([
      1,
      expect.stringContaining(
        "at node n1, forwarded ingress (host endpoint h1): denied by ingress rule 1 of GlobalNetworkPolicy hosts",
      ),
    ]);
    expect((await why(files, "front", "web:81")).code).toBe(0);
    expect((await why(files.replace("nodeName: n2", "nodeName: n1"), "front", "web:80")).code).toBe(0);
  });

  test("a profile, and the settings of a node", async () => {
    const open = HOST("'*'", "").replace("expectedIPs", "profiles: [projectcalico-default-allow], expectedIPs");
    expect((await why(FILES + NODES + open, "front", "host/n1:81")).out).toContain(
      "allowed by profile projectcalico-default-allow\n",
    );
    const felix = object("FelixConfiguration", "default", "{defaultEndpointToHostAction: Drop}");
    const { code, out } = await why(FILES + NODES + felix, "web", "host/n1:81");
    expect([code, out]).toEqual([1, expect.stringContaining("the node drops what its pods send to it")]);
    expect((await why(FILES + NODES + felix, "front", "host/n1:81")).code).toBe(0);
  });
});

test("AdminNetworkPolicies, before and after all others", async () => {
  const api = "policy.networking.k8s.io/v1alpha1";
  const rule = (action: string, ports: string): string =>
    `subject: {namespaces: {}}, ingress: [{action: ${action}, from: [{namespaces: {}}], ports: [${ports}]}]`;
  const anp = object(
    "AdminNetworkPolicy",
    "guard",
    `{priority: 5, ${rule("Deny", "{portNumber: {protocol: TCP, port: 22}}")}}`,
    api,
  );
  const banp = object(
    "BaselineAdminNetworkPolicy",
    "default",
    `{${rule("Deny", "{portRange: {protocol: TCP, start: 80, end: 81}}")}}`,
    api,
  );
  for (const [port, code, words] of [
    [22, 1, "ingress rule 1 of AdminNetworkPolicy guard in tier kube-admin"],
    [81, 1, "ingress rule 1 of BaselineAdminNetworkPolicy default in tier kube-baseline"],
    [82, 0, "every tier passed it on"],
  ] as const) {
    const found = await why(FILES + anp + banp, "front", `web:${port}`);
    expect([port, found.code, found.out]).toEqual([port, code, expect.stringContaining(words)]);
  }
});

test("WorkloadEndpoints, by their name and that of their workload", async () => {
  const machine = (profiles: string): string =>
    object(
      "WorkloadEndpoint",
      "n1-kvm-db-eth0",
      `{node: n1, orchestrator: kvm, workload: db, endpoint: eth0, interfaceName: tap0, ipNetworks: [10.65.0.9], profiles: [${profiles}]}`,
      V3,
      ", namespace: shop, labels: {app: db}",
    );
  const open = FILES + machine("projectcalico-default-allow");
  for (const name of ["db", "shop/db", "n1-kvm-db-eth0", "shop/wep/db", "10.65.0.9"]) {
    const { code, out } = await why(open, "front", `${name}:80`);
    expect([name, code, out]).toEqual([name, 0, expect.stringContaining("by profile projectcalico-default-allow")]);
  }
  const closed = await why(FILES + machine(""), "db", "front:80");
  expect([closed.code, closed.out]).toEqual([1, expect.stringContaining("denied: every tier passed it on")]);
  const guard = object("GlobalNetworkPolicy", "guard", "{selector: app == 'db', ingress: [{action: Deny}]}");
  const denied = await why(open + guard, "front", "db:80");
  expect([denied.code, denied.out]).toEqual([
    1,
    expect.stringContaining("ingress rule 1 of GlobalNetworkPolicy guard"),
  ]);
});

test("Kubernetes' and Calico's NetworkPolicies of one name are told apart", async () => {
  const both =
    policy("p", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}") +
    object("NetworkPolicy", "p", "{selector: app == 'web', types: [Ingress]}");
  expect((await why(FILES + both, "front", "web:80")).out).toContain(
    "no ingress rule of NetworkPolicy shop/p, Calico NetworkPolicy shop/p, which select it, matched",
  );
});

test("the example of the page", async () => {
  const page = await Bun.file(new URL("../../docs/calicoctl.md", import.meta.url)).text();
  const guard = object(
    "GlobalNetworkPolicy",
    "guard",
    "{tier: first, selector: app == 'web', ingress: [{action: Log}, {action: Deny, protocol: TCP, destination: {ports: [22]}}]}",
  );
  const { out } = await why(FILES + object("Tier", "first", "{order: 5}") + guard, "front", "web:22");
  expect(page).toContain(`\n\`\`\`\n${out}\`\`\`\n`);
});
