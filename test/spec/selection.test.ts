/** POL-4 to POL-10: which policies count for a pod, and what follows. */
import { test } from "bun:test";
import { expectVerdicts, type World } from "./dsl.ts";

const PODS: World["pods"] = {
  "alpha/web": { labels: { app: "web", tier: "front" }, addresses: ["10.0.0.1", "fd00::1"] },
  "alpha/db": { labels: { app: "db" }, addresses: ["10.0.0.2", "fd00::2"] },
  "beta/web": { labels: { app: "web" }, addresses: ["10.0.0.3", "fd00::3"] },
};

function withPolicies(policies: Record<string, string>): World {
  return { namespaces: { alpha: { team: "red" }, beta: {} }, pods: PODS, policies };
}

test("POL-4: a policy selects pods of its own namespace, an empty selector all of them", () => {
  expectVerdicts(
    withPolicies({ "alpha/p": "{podSelector: {matchLabels: {app: web}}}" }),
    `
    beta/web → alpha/web/tcp:80 deny no ingress rule of alpha/p
    beta/web → alpha/db/tcp:80 allow not isolated
    alpha/db → beta/web/tcp:80 allow not isolated`,
  );
  expectVerdicts(
    withPolicies({ "alpha/p": "{podSelector: {}}" }),
    `
    beta/web → alpha/web/tcp:80 deny
    beta/web → alpha/db/tcp:80 deny
    alpha/db → beta/web/tcp:80 allow`,
  );
  expectVerdicts(withPolicies({ "alpha/p": "{}" }), "beta/web → alpha/db/tcp:80 deny");
});

for (const [expression, isWeb, isDb] of [
  ["{key: tier, operator: In, values: [front, back]}", true, false],
  ["{key: tier, operator: In, values: [back]}", false, false],
  ["{key: tier, operator: NotIn, values: [front]}", false, true],
  ["{key: tier, operator: NotIn, values: [back]}", true, true],
  ["{key: tier, operator: Exists}", true, false],
  ["{key: tier, operator: DoesNotExist}", false, true],
] as const) {
  test(`POL-5: ${expression}`, () => {
    expectVerdicts(
      withPolicies({ "alpha/p": `{podSelector: {matchExpressions: [${expression}]}}` }),
      `
      beta/web → alpha/web/tcp:80 ${isWeb ? "deny" : "allow"}
      beta/web → alpha/db/tcp:80 ${isDb ? "deny" : "allow"}`,
    );
  });
}

test("POL-5: all terms must hold", () => {
  expectVerdicts(
    withPolicies({
      "alpha/p": "{podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: DoesNotExist}]}}",
    }),
    "beta/web → alpha/web/tcp:80 allow",
  );
});

for (const [spec, ingress, egress] of [
  ["{podSelector: {}}", "deny", "allow"],
  ["{podSelector: {}, ingress: []}", "deny", "allow"],
  ["{podSelector: {}, policyTypes: []}", "deny", "allow"],
  ["{podSelector: {}, egress: []}", "deny", "allow"],
  ["{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}", "deny", "deny"],
  ["{podSelector: {}, policyTypes: [Egress]}", "allow", "deny"],
  ["{podSelector: {}, policyTypes: [Egress], egress: []}", "allow", "deny"],
  ["{podSelector: {}, policyTypes: [Egress], ingress: [{}]}", "allow", "deny"],
  ["{podSelector: {}, policyTypes: [Ingress], egress: [{to: [{podSelector: {}}]}]}", "deny", "allow"],
  ["{podSelector: {}, policyTypes: [Ingress, Egress]}", "deny", "deny"],
  ["{podSelector: {}, policyTypes: [Ingress, Ingress], ingress: [{}]}", "allow", "allow"],
  ["{podSelector: {}, policyTypes: null, ingress: null}", "deny", "allow"],
] as const) {
  test(`POL-6: ${spec}`, () => {
    expectVerdicts(
      withPolicies({ "alpha/p": spec }),
      `
      beta/web → alpha/web/tcp:80 ${ingress}
      alpha/web → beta/web/tcp:80 ${egress}`,
    );
  });
}

test("POL-7: without a policy everything passes, and the directions are independent", () => {
  expectVerdicts(
    withPolicies({}),
    `
    beta/web → alpha/web/tcp:80 allow not isolated
    beta/web → alpha/web/icmp allow not isolated
    beta/web → alpha/web/47 allow not isolated`,
  );
  expectVerdicts(
    withPolicies({ "alpha/p": "{podSelector: {}, policyTypes: [Egress]}" }),
    "beta/web → alpha/web/tcp:80 allow not isolated",
  );
});

test("POL-8: policies add up", () => {
  const policies = {
    "alpha/closed": "{podSelector: {}}",
    "alpha/db": "{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}]}]}",
    "alpha/web-to-db": "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}}]}]}",
  };
  expectVerdicts(
    withPolicies(policies),
    `
    beta/web → alpha/db/tcp:5432 allow ingress rule 0 of alpha/db
    alpha/web → alpha/db/tcp:22 allow ingress rule 0 of alpha/web-to-db
    beta/web → alpha/db/tcp:22 deny no ingress rule of alpha/closed, alpha/db, alpha/web-to-db
    beta/web → alpha/web/tcp:5432 deny no ingress rule of alpha/closed`,
  );
});

test("POL-8: isolation covers protocols without ports", () => {
  expectVerdicts(
    withPolicies({ "alpha/p": "{podSelector: {}, ingress: [{ports: [{port: 80}, {protocol: UDP}]}]}" }),
    `
    beta/web → alpha/web/icmp deny
    beta/web → alpha/web/47 deny`,
  );
});

test("POL-8: the first rule that matches decides, by name/namespace/kind and then as written", () => {
  const any = "{podSelector: {}, ingress: [{ports: [{port: 1}]}, {}, {}]}";
  const order = ["alpha/a-b", "alpha/a.b", "alpha/a", "alpha/ab"];
  for (let i = 0; i < order.length; i++) {
    const rest = Object.fromEntries(
      order
        .slice(i)
        .reverse()
        .map((name) => [name, any]),
    );
    expectVerdicts(
      withPolicies(rest),
      `
      beta/web → alpha/web/tcp:80 allow ingress rule 1 of ${order[i]}
      beta/web → alpha/web/tcp:1 allow ingress rule 0 of ${order[i]}`,
    );
  }
});

test("POL-9: both ends must allow", () => {
  const egress =
    "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}";
  const ingress = "{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}]}]}";
  expectVerdicts(
    withPolicies({ "alpha/e": egress, "alpha/i": ingress }),
    `
    alpha/web → alpha/db/tcp:5432 allow ingress rule 0 of alpha/i
    alpha/web → alpha/db/tcp:22 deny no ingress rule of alpha/i
    alpha/web → beta/web/tcp:5432 deny no egress rule of alpha/e
    beta/web → alpha/db/tcp:5432 allow`,
  );
});

test("POL-10: a pod's own node is allowed, other nodes are not, and the way to the node is egress", () => {
  const world: World = {
    ...withPolicies({ "alpha/p": "{podSelector: {}, policyTypes: [Ingress, Egress]}" }),
    nodes: { n1: ["192.0.2.1", "2001:db8::1"], n2: ["192.0.2.2", "2001:db8::2"] },
  };
  expectVerdicts(
    world,
    `
    192.0.2.1 → 10.0.0.1/tcp:80 allow own node
    2001:db8::1 → fd00::1/tcp:80 allow own node
    192.0.2.2 → 10.0.0.1/tcp:80 deny
    2001:db8::2 → fd00::1/tcp:80 deny
    10.0.0.1 → 192.0.2.1/tcp:80 deny no egress rule of alpha/p`,
  );
});

test("POL-20: a pod always reaches itself", () => {
  expectVerdicts(
    withPolicies({ "alpha/p": "{podSelector: {}, policyTypes: [Ingress, Egress]}" }),
    "alpha/web → alpha/web/tcp:80 allow itself",
  );
});
