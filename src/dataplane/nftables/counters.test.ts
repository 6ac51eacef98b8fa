/** Counters of written rules, found in the chains that they were lowered to. */
import { expect, test } from "bun:test";
import { programOf, type State } from "../../calc/from-scratch.ts";
import type { NftChainState, NftRuleState } from "../../kernel/nftables/objects.ts";
import type { Rule } from "../../model/kinds/rule.ts";
import type { Addr } from "../../net/addr.ts";
import { countersOf } from "../counters.ts";
import { countedChains } from "./counters.ts";
import { stageChain, stagedChain } from "./names.ts";
import { closedRow } from "./rows.ts";
import type { EndpointId } from "../../program/program.ts";
import type { Resource } from "../../model/resource.ts";
import { NftablesLowering } from "./lower.ts";

const NAME = "p".repeat(240);
const INGRESS: Rule[] = [
  // Several rules of nftables.
  { action: "Log", protocol: "TCP", source: { nets: ["10.0.0.0/8"] }, destination: { ports: [80, "a", "b"] } },
  {
    action: "Deny",
    protocol: "UDP",
    destination: { ports: [1, "a"] },
    metadata: { annotations: { ticket: "NET-7", why: 'it\'s "old"' } },
  },
  { action: "Allow" },
];

const STATE: State = {
  node: "n1",
  pods: [
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "web", namespace: "shop" },
      spec: { nodeName: "n1", containers: [] },
      status: { podIPs: [{ ip: "10.65.0.1" }] },
    },
  ],
  records: [
    {
      containerId: "c",
      pod: { kind: "Pod", namespace: "shop", name: "web" },
      interface: "cali1",
      addresses: ["10.65.0.1" as Addr],
      mac: "",
      netns: "",
      podInterface: "eth0",
    },
  ],
  namespaces: [],
  serviceAccounts: [],
  networkPolicies: [],
  blocks: [],
  pools: [],
  nodes: [],
  globalPolicies: [
    {
      apiVersion: "projectcalico.org/v3",
      kind: "GlobalNetworkPolicy",
      metadata: { name: NAME },
      spec: { ingress: INGRESS, egress: [{ action: "Allow" }] },
    },
  ],
};
const program = programOf(STATE);

/** The lowered table; every rule has counted one packet of 100 bytes. */
function chains(of = program): Map<string, NftChainState> {
  const { settings: _, ...tables } = of;
  const { rows } = new NftablesLowering().lower(of, { ...tables, members: new Map() });
  const found = new Map<string, NftChainState>();
  for (const owned of rows.values()) {
    const row = owned?.row;
    if (row?.type !== "chain") continue;
    const rules = row.rules.flatMap((rule): NftRuleState[] =>
      rule === undefined ? [] : [{ rule, handle: 1n, packets: 1n, bytes: 100n }],
    );
    found.set(row.chain, { base: undefined, rules });
  }
  return found;
}

test("a rule has one count, whatever it was lowered to, and a name too long for a chain is found", () => {
  const { rules } = countersOf(program, countedChains(chains()));
  expect(
    rules.map(({ policy, tier, direction, rule, action }) => [policy.name, tier, direction, rule, action]),
  ).toEqual([
    [NAME, "default", "ingress", 1, "log"],
    [NAME, "default", "ingress", 2, "deny"],
    [NAME, "default", "ingress", 3, "allow"],
    [NAME, "default", "egress", 1, "allow"],
  ]);
  for (const { packets, bytes } of rules) expect(bytes).toBe(packets * 100);
  expect(rules[0]?.packets).toBeGreaterThan(1);
  expect(rules[2]?.packets).toBe(1);
});

test("a rule is counted under its annotations, or the name that its author gave it", () => {
  const { rules } = countersOf(program, countedChains(chains()));
  expect(rules.map(({ annotations }) => annotations)).toEqual([
    undefined,
    { ticket: "NET-7", why: 'it\'s "old"' },
    undefined,
    undefined,
  ]);
  const named = programOf({
    ...STATE,
    globalPolicies: [],
    clusterNetworkPolicies: [
      {
        apiVersion: "policy.networking.k8s.io/v1alpha2",
        kind: "ClusterNetworkPolicy",
        metadata: { name: "c" },
        spec: {
          tier: "Admin",
          priority: 1,
          subject: { namespaces: {} },
          ingress: [{ name: "from anywhere", action: "Accept", from: [{ namespaces: {} }] }],
        },
      },
    ],
    adminNetworkPolicies: [
      {
        apiVersion: "policy.networking.k8s.io/v1alpha1",
        kind: "AdminNetworkPolicy",
        metadata: { name: "a" },
        spec: {
          priority: 2,
          subject: { namespaces: {} },
          egress: [
            { name: "to anywhere", action: "Deny", to: [{ namespaces: {} }] },
            { action: "Pass", to: [{ namespaces: {} }] },
          ],
        },
      },
    ],
  });
  const counted = countersOf(named, countedChains(new Map())).rules;
  expect(counted.map(({ policy, name }) => [policy.name, name])).toEqual([
    ["c", "from anywhere"],
    ["a", "to anywhere"],
    ["a", undefined],
  ] as never);
});

test("what no rule decided is counted at the end of the tier", () => {
  const { ends } = countersOf(program, countedChains(chains()));
  expect(
    ends.map(({ endpoint, source, direction, end, packets }) => [endpoint, source.name, direction, end, packets]),
  ).toEqual([
    ["cali1", "web", "ingress", "no rule of tier default matched", 1],
    ["cali1", "web", "egress", "no rule of tier default matched", 1],
  ] as never);
});

test("what the staged policies would do is counted apart, and named by them", () => {
  const deletion = { stagedAction: "Delete" } as const;
  const spec = { ingress: [{ action: "Pass", metadata: { annotations: { why: "trial" } } }], tier: "trial" } as const;
  const staged = programOf({
    ...STATE,
    stagedGlobalPolicies: [
      { apiVersion: "projectcalico.org/v3", kind: "StagedGlobalNetworkPolicy", metadata: { name: "s" }, spec },
      {
        apiVersion: "projectcalico.org/v3",
        kind: "StagedGlobalNetworkPolicy",
        metadata: { name: NAME },
        spec: deletion,
      },
    ] as unknown as Resource<"StagedGlobalNetworkPolicy">[],
  });
  const plain = countersOf(program, countedChains(chains()));
  const { staged: counted, ...decided } = countersOf(staged, countedChains(chains(staged)));
  expect(plain.staged).toBeUndefined();
  expect(decided).toEqual(plain);
  expect(counted?.rules).toEqual([
    {
      packets: 1,
      bytes: 100,
      policy: { kind: "StagedGlobalNetworkPolicy", namespace: undefined, name: "s" },
      tier: "trial",
      direction: "ingress",
      rule: 1,
      action: "pass",
      annotations: { why: "trial" },
    },
  ]);
  expect(counted?.ends.map(({ direction, end, action, packets }) => [direction, end, action, packets])).toEqual([
    ["ingress", "no rule of tier trial matched", "deny", 1],
    ["ingress", "end", "allow", 1],
    ["egress", "not isolated", "allow", 1],
  ]);
});

test("a staged policy that the kernel refuses closes nobody", () => {
  const chain = stagedChain("cali1" as EndpointId, { kind: "workload" }, "normal", "ingress");
  const verdicts = (name: string): unknown[] => {
    const row = closedRow({ type: "chain", chain: name, base: undefined, rules: [] }, "refused");
    return row.type === "chain"
      ? row.rules.flatMap((rule) => rule?.expressions.filter(({ op }) => op === "verdict"))
      : [];
  };
  expect(verdicts(chain)).toEqual([]);
  expect(verdicts(stageChain("cali1" as EndpointId, { kind: "workload" }, "normal", "ingress"))).toHaveLength(1);
});

test("chains that are not there have seen nothing", () => {
  const { rules, ends } = countersOf(program, countedChains(new Map()));
  expect(rules.every(({ packets }) => packets === 0)).toBe(true);
  expect(ends).toEqual([]);
});
