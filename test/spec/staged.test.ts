/** POL-53, POL-56: staged policies, and what is counted of them; the trap is one for implementations. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import { evaluate, evaluateStage } from "../../src/program/evaluate.ts";
import { type EndpointId, stagedOf, stagesOf } from "../../src/program/program.ts";
import { decide } from "../../src/semantics/decide.ts";
import { type Addr, parseAddr } from "../../src/net/addr.ts";
import { TCP } from "../../src/net/protocol.ts";
import { unwrap } from "../../src/lib/result.ts";
import type { ClusterResources } from "../../src/semantics/cluster.ts";
import { journey } from "../../src/semantics/journey.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { decideStaged, type StagedKind, type StagedPolicy, stagingOf, withStaged } from "../../src/semantics/staged.ts";
import { deletionOf, updateOf, updatesOf } from "../property/updates.ts";

const addr = (text: string): Addr => unwrap(parseAddr(text));
const POD: Resource<"Pod"> = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { namespace: "alpha", name: "web", labels: { app: "web" } },
  spec: { nodeName: "n1", containers: [] },
  status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] },
};

function enforced(name: string, spec: object): Resource<"NetworkPolicy"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { namespace: "alpha", name },
    spec,
  } as Resource<"NetworkPolicy">;
}

function staged(kind: StagedKind, name: string, spec: object): StagedPolicy {
  const namespace = kind === "StagedGlobalNetworkPolicy" ? {} : { namespace: "alpha" };
  const object = { apiVersion: "projectcalico.org/v3", kind, metadata: { ...namespace, name }, spec };
  return { kind, object: object as unknown as Resource<StagedKind> };
}

/** What happens to a connection to the pod, as it is and with the staged policies enforced; both families agree. */
function verdicts(policies: readonly Resource<"NetworkPolicy">[], pending: readonly StagedPolicy[]): string[] {
  const resources: ClusterResources = { pods: [POD], namespaces: [], networkPolicies: [], calicoPolicies: policies };
  return [resources, withStaged(resources, pending)].map((each) => {
    const actions = [
      ["198.51.100.1", "10.0.0.1"],
      ["2001:db8::1", "fd00::1"],
    ].map(([source = "", destination = ""]) => {
      const packet = {
        source: addr(source),
        destination: addr(destination),
        protocol: TCP,
        sourcePort: 1,
        destinationPort: 80,
      } as const;
      return journey(clusterOf(each), packet, { source: undefined, destination: undefined }).ingress.action;
    });
    expect(actions[0]).toBe(actions[1]);
    return String(actions[0]);
  });
}

/** What a connection to the pod is counted as, `what decided` first; that of the program of its node too, and in both families. */
function counted(resources: Partial<ClusterResources>, pending: readonly StagedPolicy[]): string {
  const cluster = { pods: [POD], namespaces: [], networkPolicies: [], ...resources };
  const graph = new Graph({ node: "n1" });
  graph.update([
    ...updatesOf(cluster),
    ...pending.map(({ kind, object }) => updateOf(kind, object as Resource<typeof kind>)),
  ]);
  const addresses = [addr("10.0.0.1"), addr("fd00::1")];
  const pod = keyOf("Pod", POD);
  graph.setCniRecord({
    containerId: "c",
    pod,
    interface: "cali0",
    addresses,
    mac: "",
    netns: "",
    podInterface: "eth0",
  });
  graph.flush();
  const end = { endpoint: pod, direction: "ingress", fromOwnNode: false } as const;
  const words = (["198.51.100.1", "2001:db8::1"] as const).map((source, i) => {
    const packet = {
      source: addr(source),
      destination: addresses[i] ?? addr("::"),
      protocol: TCP,
      sourcePort: 1,
      destinationPort: 80,
    };
    const meant = decideStaged(stagingOf(cluster, pending), packet, end);
    const stage = graph.program.endpoints.get("cali0" as EndpointId)?.staged?.normal?.ingress;
    const found = stage === undefined ? undefined : evaluateStage(graph.program, stage, "ingress", packet);
    expect(found).toEqual(meant as never);
    // Real policy says what it says without them.
    const real = decide(clusterOf(cluster), packet, end);
    expect(evaluate(graph.program, "cali0" as EndpointId, "ingress", packet)).toEqual(real);
    if (meant === undefined) return "nothing";
    const passed = (meant.trace ?? []).map((step) => `${step.action} ${step.policy.kind} ${step.policy.name}, `);
    const by = meant.reason.type === "rule" ? ` ${meant.reason.policy.kind} ${meant.reason.policy.name}` : "";
    const tier = meant.reason.type === "no-rule-matched" ? ` ${meant.reason.tier}` : "";
    return `${passed.join("")}${meant.action} ${meant.reason.type}${by}${tier}`;
  });
  expect(words[0]).toBe(words[1] ?? "");
  return words[0] ?? "";
}

const DENY = { ingress: [{ action: "Deny" }] };
const ALLOW = { ingress: [{ action: "Allow" }] };

test.each([
  [
    "a staged policy counts only where it is taken as enforced",
    [],
    [staged("StagedNetworkPolicy", "p", DENY)],
    "allow deny",
  ],
  [
    "trap 11: so does the end of a tier with nothing else",
    [],
    [staged("StagedNetworkPolicy", "p", { types: ["Ingress"] })],
    "allow deny",
  ],
  ["of the cluster's scope", [], [staged("StagedGlobalNetworkPolicy", "p", DENY)], "allow deny"],
  [
    "of Kubernetes' form",
    [],
    [staged("StagedKubernetesNetworkPolicy", "p", { podSelector: {}, policyTypes: ["Ingress"] })],
    "allow deny",
  ],
  [
    "it takes the place of what is enforced under its name",
    [enforced("p", DENY)],
    [staged("StagedNetworkPolicy", "p", ALLOW)],
    "deny allow",
  ],
  ["and of nothing else", [enforced("p", DENY)], [staged("StagedNetworkPolicy", "q", ALLOW)], "deny deny"],
  [
    "nor of another kind",
    [enforced("p", { ...DENY, order: 1 })],
    [staged("StagedGlobalNetworkPolicy", "p", ALLOW)],
    "deny deny",
  ],
  [
    "Delete deletes it",
    [enforced("p", DENY)],
    [staged("StagedNetworkPolicy", "p", { stagedAction: "Delete" })],
    "deny allow",
  ],
  ["Delete of nothing", [], [staged("StagedNetworkPolicy", "p", { stagedAction: "Delete" })], "allow allow"],
  ["Learn is Set", [], [staged("StagedNetworkPolicy", "p", { ...DENY, stagedAction: "Learn" })], "allow deny"],
  ["Ignore says nothing", [], [staged("StagedNetworkPolicy", "p", { ...DENY, stagedAction: "Ignore" })], "allow allow"],
] as const)("%s", (_, policies, pending, words) => {
  expect(verdicts(policies, pending).join(" ")).toBe(words);
});

const LOG_AND_PASS = { ingress: [{ action: "Log" }, { action: "Pass" }] };
const NEVER = { ingress: [{ action: "Allow", protocol: "UDP" }] };
const first: Resource<"Tier"> = {
  apiVersion: "projectcalico.org/v3",
  kind: "Tier",
  metadata: { name: "first" },
  spec: { order: 1 },
};

test.each([
  ["POL-56: nothing where no staged policy is", [enforced("p", DENY)], [], "nothing"],
  [
    "nothing where none concerns the direction",
    [],
    [staged("StagedNetworkPolicy", "p", { types: ["Egress"] })],
    "nothing",
  ],
  [
    "nothing where it selects others",
    [enforced("q", DENY)],
    [staged("StagedNetworkPolicy", "p", { ...DENY, selector: "app == 'db'" })],
    "nothing",
  ],
  [
    "what a real policy after it decides does not hide it",
    [enforced("q", { ...DENY, order: 2 })],
    [staged("StagedNetworkPolicy", "p", { ...ALLOW, order: 1 })],
    "allow rule StagedNetworkPolicy p",
  ],
  [
    "a real one before it that decides comes first",
    [enforced("q", { ...DENY, order: 1 })],
    [staged("StagedNetworkPolicy", "p", { ...ALLOW, order: 2 })],
    "deny rule NetworkPolicy q",
  ],
  [
    "a real one before it in whose place it stands is not asked",
    [enforced("p", { ...DENY, order: 1 })],
    [staged("StagedNetworkPolicy", "p", { ...ALLOW, order: 2 })],
    "allow rule StagedNetworkPolicy p",
  ],
  [
    "the end of a tier that staged policies alone make",
    [enforced("q", ALLOW)],
    [staged("StagedNetworkPolicy", "p", { ...NEVER, tier: "first" })],
    "deny no-rule-matched first",
  ],
  [
    "a staged one that logs and passes goes on with the next tier",
    [enforced("q", DENY)],
    [staged("StagedNetworkPolicy", "p", { ...LOG_AND_PASS, tier: "first" })],
    "log StagedNetworkPolicy p, pass StagedNetworkPolicy p, deny rule NetworkPolicy q",
  ],
  [
    "a deletion lets what comes after it decide",
    [enforced("p", { ...DENY, order: 1 }), enforced("q", { ...ALLOW, order: 2 })],
    [staged("StagedNetworkPolicy", "p", { stagedAction: "Delete" })],
    "allow rule NetworkPolicy q",
  ],
  [
    "a deletion of the only one",
    [enforced("p", DENY)],
    [staged("StagedNetworkPolicy", "p", { stagedAction: "Delete" })],
    "allow not-isolated",
  ],
  ["a deletion of nothing", [], [staged("StagedNetworkPolicy", "p", { stagedAction: "Delete" })], "nothing"],
  [
    "Ignore",
    [enforced("p", DENY)],
    [staged("StagedNetworkPolicy", "p", { ...ALLOW, stagedAction: "Ignore" })],
    "nothing",
  ],
  [
    "of Kubernetes' form, isolating",
    [],
    [staged("StagedKubernetesNetworkPolicy", "p", { podSelector: {}, policyTypes: ["Ingress"] })],
    "deny no-rule-matched default",
  ],
  [
    "at equal orders it has the place of its kind, not of the staged one",
    [enforced("p", { ...DENY, order: 1000 })],
    [staged("StagedKubernetesNetworkPolicy", "p", { podSelector: {}, ingress: [{}] })],
    "allow rule StagedKubernetesNetworkPolicy p",
  ],
  [
    "one that is not valid denies, as it would",
    [],
    [staged("StagedGlobalNetworkPolicy", "p", { ingress: [{ action: "Alow" }] })],
    "deny rule StagedGlobalNetworkPolicy p",
  ],
] as const)("%s", (_, calicoPolicies, pending, words) => {
  expect(counted({ calicoPolicies, tiers: [first] }, pending)).toBe(words);
});

test("POL-56: at a host endpoint's hooks, also where it has no policy", () => {
  const host: Resource<"HostEndpoint"> = {
    apiVersion: "projectcalico.org/v3",
    kind: "HostEndpoint",
    metadata: { name: "h", labels: { role: "host" } },
    spec: { node: "n1", interfaceName: "eth0" },
  };
  const spec = (more: object): object => ({ selector: "has(role)", applyOnForward: true, ...DENY, ...more });
  const pending = [
    staged("StagedGlobalNetworkPolicy", "f", spec({})),
    staged("StagedGlobalNetworkPolicy", "d", spec({ preDNAT: true })),
    staged("StagedGlobalNetworkPolicy", "u", spec({ doNotTrack: true })),
  ];
  const graph = new Graph({ node: "n1" });
  graph.update([
    updateOf("HostEndpoint", host),
    ...pending.map(({ kind, object }) => updateOf(kind, object as Resource<typeof kind>)),
  ]);
  graph.setInterface("eth0", []);
  graph.flush();
  const endpoint = graph.program.endpoints.get("eth0" as EndpointId);
  if (endpoint === undefined) throw new Error("no endpoint");
  expect(stagesOf(endpoint).map(({ hook, direction }) => `${hook} ${direction}`)).toEqual([
    "normal ingress",
    "normal egress",
  ]);
  expect(
    stagedOf(endpoint).map(({ hook, direction, stage }) => `${hook} ${direction} ${stage.tiers[0]?.policies.join()}`),
  ).toEqual([
    "untracked ingress StagedGlobalNetworkPolicy/u",
    "pre-dnat ingress StagedGlobalNetworkPolicy/d",
    "forward ingress StagedGlobalNetworkPolicy/f",
    "normal ingress StagedGlobalNetworkPolicy/f",
  ]);
  // Without them the program has nothing of theirs.
  for (const { kind, object } of pending) graph.update([deletionOf(keyOf(kind, object as Resource<typeof kind>))]);
  graph.flush();
  expect(graph.program.endpoints.get("eth0" as EndpointId)).not.toHaveProperty("staged");
  expect(graph.program.policies.size).toBe(0);
});
