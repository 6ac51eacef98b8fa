/** The law, first half: for random clusters and packets near every edge, the definition over resources and the program say the same, deciding rule included. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { equal } from "../../src/lib/equal.ts";
import { formatKey, type Key } from "../../src/model/key.ts";
import { isStagedKind } from "../../src/model/kinds/staged.ts";
import type { Direction, Hook } from "../../src/model/policy.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { evaluate, evaluateStage } from "../../src/program/evaluate.ts";
import { printProgram } from "../program/print.ts";
import type { Verdict } from "../../src/model/verdict.ts";
import { DIRECTIONS, type EndpointId, HOOKS, type Program, stagesOf } from "../../src/program/program.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { decideStaged, type Staging, stagingOf } from "../../src/semantics/staged.ts";
import { decide } from "../../src/semantics/decide.ts";
import { NODES, type Probe, randomCluster, type RandomCluster, randomPackets } from "./clusters.ts";
import { Random } from "./random.ts";
import { stagedIn } from "./staged-policies.ts";
import { updatesOf } from "./updates.ts";
import FAILING_SEEDS from "./failing-seeds.json";

/** LAW_CLUSTERS=25000 judges ten million packets. */
const CLUSTERS = Number(process.env["LAW_CLUSTERS"] ?? "400");
const PACKETS = 400;
const PACKETS_AT_HOSTS = 40;
/** One packet of so many is put to the staged policies too. */
const STAGED_EACH = 5;
const FIRST_SEED = Number(process.env["LAW_SEED"] ?? "1000000");

/** The program of each node, its inputs said in a random order. */
function graphsOf(cluster: RandomCluster): Map<string, Graph> {
  const random = new Random(cluster.seed);
  return new Map(
    NODES.map((node) => {
      const graph = new Graph({ node });
      for (const update of random.shuffle(updatesOf(cluster))) {
        graph.update([update]);
        if (random.chance(10)) graph.flush();
      }
      for (const record of cluster.records)
        if (nodeOf(cluster, record.pod.namespace, record.pod.name) === node) graph.setCniRecord(record);
      graph.flush();
      return [node, graph];
    }),
  );
}

function nodeOf(cluster: RandomCluster, namespace: string | undefined, name: string): string | undefined {
  return cluster.pods.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name)?.spec
    ?.nodeName;
}

/** Throws what is needed to see the disagreement again. Answers how many packets were allowed, denied, and by what. */
function checkCluster(seed: number, packets: number, tally: Map<string, number>, staged: Map<string, number>): void {
  const cluster = randomCluster(seed);
  const meaning = clusterOf(cluster);
  const staging = stagingOf(cluster, stagedIn(cluster));
  const graphs = graphsOf(cluster);
  const ends = new Map(
    [...graphs.values()].flatMap(({ program }) =>
      [...program.endpoints].flatMap(([id, { kind, source }]) =>
        kind === "workload" ? [[formatKey(source), { id, program }] as const] : [],
      ),
    ),
  );
  const probes = randomPackets(cluster, packets, seed);
  for (const [index, probe] of probes.entries()) {
    const end = ends.get(formatKey(probe.pod));
    // Its interface may be another's, or have no workload's name.
    if (end === undefined && probe.pod.kind === "WorkloadEndpoint") continue;
    if (end === undefined) throw new Error(`seed ${seed}: ${formatKey(probe.pod)} is on no node`);
    const wanted = decide(meaning, probe.packet, {
      endpoint: probe.pod,
      direction: probe.direction,
      fromOwnNode: false,
    });
    const found = evaluate(end.program, end.id, probe.direction, probe.packet);
    if (!equal(wanted, found))
      throw new Error(disagreement(seed, cluster, probe, wanted, found, printProgram(end.program)));
    count(tally, wanted);
    if (index % STAGED_EACH === 0)
      checkStaged(seed, cluster, staging, end, { ...probe, endpoint: probe.pod, hook: "normal" }, staged);
    const seen = `${probe.pod.kind} ${wanted.action}`;
    tally.set(seen, (tally.get(seen) ?? 0) + 1);
  }
  checkHosts(seed, cluster, probes, graphs, tally, staged);
}

interface Asked {
  readonly packet: FlowPacket;
  readonly endpoint: Key;
  readonly hook: Hook;
  readonly direction: Direction;
}

/** POL-56: what is counted as staged, or that nothing is. */
function checkStaged(
  seed: number,
  cluster: RandomCluster,
  staging: Staging,
  { id, program }: { readonly id: EndpointId; readonly program: Program },
  asked: Asked,
  tally: Map<string, number>,
): void {
  const { packet, endpoint, hook, direction } = asked;
  const wanted = decideStaged(staging, packet, { endpoint, hook, direction, fromOwnNode: false });
  const stage = program.endpoints.get(id)?.staged?.[hook]?.[direction];
  const found = stage === undefined ? undefined : evaluateStage(program, stage, direction, packet);
  if (!equal(wanted, found)) throw new Error(disagreement(seed, cluster, asked, wanted, found, printProgram(program)));
  if (wanted === undefined) return;
  count(tally, wanted);
  if (wanted.reason.type === "rule" && isStagedKind(wanted.reason.policy.kind)) add(tally, `rule ${hook}`);
}

/** Host endpoints, at each of their hooks: their policies see packets from and to anywhere. */
function checkHosts(
  seed: number,
  cluster: RandomCluster,
  probes: readonly Probe[],
  graphs: ReadonlyMap<string, Graph>,
  tally: Map<string, number>,
  staged: Map<string, number>,
): void {
  const meaning = clusterOf(cluster);
  const staging = stagingOf(cluster, stagedIn(cluster));
  for (const { program } of graphs.values())
    for (const [id, endpoint] of program.endpoints) {
      if (endpoint.kind !== "host") {
        expect([endpoint.stages, endpoint.staged ?? {}].flatMap(Object.keys)).not.toContain("forward");
        continue;
      }
      for (const hook of HOOKS)
        for (const direction of DIRECTIONS)
          for (const probe of probes.slice(0, PACKETS_AT_HOSTS)) {
            const at = { packet: probe.packet, endpoint: endpoint.source, hook, direction };
            checkStaged(seed, cluster, staging, { id, program }, at, staged);
          }
      for (const { hook, direction } of stagesOf(endpoint))
        for (const probe of probes.slice(0, PACKETS_AT_HOSTS)) {
          const end = { endpoint: endpoint.source, hook, direction, fromOwnNode: false };
          const wanted = decide(meaning, probe.packet, end);
          const found = evaluate(program, id, direction, probe.packet, hook);
          if (!equal(wanted, found))
            throw new Error(disagreement(seed, cluster, { ...end, ...probe }, wanted, found, printProgram(program)));
          count(tally, wanted);
        }
    }
}

function count(tally: Map<string, number>, { action, reason, trace = [] }: Verdict): void {
  for (const outcome of [`${action} ${reason.type}`, ...trace.map((step) => step.action)]) add(tally, outcome);
}

function add(tally: Map<string, number>, outcome: string): void {
  tally.set(outcome, (tally.get(outcome) ?? 0) + 1);
}

function disagreement(
  seed: number,
  cluster: RandomCluster,
  probe: unknown,
  wanted: unknown,
  found: unknown,
  program: string,
): string {
  const staged = stagedIn(cluster).map(({ object }) => object);
  const { networkPolicies, calicoPolicies, globalPolicies, tiers, networkSets, globalNetworkSets, hostEndpoints } =
    cluster;
  const policies = [...networkPolicies, ...calicoPolicies, ...globalPolicies];
  const shown = {
    policies,
    staged,
    tiers,
    sets: [...networkSets, ...globalNetworkSets],
    hostEndpoints,
    pods: cluster.pods,
    namespaces: cluster.namespaces,
  };
  return `seed ${seed} (add it to failing-seeds.json): ${JSON.stringify(probe)}\nsemantics: ${JSON.stringify(wanted)}\nprogram:   ${JSON.stringify(found)}\n${program}${JSON.stringify(shown, undefined, 1)}`;
}

test("seeds that once failed", () => {
  for (const seed of FAILING_SEEDS) checkCluster(seed, PACKETS, new Map(), new Map());
});

test(
  `semantics = program for ${CLUSTERS * PACKETS} packets`,
  () => {
    const [tally, staged] = [new Map<string, number>(), new Map<string, number>()];
    for (let i = 0; i < CLUSTERS; i++) checkCluster(FIRST_SEED + i, PACKETS, tally, staged);
    const total = [...tally.values()].reduce((a, b) => a + b, 0);
    expect(total).toBeGreaterThanOrEqual(CLUSTERS * PACKETS);
    // A law that never sees an outcome proves nothing about it.
    for (const outcome of ["allow rule", "deny no-rule-matched", "allow not-isolated"])
      expect(`${outcome}: ${(tally.get(outcome) ?? 0) / total > 0.05}`).toBe(`${outcome}: true`);
    for (const outcome of ["deny rule", "allow end", "deny end", "pass", "log"])
      expect(`${outcome}: ${(tally.get(outcome) ?? 0) / total > 0.005}`).toBe(`${outcome}: true`);
    const asked = [...staged.values()].reduce((a, b) => a + b, 0);
    for (const outcome of ["allow rule", "deny rule", "deny no-rule-matched", "allow not-isolated", "pass", "log"])
      expect(`staged ${outcome}: ${(staged.get(outcome) ?? 0) / asked > 0.005}`).toBe(`staged ${outcome}: true`);
    for (const hook of HOOKS)
      expect(`staged ${hook}: ${(staged.get(`rule ${hook}`) ?? 0) > 0}`).toBe(`staged ${hook}: true`);
    for (const outcome of ["WorkloadEndpoint allow", "WorkloadEndpoint deny"])
      expect(`${outcome}: ${(tally.get(outcome) ?? 0) / total > 0.0005}`).toBe(`${outcome}: true`);
  },
  300_000 + CLUSTERS * 500,
);
