/**
 * The law for the whole model: for random clusters with tiers, policies that pass, log and deny, negations, ICMP and host endpoints, the
 * definition and the program say the same, deciding rule and trace included.
 */
import { expect, test } from "bun:test";
import { programOf } from "../../src/calc/from-scratch.ts";
import { equal } from "../../src/lib/equal.ts";
import { formatKey } from "../../src/model/key.ts";
import type { Verdict } from "../../src/model/verdict.ts";
import { evaluate } from "../../src/program/evaluate.ts";
import { type EndpointId, EVERY_INTERFACE, stagesOf } from "../../src/program/program.ts";
import { decide } from "../../src/semantics/decide.ts";
import { printProgram } from "../program/print.ts";
import { addByHand, deviceKey } from "./by-hand.ts";
import { NODES, randomCluster, randomPackets } from "./clusters.ts";
import { Random } from "./random.ts";

const CLUSTERS = 300;
const PACKETS = 150;
const FIRST_SEED = 4_000_000;
const DEVICES = ["eth0" as EndpointId, EVERY_INTERFACE];

function checkCluster(seed: number, tally: Map<string, number>): void {
  const cluster = randomCluster(seed);
  const random = new Random(seed ^ 0x5eed);
  const { meaning, byHand } = addByHand(cluster, random, random.subset(DEVICES, 60));
  const programs = new Map(NODES.map((node) => [node as string, programOf({ node, pools: [], ...cluster }, byHand)]));
  const check = (what: unknown, wanted: Verdict, found: Verdict, node: string): void => {
    if (!equal(wanted, found)) {
      const program = programs.get(node);
      throw new Error(
        `seed ${seed}: ${JSON.stringify(what)}\nsemantics: ${JSON.stringify(wanted)}\nprogram:   ${JSON.stringify(found)}\n${program === undefined ? "" : printProgram(program)}`,
      );
    }
    for (const outcome of [`${found.action} ${found.reason.type}`, ...(found.trace ?? []).map(({ action }) => action)])
      tally.set(outcome, (tally.get(outcome) ?? 0) + 1);
  };
  const ends = new Map(
    cluster.records.map((record) => {
      const pod = cluster.pods.find(
        ({ metadata }) => metadata.namespace === record.pod.namespace && metadata.name === record.pod.name,
      );
      return [formatKey(record.pod), { id: record.interface as EndpointId, node: pod?.spec?.nodeName ?? "" }];
    }),
  );
  const probes = randomPackets(cluster, PACKETS, seed);
  for (const { pod, direction, packet } of probes) {
    const end = ends.get(formatKey(pod));
    const program = programs.get(end?.node ?? "");
    if (end === undefined || program === undefined) throw new Error(`seed ${seed}: ${formatKey(pod)} is on no node`);
    const wanted = decide(meaning, packet, { endpoint: pod, direction, fromOwnNode: false });
    check({ pod, direction, packet }, wanted, evaluate(program, end.id, direction, packet), end.node);
  }
  for (const [id, endpoint] of byHand.hosts) {
    const [node] = NODES;
    const program = programs.get(node);
    if (program === undefined) throw new Error(`seed ${seed}: no program`);
    for (const { hook, direction } of stagesOf(endpoint)) {
      for (const { packet } of probes.slice(0, 30)) {
        const wanted = decide(meaning, packet, { endpoint: deviceKey(id), hook, direction, fromOwnNode: false });
        check({ id, hook, direction, packet }, wanted, evaluate(program, id, direction, packet, hook), node);
      }
    }
  }
}

test(`semantics = program in ${CLUSTERS} clusters with policies of the whole model`, () => {
  const tally = new Map<string, number>();
  for (let i = 0; i < CLUSTERS; i++) checkCluster(FIRST_SEED + i, tally);
  const total = [...tally.values()].reduce((a, b) => a + b, 0);
  expect(total).toBeGreaterThan(50_000);
  const outcomes = ["allow rule", "deny rule", "deny no-rule-matched", "allow end", "deny end", "pass", "log"];
  // A law that never sees an outcome proves nothing about it.
  for (const outcome of outcomes)
    expect(`${outcome} ${(tally.get(outcome) ?? 0) / total > 0.005}`).toBe(`${outcome} true`);
}, 300_000);
