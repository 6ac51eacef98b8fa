/** POL-54: WorkloadEndpoints, which are what pods are but for what decides where no policy does. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { expectVerdicts, resourcesOf, type World } from "./dsl.ts";
import { updatesOf } from "../property/updates.ts";

const ADDRESSES = 'ipNetworks: ["10.0.0.9/32", "fd00::9"]';

function machine(spec: string, { labels = "app: db", orchestrator = "kvm" } = {}): string {
  return `- {kind: WorkloadEndpoint, metadata: {namespace: alpha, name: n1-${orchestrator}-vm-eth0, labels: {${labels}}}, spec: {node: n1, orchestrator: ${orchestrator}, workload: vm, pod: vm, endpoint: eth0, interfaceName: tap0, ${ADDRESSES}, ${spec}}}\n`;
}

function policy(spec: string): string {
  return `- {kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {${spec}}}\n`;
}

const OPEN = "profiles: [projectcalico-default-allow]";

function world(objects: string, policies: World["policies"] = {}): World {
  return {
    namespaces: { alpha: { team: "red" }, beta: {} },
    pods: {
      "alpha/web": { labels: { app: "web" }, addresses: ["10.0.0.1", "fd00::1"], serviceAccount: "robot" },
      "beta/web": { labels: { app: "web" }, addresses: ["10.0.0.2", "fd00::2"] },
    },
    objects,
    policies,
  };
}

test("POL-54: where no policy decides, the profiles do, and without one nothing passes", () => {
  for (const [profiles, action] of [
    ["profiles: []", "deny end"],
    ["profiles: [ksa.alpha.none]", "deny ingress rule 0 of ksa.alpha.none"],
    [OPEN, "allow ingress rule 0 of projectcalico-default-allow"],
    ["profiles: [kns.alpha]", "allow ingress rule 0 of kns.alpha"],
    ["profiles: [kns.none, kns.alpha]", "deny ingress rule 0 of kns.none"],
  ])
    expectVerdicts(world(machine(profiles ?? "")), `alpha/web → alpha/vm/tcp:80 ${action}`);
  expectVerdicts(world(machine("profiles: []")), "alpha/vm → alpha/web/tcp:80 deny end");
});

function profile(name: string, spec: string): string {
  return `- {kind: Profile, metadata: {name: ${name}}, spec: ${spec}}\n`;
}

test("POL-50: a Profile that is an object of its own has rules, and what none matches goes on to the next", () => {
  const first = "{ingress: [{action: Log}, {action: Deny, protocol: TCP, destination: {ports: [22]}}]}";
  const both = machine("profiles: [first, last]") + profile("first", first);
  const last = profile("last", "{ingress: [{action: Allow, source: {selector: app == 'web'}}]}");
  expectVerdicts(
    world(both + last),
    `
    alpha/web → alpha/vm/tcp:22 deny ingress rule 1 of first
    alpha/web → alpha/vm/tcp:80 allow ingress rule 0 of last
    198.51.100.1 → 10.0.0.9/tcp:80 deny end
    alpha/vm → alpha/web/tcp:80 deny end`,
  );
  expectVerdicts(world(both), "alpha/web → alpha/vm/tcp:80 deny ingress rule 0 of last");
});

test("POL-50: one that is not valid denies everything and has no labels; one takes the place of a namespace's", () => {
  const bad = profile("kns.alpha", "{ingress: [{action: Pass}], labelsToApply: {tier: gold}}");
  const guard = policy("selector: tier == 'gold', ingress: [{action: Allow}]");
  expectVerdicts(
    world(machine("profiles: [kns.alpha]") + bad + guard),
    `
    alpha/web → alpha/vm/tcp:80 deny ingress rule 0 of kns.alpha
    alpha/vm → alpha/web/tcp:80 deny egress rule 0 of kns.alpha`,
  );
  expectVerdicts(world(machine("profiles: [kns.alpha]")), "alpha/web → alpha/vm/tcp:80 allow");
});

test("POL-50: labels of profiles: its own come first, then those of the first profile; none that we set", () => {
  const labels = machine("profiles: [kns.beta, one, two]", { labels: "own: '0'" });
  const given =
    profile("one", "{labelsToApply: {own: '1', tier: gold, projectcalico.org/orchestrator: k8s, pcns.team: blue}}") +
    profile("two", "{labelsToApply: {own: '2', tier: silver, rack: a}}");
  for (const [selector, selects] of [
    ["own == '0'", true],
    ["own in {'1', '2'}", false],
    ["tier == 'gold'", true],
    ["tier == 'silver'", false],
    ["rack == 'a'", true],
    ["projectcalico.org/orchestrator == 'kvm'", true],
    ["pcns.team == 'red'", true],
    ["pcns.zone == 'z'", true],
  ] as const) {
    const objects = labels + given + policy(`selector: "${selector}", ingress: [{action: Allow}]`);
    const namespaces = { alpha: { team: "red" }, beta: { zone: "z" } };
    expectVerdicts(
      { ...world(objects), namespaces },
      `alpha/web → alpha/vm/tcp:80 allow ingress rule 0 of ${selects ? "p" : "kns.beta"}`,
    );
  }
});

test("POL-54: policy selects it by its labels, those of its namespace and its service account", () => {
  for (const [selection, selects] of [
    ["selector: app == 'db'", true],
    ["selector: projectcalico.org/orchestrator == 'kvm'", true],
    ["selector: pcns.team == 'red'", true],
    ["selector: app == 'web'", false],
    ["namespaceSelector: team == 'red'", true],
    ["namespaceSelector: team == 'blue'", false],
    ["serviceAccountSelector: projectcalico.org/name == 'robot'", true],
  ] as const)
    expectVerdicts(
      world(machine(`${OPEN}, serviceAccountName: robot`) + policy(`${selection}, types: [Ingress]`)),
      `beta/web → alpha/vm/tcp:80 ${selects ? "deny no ingress rule of p" : "allow"}`,
    );
});

test("POL-54: it cannot pretend to be elsewhere or somebody else", () => {
  const labels = "projectcalico.org/namespace: beta, pcns.team: blue, projectcalico.org/serviceaccount: root";
  for (const selector of [
    "projectcalico.org/namespace == 'beta'",
    "pcns.team == 'blue'",
    "projectcalico.org/serviceaccount == 'root'",
  ])
    expectVerdicts(
      world(machine(OPEN, { labels }) + policy(`selector: "${selector}", types: [Ingress]`)),
      "beta/web → alpha/vm/tcp:80 allow",
    );
});

test("POL-54: rules mean its addresses and its named ports", () => {
  const ports = "ports: [{name: sql, port: 5432, protocol: TCP}, {name: sql, port: 5433, protocol: UDP}]";
  const rules = (rule: string): string => policy(`selector: app == 'web', types: [Egress], egress: [${rule}]`);
  expectVerdicts(
    world(machine(`${OPEN}, ${ports}`) + rules("{action: Allow, destination: {selector: app == 'db'}}")),
    `
    beta/web → alpha/vm/tcp:80 allow
    beta/web → 10.0.0.8/tcp:80 deny`,
  );
  expectVerdicts(
    world(machine(`${OPEN}, ${ports}`) + rules("{action: Allow, protocol: TCP, destination: {ports: [sql]}}")),
    `
    beta/web → alpha/vm/tcp:5432 allow
    beta/web → alpha/vm/tcp:5433 deny
    beta/web → alpha/vm/udp:5433 deny`,
  );
});

test("POL-54: Kubernetes' policies select it and mean it only with orchestrator k8s", () => {
  const isolated = { "alpha/p": "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}" };
  for (const [orchestrator, isPod] of [
    ["kvm", false],
    ["k8s", true],
  ] as const)
    expectVerdicts(
      world(machine(OPEN, { orchestrator }), isolated),
      `
      198.51.100.1 → 10.0.0.9/tcp:80 ${isPod ? "deny no ingress rule of alpha/p" : "allow"}
      alpha/vm → alpha/web/tcp:80 ${isPod ? "allow ingress rule 0 of alpha/p" : "deny"}`,
    );
});

test("POL-54: of what cannot be read as one address nothing counts", () => {
  const resources = resourcesOf(world(machine("profiles: []").replace("fd00::9", "fd00::/64")));
  const graph = new Graph({ node: "n1", given: { interfacePrefixes: ["tap"] } });
  graph.update(updatesOf(resources));
  graph.flush();
  expect([...graph.program.endpoints.values()].map(({ addresses }) => addresses)).toEqual([["10.0.0.9"] as never]);
  expect([...graph.problems.values()].join()).toContain("ipNetworks[1]");
});
