/** The table, changed step by step, says what one made of the present state alone says. */
import { expect, test } from "bun:test";
import { Random } from "../../test/property/random.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import type { NodeReport, PolicyState, ReportedKind } from "../model/kinds/node-policy-status.ts";
import type { PolicyFacts } from "./acceptance.ts";
import { PolicyTable } from "./policy-table.ts";

const POLICIES = ["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy"].flatMap((kind) =>
  ["a", "b"].map((name) => ({ kind, namespace: "n", name }) as PolicyFacts["key"]),
);
const NODES = ["n1", "n2", "n3"];
const TIERS = ["default", "security"];
const NOW = "2026-01-01T00:00:00Z";

/** What a table is told. */
interface State {
  readonly policies: Map<KeyText, PolicyFacts>;
  readonly tiers: Set<string>;
  readonly nodes: Set<string>;
  readonly reports: Map<string, NodeReport>;
}

function tableOf({ policies, tiers, nodes, reports }: State): PolicyTable {
  const table = new PolicyTable();
  for (const [id, facts] of policies) table.setPolicy(id, facts);
  for (const tier of tiers) table.setTier(tier, true);
  for (const node of nodes) table.setNode(node, true);
  for (const [node, report] of reports) table.setReport(node, report);
  return table;
}

function randomPolicy(random: Random, key: PolicyFacts["key"], revision: number): PolicyFacts {
  return {
    key,
    uid: random.pick(["u1", "u2"]),
    revision: String(revision),
    generation: revision,
    tier: random.pick(TIERS),
    error: random.chance(20) ? "wrong" : undefined,
    inPart: undefined,
    conditions: [],
  };
}

function randomReport(random: Random, { policies }: State, revision: number): NodeReport {
  const observed = new Map<ReportedKind, number>();
  for (const kind of ["NetworkPolicy", "GlobalNetworkPolicy"] as const)
    if (random.chance(90)) observed.set(kind, 1 + random.below(revision));
  const states = new Map<KeyText, PolicyState>();
  const isLeftOut = random.chance(10);
  for (const [id, { generation }] of policies) {
    if (isLeftOut || random.chance(40)) continue;
    const state = random.pick(["programmed", "invalid", "refused"] as const);
    states.set(id, { generation: random.chance(80) ? generation : generation - 1, state });
  }
  return { observed, policies: states, isLeftOut };
}

test.each(Array.from({ length: 200 }, (_, seed) => [seed]))("seed %d", (seed) => {
  const random = new Random(seed);
  const state: State = { policies: new Map(), tiers: new Set(), nodes: new Set(), reports: new Map() };
  const table = tableOf(state);
  const said = new Map<KeyText, unknown>();
  for (let revision = 1; revision <= 60; revision++) {
    const key = random.pick(POLICIES);
    const id = formatKey(key);
    const node = random.pick(NODES);
    const exists = random.chance(70);
    switch (random.pick(["policy", "policy", "tier", "node", "report", "report", "report"] as const)) {
      case "policy": {
        const facts = randomPolicy(random, key, revision);
        if (exists) state.policies.set(id, facts);
        else if (state.policies.delete(id)) said.delete(id);
        table.setPolicy(id, exists ? facts : undefined);
        break;
      }
      case "tier":
        if (exists) state.tiers.add("security");
        else state.tiers.delete("security");
        table.setTier("security", exists);
        break;
      case "node":
        if (exists) state.nodes.add(node);
        else state.nodes.delete(node);
        table.setNode(node, exists);
        break;
      case "report": {
        const report = exists ? randomReport(random, state, revision) : undefined;
        if (report === undefined) state.reports.delete(node);
        else state.reports.set(node, report);
        table.setReport(node, report);
        break;
      }
    }
    if (random.chance(50)) continue;
    for (const dirty of table.dirty) said.set(dirty, table.conditions(dirty, NOW));
    table.dirty.clear();
    const fresh = tableOf(state);
    for (const policy of state.policies.keys())
      expect([revision, policy, said.get(policy)]).toEqual([revision, policy, fresh.conditions(policy, NOW)]);
  }
});
