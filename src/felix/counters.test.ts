/** What the counters are called in Prometheus, and as a table. */
import { expect, test } from "bun:test";
import type { Counters } from "../dataplane/counters.ts";
import { formatCounters, policyMetrics } from "./counters.ts";

const COUNTERS: Counters = {
  rules: [
    {
      policy: { kind: "ClusterNetworkPolicy", namespace: undefined, name: "c" },
      tier: "kube-admin",
      direction: "ingress",
      rule: 1,
      action: "deny",
      name: "old clients",
      packets: 3,
      bytes: 180,
    },
    {
      policy: { kind: "NetworkPolicy", namespace: "shop", name: "web" },
      tier: "default",
      direction: "egress",
      rule: 2,
      action: "allow",
      annotations: { ticket: "NET-7" },
      packets: 5,
      bytes: 300,
    },
  ],
  ends: [],
};

test("a rule's name is a label, its annotations are none", async () => {
  const { text } = await policyMetrics(COUNTERS);
  expect(text).toContain(
    'calico_policy_rule_packets{kind="ClusterNetworkPolicy",namespace="",name="c",tier="kube-admin",direction="ingress",rule="1",action="deny",rule_name="old clients"} 3',
  );
  expect(text).toContain('name="web",tier="default",direction="egress",rule="2",action="allow",rule_name=""} 5');
  expect(text).not.toContain("NET-7");
});

test("packets that went past the host stack, where there is such a way", async () => {
  const past: Counters = { ...COUNTERS, past: 12 };
  expect((await policyMetrics(past)).text).toContain("calico_path_past_stack_packets 12");
  expect((await policyMetrics(COUNTERS)).text).not.toContain("past_stack");
  expect(formatCounters(past)).toContain("\nPast the host stack: 12 packets\n");
  expect(formatCounters(COUNTERS)).not.toContain("Past");
});

test("maps have their entries, where they are counted, their room and their memory", async () => {
  const maps: Counters = {
    ...COUNTERS,
    maps: [
      { map: "members", entries: 3, room: 10, bytes: 4096 },
      { map: "origins", room: 5, bytes: 640 },
    ],
  };
  const { text } = await policyMetrics(maps);
  for (const line of ['entries{map="members"} 3', 'room{map="origins"} 5', 'bytes{map="origins"} 640'])
    expect(text).toContain(`calico_bpf_map_${line}`);
  expect(text).not.toContain('entries{map="origins"}');
  expect(formatCounters(maps).split("\n").slice(-4)).toEqual([
    "MAP       ENTRIES   ROOM   BYTES OF MEMORY",
    "members   3         10     4096",
    "origins   -         5      640",
    "",
  ]);
});

test("a line for each rule", () => {
  expect(formatCounters(COUNTERS).split("\n").slice(0, 3)).toEqual([
    "POLICY                   TIER         DIRECTION   RULE   ACTION   PACKETS   BYTES",
    "ClusterNetworkPolicy c   kube-admin   ingress     1      deny     3         180",
    "NetworkPolicy shop/web   default      egress      2      allow    5         300",
  ]);
});

test("the same with the staged policies enforced", async () => {
  const staged: Counters = { ...COUNTERS, staged: { rules: COUNTERS.rules.slice(1), ends: [] } };
  const { text } = await policyMetrics(staged);
  expect(text).toContain('calico_policy_staged_rule_packets{kind="NetworkPolicy",namespace="shop",name="web"');
  expect(await policyMetrics(COUNTERS)).not.toHaveProperty("text", expect.stringContaining("staged"));
  expect(formatCounters(staged)).toContain("\nWith all staged policies enforced:\n\nPOLICY");
  expect(formatCounters(COUNTERS)).not.toContain("staged");
});

test("what is not known of staged policies is said below the tables, with or without those that are counted", () => {
  const unknown = ["Cannot list StagedNetworkPolicy: no"];
  const note = "\nNot all staged policies are counted: Cannot list StagedNetworkPolicy: no\n";
  expect(formatCounters(COUNTERS)).not.toContain("Not all");
  expect(formatCounters({ ...COUNTERS, unknown })).toEndWith(note);
  expect(formatCounters({ ...COUNTERS, staged: COUNTERS, unknown })).toEndWith(note);
});
