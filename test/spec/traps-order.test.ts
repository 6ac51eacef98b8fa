/** POL-26, POL-27, POL-38 to POL-40: tiers, order and directions of Calico's policies; each test is one trap for implementations. */
import { expect, test } from "bun:test";
import { expectVerdicts, type World } from "./dsl.ts";

const PODS: World["pods"] = {
  "alpha/web": { labels: { app: "web" }, addresses: ["10.0.0.1", "fd00::1"], serviceAccount: "robot" },
  "beta/web": { labels: { app: "web" }, addresses: ["10.0.0.3", "fd00::3"] },
};

function world(objects: string, policies: Record<string, string> = {}): World {
  return { namespaces: { alpha: { team: "red" }, beta: { team: "blue" } }, pods: PODS, policies, objects };
}

/** A rule for everything in one direction. */
function policy(name: string, spec: string): string {
  return `- {kind: GlobalNetworkPolicy, metadata: {name: ${name}}, spec: {${spec}}}\n`;
}

const ALLOW = "ingress: [{action: Allow}]";
const DENY = "ingress: [{action: Deny}]";
const TIERS = `
- {kind: Tier, metadata: {name: first}, spec: {order: 10}}
- {kind: Tier, metadata: {name: passing}, spec: {order: 20, defaultAction: Pass}}
- {kind: Tier, metadata: {name: last}, spec: {}}
`;

test("trap 1: a tier without a policy in that direction is not there", () => {
  const egressOnly = policy("p", "tier: first, types: [Egress], egress: [{action: Deny}]");
  expectVerdicts(
    world(TIERS + egressOnly),
    `
    198.51.100.1 → alpha/web/tcp:80 allow not isolated
    alpha/web → 198.51.100.1/tcp:80 deny egress rule 0 of p`,
  );
});

test("trap 2: the end of a tier is reached even where its policies have no rules", () => {
  const empty = policy("p", "tier: first, types: [Ingress]");
  const later = policy("q", `tier: last, ${ALLOW}`);
  expectVerdicts(world(TIERS + empty + later), "beta/web → alpha/web/tcp:80 deny no ingress rule of p");
  const passing = policy("p", "tier: passing, types: [Ingress]");
  expectVerdicts(world(TIERS + passing + later), "beta/web → alpha/web/tcp:80 allow ingress rule 0 of q");
});

test("trap 3: Pass skips the rest of the tier, and after the last tier a pod is open", () => {
  const pass = policy("a", "tier: first, order: 1, ingress: [{action: Pass}, {action: Deny}]");
  const skipped = policy("b", `tier: first, order: 2, ${DENY}`);
  const next = policy("c", `tier: last, ${DENY}`);
  expectVerdicts(world(TIERS + pass + skipped), "beta/web → alpha/web/tcp:80 allow end");
  expectVerdicts(world(TIERS + pass + skipped + next), "beta/web → alpha/web/tcp:80 deny ingress rule 0 of c");
});

test("trap 4: Log decides nothing, and a policy that only logs still counts", () => {
  expectVerdicts(
    world(policy("p", "ingress: [{action: Log}]")),
    "beta/web → alpha/web/tcp:80 deny no ingress rule of p",
  );
  expectVerdicts(
    world(policy("p", "ingress: [{action: Log}, {action: Allow}]")),
    "beta/web → alpha/web/tcp:80 allow ingress rule 1 of p",
  );
});

test("trap 5: what one end allows the other end may deny", () => {
  const out = policy("out", "selector: projectcalico.org/namespace == 'beta', egress: [{action: Allow}]");
  const into = policy("in", `selector: projectcalico.org/namespace == 'alpha', ${DENY}`);
  expectVerdicts(world(out + into), "beta/web → alpha/web/tcp:80 deny ingress rule 0 of in");
});

test("trap 6: Deny is final, whatever later policies and tiers say", () => {
  const deny = policy("a", `tier: first, order: 1, ${DENY}`);
  const allow = policy("b", `tier: first, order: 2, ${ALLOW}`);
  expectVerdicts(world(TIERS + deny + allow), "beta/web → alpha/web/tcp:80 deny ingress rule 0 of a");
});

test("trap 7: no order is last; zero, negative and fractional orders are orders", () => {
  for (const [first, second] of [
    ["order: 1000000", ""],
    ["order: 0", "order: 1"],
    ["order: -5", "order: 0"],
    ["order: 1.5", "order: 1.6"],
  ]) {
    const policies =
      policy("z", `${first}, ${DENY}`.replace(/^, /, "")) + policy("a", `${second}, ${ALLOW}`.replace(/^, /, ""));
    expectVerdicts(world(policies), "beta/web → alpha/web/tcp:80 deny ingress rule 0 of z");
  }
  const inLast = policy("p", `tier: last, ${DENY}`);
  const inDefault = policy("q", ALLOW);
  expectVerdicts(world(TIERS + inLast + inDefault), "beta/web → alpha/web/tcp:80 allow ingress rule 0 of q");
});

test("trap 8: equal orders are decided by name, then namespace, then kind", () => {
  const namespaced = (name: string, namespace: string, rules: string): string =>
    `- {kind: NetworkPolicy, metadata: {name: ${name}, namespace: ${namespace}}, spec: {order: 5, ${rules}}}\n`;
  const global = policy("a", `order: 5, ${DENY}`);
  expectVerdicts(
    world(global + namespaced("a", "alpha", ALLOW)),
    "beta/web → alpha/web/tcp:80 deny ingress rule 0 of a",
  );
  // `a-b/` comes before `a/`.
  expectVerdicts(
    world(namespaced("a-b", "alpha", DENY) + namespaced("a", "alpha", ALLOW)),
    "beta/web → alpha/web/tcp:80 deny ingress rule 0 of alpha/a-b",
  );
  const kubernetes = { "alpha/p": "{podSelector: {}, ingress: [{}]}" };
  expectVerdicts(
    world(namespaced("p", "alpha", DENY).replace("order: 5", "order: 1000"), kubernetes),
    "beta/web → alpha/web/tcp:80 allow ingress rule 0 of alpha/p",
  );
});

test("trap 9: a tier that does not exist comes last and denies", () => {
  const stray = policy("p", "tier: nowhere, types: [Ingress]");
  const pass = policy("q", "tier: last, ingress: [{action: Pass}]");
  expectVerdicts(world(TIERS + stray), "beta/web → alpha/web/tcp:80 deny no ingress rule of p");
  expectVerdicts(world(TIERS + stray + pass), "beta/web → alpha/web/tcp:80 deny no ingress rule of p");
  const allow = policy("q", `tier: last, ${ALLOW}`);
  expectVerdicts(world(TIERS + stray + allow), "beta/web → alpha/web/tcp:80 allow ingress rule 0 of q");
});

test("trap 10: built-in tiers are what they are, whatever an object of their name says", () => {
  const objects = "- {kind: Tier, metadata: {name: kube-admin}, spec: {order: 99999999, defaultAction: Deny}}\n";
  const admin = policy("p", "tier: kube-admin, types: [Ingress]");
  const plain = policy("q", DENY);
  expectVerdicts(world(objects + admin), "beta/web → alpha/web/tcp:80 allow end");
  const adminAllows = policy("p", `tier: kube-admin, ${ALLOW}`);
  expectVerdicts(world(objects + adminAllows + plain), "beta/web → alpha/web/tcp:80 allow ingress rule 0 of p");
});

for (const [spec, ingress, egress] of [
  ["", true, false],
  ["ingress: []", true, false],
  ["egress: []", false, true],
  ["egress: [], ingress: []", true, true],
  ["types: [Ingress], egress: [{action: Deny}]", true, false],
  ["types: [Egress], ingress: [{action: Deny}]", false, true],
  ["types: [Ingress, Egress]", true, true],
] as const) {
  test(`traps 12 to 14: {${spec}} isolates ${[ingress && "ingress", egress && "egress"].filter(Boolean).join(" and ")}`, () => {
    expectVerdicts(
      world(policy("p", spec)),
      `
      198.51.100.1 → alpha/web/tcp:80 ${ingress ? "deny" : "allow"}
      alpha/web → 198.51.100.1/tcp:80 ${egress ? "deny" : "allow"}`,
    );
  });
}

test("trap 15: an empty selector selects everything in scope", () => {
  const own = `- {kind: NetworkPolicy, metadata: {name: p, namespace: alpha}, spec: {types: [Ingress]}}\n`;
  expectVerdicts(
    world(own),
    `
    beta/web → alpha/web/tcp:80 deny
    alpha/web → beta/web/tcp:80 allow`,
  );
  expectVerdicts(
    world(policy("p", "types: [Ingress]")),
    `
    beta/web → alpha/web/tcp:80 deny
    alpha/web → beta/web/tcp:80 deny`,
  );
});

test("trap 16: a namespaceSelector with an empty selector selects by namespace alone", () => {
  expectVerdicts(
    world(policy("p", "namespaceSelector: team == 'red', types: [Ingress]")),
    `
    beta/web → alpha/web/tcp:80 deny
    alpha/web → beta/web/tcp:80 allow`,
  );
});

test("a serviceAccountSelector selects pods that have a service account", () => {
  const objects =
    "- {apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: alpha, labels: {job: ci}}}\n";
  for (const [selector, isAlpha] of [
    ["job == 'ci'", true],
    ["all()", true],
    ["job != 'x'", true],
    ["job == 'x'", false],
  ] as const)
    expectVerdicts(
      world(objects + policy("p", `serviceAccountSelector: "${selector}", types: [Ingress]`)),
      `
      beta/web → alpha/web/tcp:80 ${isAlpha ? "deny" : "allow"}
      alpha/web → beta/web/tcp:80 allow`,
    );
});

test("trap 59: an invalid policy denies at its place in its tier what it selects", () => {
  const invalid = policy(
    "b",
    "tier: first, order: 2, selector: projectcalico.org/namespace == 'alpha', ingress: [{action: Allow, source: {nets: [x]}}]",
  );
  const before = policy("a", `tier: first, order: 1, ingress: [{action: Allow, protocol: TCP}]`);
  const after = policy("c", `tier: first, order: 3, ${ALLOW}`);
  expectVerdicts(
    world(TIERS + invalid + before + after),
    `
    beta/web → alpha/web/tcp:80 allow ingress rule 0 of a
    beta/web → alpha/web/udp:80 deny ingress rule 0 of b`,
  );
  const unreadable = policy("b", `tier: passing, selector: "app = 'web'", ${ALLOW}`);
  expectVerdicts(world(TIERS + unreadable), "beta/web → alpha/web/tcp:80 deny egress rule 0 of b");
  expect(() => expectVerdicts(world(TIERS + unreadable), "beta/web → alpha/web/tcp:80 allow")).toThrow();
});

test("trap 81: without its last policy a tier is not there any more", () => {
  const closed = policy("p", "tier: first, types: [Ingress]");
  expectVerdicts(world(TIERS + closed), "beta/web → alpha/web/tcp:80 deny");
  expectVerdicts(world(TIERS), "beta/web → alpha/web/tcp:80 allow not isolated");
});
