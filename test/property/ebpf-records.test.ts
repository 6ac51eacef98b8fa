/** eBPF records: of random programs, what is read back of the records of every policy and stage is what was written, byte for byte. */
import { expect, test } from "bun:test";
import { programOf } from "../../src/calc/from-scratch.ts";
import { decodeRecords, encodeRecords } from "../../src/dataplane/ebpf/layout.ts";
import { hasOf, lowerRules, lowerStage, readRules, readStage } from "../../src/dataplane/ebpf/records.ts";
import type { Key } from "../../src/model/key.ts";
import type { Atom, Clause, PolicyId, Rule, SetId } from "../../src/program/policy.ts";
import { DIRECTIONS, type Program, stagesOf } from "../../src/program/program.ts";
import { ICMP, type Protocol, TCP, UDP } from "../../src/net/protocol.ts";
import { randomCluster } from "./clusters.ts";
import { Random } from "./random.ts";

const CLUSTERS = 300;
const FIRST_SEED = 7_000_000;
const CRAFTED = 5000;

function randomProgram(seed: number): Program {
  return programOf({ ...randomCluster(seed), pools: [], node: "n1" });
}

function holdsFor(program: Program): number {
  const ids = [...program.sets.keys()];
  const setOf = (id: SetId) => {
    const set = program.sets.get(id);
    if (set === undefined) throw new Error(`no set ${id}`);
    return { number: ids.indexOf(id) + 1, has: hasOf(set) };
  };
  const setAt = (number: number): SetId => ids[number - 1] ?? ("" as SetId);
  let policies = 0;
  for (const policy of program.policies.values())
    for (const direction of DIRECTIONS) {
      const rules = policy[direction];
      if (rules === undefined) continue;
      expectSame(rules, policy.source, direction, setOf, setAt);
      policies++;
    }
  const names = [...program.policies.keys()];
  for (const endpoint of program.endpoints.values())
    for (const { stage } of stagesOf(endpoint)) {
      const bytes = encodeRecords(lowerStage(stage, (id) => names.indexOf(id) + 1));
      const tiers = stage.tiers.map(({ tier }) => tier);
      const read = readStage(decodeRecords(bytes), tiers, (at) => names[at - 1] ?? ("" as PolicyId));
      expect(read).toEqual(stage);
    }
  return policies;
}

function expectSame(
  rules: readonly Rule[],
  source: Key,
  direction: "ingress" | "egress",
  setOf: Parameters<typeof lowerRules>[1],
  setAt: (number: number) => SetId,
): void {
  const bytes = encodeRecords(lowerRules(rules, setOf));
  const read = readRules(decodeRecords(bytes), source, direction, setAt);
  expect(read).toEqual([...rules]);
  expect(encodeRecords(lowerRules(read, setOf))).toEqual(bytes);
}

test(`${CLUSTERS} random clusters`, () => {
  let policies = 0;
  for (let i = 0; i < CLUSTERS; i++) policies += holdsFor(randomProgram(FIRST_SEED + i));
  expect(policies).toBeGreaterThan(CLUSTERS);
});

test(`${CRAFTED} rules of clauses in any order, as no policy has them`, () => {
  const random = new Random(FIRST_SEED);
  const source: Key = { kind: "NetworkPolicy", namespace: "alpha", name: "crafted" };
  const sets = Array.from({ length: 5 }, (_, i) => `s-${i}` as SetId);
  for (let i = 0; i < CRAFTED; i++) {
    const rules = random.some(0, 4, (index): Rule => {
      const when = random.some(0, 6, () => randomClause(random, sets));
      return {
        id: { source, direction: "egress", index },
        when,
        action: random.pick(["allow", "deny", "pass", "log"]),
      };
    });
    expectSame(
      rules,
      source,
      "egress",
      (id) => ({ number: sets.indexOf(id) + 1, has: 0 }),
      (number) => sets[number - 1] ?? ("" as SetId),
    );
  }
});

function randomClause(random: Random, sets: readonly SetId[]): Clause {
  return { not: random.chance(30), any: random.some(0, 3, () => randomAtom(random, sets)) };
}

function randomAtom(random: Random, sets: readonly SetId[]): Atom {
  const protocol = random.pick<Protocol>([TCP, UDP, ICMP]);
  const side = random.pick(["source", "destination"] as const);
  switch (random.below(6)) {
    case 0:
      return { on: "ip-version", is: random.pick([4, 6] as const) };
    case 1:
      return { on: "protocol", is: protocol };
    case 2:
      return { on: "ports", side, protocol, from: random.below(100), to: 100 + random.below(65436) };
    case 3:
      return { on: "icmp", protocol, type: random.below(256), code: random.chance(50) ? random.below(256) : undefined };
    case 4:
      return { on: "set", side, set: random.pick(sets) };
    default:
      return { on: "named-port", side, protocol, set: random.pick(sets) };
  }
}
