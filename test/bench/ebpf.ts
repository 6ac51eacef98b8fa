/**
 * ebpf: what the interpreter of the eBPF path costs: the kernel's verification, writing a policy, changing it, a packet that meets all rules and
 * matches none, run by the kernel itself (BPF_PROG_TEST_RUN), without a device; and the memory of the maps.
 *
 * Usage: bun test/bench/ebpf.ts
 */
import { finishSteps } from "../../src/dataplane/driver.ts";
import { ANSWERED, encodeConnection, encodeConnectionKey } from "../../src/dataplane/ebpf/connections.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { RECORD_BYTES } from "../../src/dataplane/ebpf/layout.ts";
import type { ProgramName } from "../../src/dataplane/ebpf/maps.ts";
import { callsAtOnce } from "../../src/kernel/bpf/long-calls.ts";
import { loadingObject } from "../../src/kernel/bpf/object.ts";
import { runProgram } from "../../src/kernel/bpf/program.ts";
import type { Key } from "../../src/model/key.ts";
import { nanosecondsSinceBoot } from "../../src/kernel/uptime.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import type { Addr } from "../../src/net/addr.ts";
import { TCP, UDP } from "../../src/net/protocol.ts";
import type { Policy, PolicyId, Rule, SetId, SetMembers } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { makeBpfFs } from "../kernel/bpffs.ts";
import { makeNamespace, removeNamespace, sys } from "../kernel/fixture.ts";
import { encodePacket } from "../kernel/wire.ts";
import { digits, percentile } from "./figures.ts";
import { OBJECT, openEbpf } from "../kernel/ebpf-driver.ts";

/** The kernel runs a packet without a device as if the loopback had received it. */
const WORKLOAD = "lo" as EndpointId;
const [SOURCE, NODE] = ["10.65.0.1", "192.0.2.1"] as readonly string[] as readonly [Addr, Addr];
const OUTSIDE = "198.51.100.7" as Addr;
const LOOPBACK = 1;
const PACKETS = 20_000;
const ROUNDS = 7;

function keyOf(index: number): Key {
  return { kind: "NetworkPolicy", namespace: "bench", name: `policy-${index}` };
}

interface Shape {
  readonly policies: number;
  /** Of each policy. */
  readonly rules: number;
  /** Rules ask for a port alone, or for a set besides. */
  readonly sets: boolean;
}

function programOf({ policies: count, rules: each, sets: withSets }: Shape, firstPort = 1000): Program {
  const sets = new Map<SetId, SetMembers>();
  const policies = new Map<PolicyId, Policy>();
  for (let i = 0; i < count; i++) {
    const source = keyOf(i);
    const set = `s-${i}` as SetId;
    if (withSets) sets.set(set, { type: "address", hosts: new Set(["10.65.9.9" as Addr]), nets: new Set() });
    const egress = Array.from({ length: each }, (_, index): Rule => {
      // With sets the port matches and the set does not.
      const [from, to] = withSets ? [443, 443] : [firstPort + (index % 1000), firstPort + (index % 1000)];
      const ports = { not: false, any: [{ on: "ports", side: "destination", protocol: TCP, from, to } as const] };
      const members = { not: false, any: [{ on: "set", side: "destination", set } as const] };
      return {
        id: { source, direction: "egress", index },
        when: withSets ? [members, ports] : [ports],
        action: "allow",
      };
    });
    policies.set(`NetworkPolicy/bench/policy-${i}` as PolicyId, {
      source,
      tier: "default",
      ingress: undefined,
      egress,
      error: undefined,
    });
  }
  const egress = {
    tiers: [{ tier: "default", policies: [...policies.keys()], otherwise: "deny" as const }],
    profiles: [],
    otherwise: "deny" as const,
  };
  const ingress = { tiers: [], profiles: [], otherwise: "allow" as const };
  const endpoint = {
    kind: "workload" as const,
    source: { kind: "Pod", namespace: "bench", name: "pod" } as const,
    addresses: [SOURCE],
    stages: { normal: { egress, ingress } },
  };
  return {
    settings: { ...DEFAULT_SETTINGS, workloadPrefixes: [WORKLOAD] },
    sets,
    policies,
    endpoints: new Map(count === 0 ? [] : [[WORKLOAD, endpoint]]),
    routes: new Map(),
  };
}

const packet = { source: SOURCE, destination: NODE, protocol: TCP, sourcePort: 40_000, destinationPort: 443 };
const body = encodePacket(packet, 0);
const frame = Uint8Array.from([...new Uint8Array(12), 0x08, 0x00, ...body]);

function milliseconds(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/** `changed`: the policies that do; undefined: the program is another one. */
function commit(driver: EbpfDriver, program: Program, changed?: ProgramDelta["policies"]): number {
  const none = { sets: new Map(), endpoints: new Map(), routes: new Map(), members: new Map() };
  driver.lower(program, changed === undefined ? { ...program, members: new Map() } : { ...none, policies: changed });
  return milliseconds(() => finishSteps(driver.committing()));
}

function measure(driver: EbpfDriver, shape: Shape): string {
  const program = programOf(shape);
  const first = commit(driver, program);
  const changed = new Map(program.policies);
  const one = programOf({ ...shape, policies: 1 }, 30_000).policies;
  for (const [id, policy] of one) changed.set(id, policy);
  const change = shape.sets ? Number.NaN : commit(driver, { ...program, policies: changed }, one);
  commit(driver, program);
  // Judged where it comes in, as where the kernel cannot ask at the gate.
  driver.maps.gate.update(new Uint8Array(4), new Uint8Array(4));
  const fd = driver.maps.programs.get("from_workload")?.fd ?? -1;
  const { result } = runProgram(sys, fd, frame);
  // What is for the node is not dropped here, but marked.
  if (result !== -1) throw new Error(`the program returned ${result}, must not have dropped the packet before policy`);
  const runs = Array.from({ length: ROUNDS }, () => runProgram(sys, fd, frame, Math.ceil(PACKETS / shape.policies)));
  const nanoseconds = percentile(
    runs.map((run) => run.nanoseconds),
    0.5,
  );
  const records = [...(driver.image?.blocks.values() ?? [])].reduce(
    (sum, block) => sum + block.records.length / RECORD_BYTES,
    0,
  );
  const cells = [shape.policies, shape.rules, shape.sets ? "set and port" : "port", records];
  return `| ${[...cells, digits(first), digits(change), digits(nanoseconds)].join(" | ")} |`;
}

/** A packet in the middle of a flow of UDP that has been answered, and one that answers it. */
function measureKnown(driver: EbpfDriver): string {
  commit(driver, programOf({ policies: 1, rules: 1, sets: false }));
  const call = { source: SOURCE, destination: OUTSIDE, protocol: UDP, sourcePort: 40_000, destinationPort: 443 };
  const ends = [
    { kind: "workload", interfaceIndex: LOOPBACK },
    { kind: "outside", interfaceIndex: 0 },
  ] as const;
  const original = { ...call, icmp: { type: 0, code: 0 } };
  const seen = nanosecondsSinceBoot(sys);
  const flow = encodeConnection({ seen, flags: ANSWERED, ends, isAlias: false, original });
  driver.maps.connections.update(encodeConnectionKey(call), flow);
  const answer = { ...call, source: OUTSIDE, destination: SOURCE, sourcePort: 443, destinationPort: 40_000 };
  const time = (name: ProgramName, packet: FlowPacket): string => {
    const fd = driver.maps.programs.get(name)?.fd ?? -1;
    const whole = Uint8Array.from([...new Uint8Array(12), 0x08, 0x00, ...encodePacket(packet, 0)]);
    const runs = Array.from({ length: ROUNDS }, () => runProgram(sys, fd, whole, PACKETS).nanoseconds);
    return digits(percentile(runs, 0.5));
  };
  return `a packet of a known flow: from_workload ${time("from_workload", call)} ns, from_network ${time("from_network", answer)} ns\n`;
}

const [PODS, POLICIES, POLICIES_OF_POD] = [100, 3000, 30];

/** What the change of one policy costs the thread, of many that each run at one of many pods: planned by itself, and with everything compared. */
function measureChange(driver: EbpfDriver): string {
  const { settings, sets, policies, routes, endpoints } = programOf({ policies: POLICIES, rules: 1, sets: false });
  const [template] = endpoints.values();
  if (template === undefined) throw new Error("the program has no endpoint");
  const ids = [...policies.keys()];
  const pods = Array.from({ length: PODS }, (_, i): readonly [EndpointId, Endpoint] => {
    const own = ids.slice(i * POLICIES_OF_POD, (i + 1) * POLICIES_OF_POD);
    const egress = { tiers: [{ tier: "default", policies: own, otherwise: "deny" as const }], profiles: [] };
    const stages = { normal: { ...template.stages.normal, egress: { ...egress, otherwise: "deny" as const } } };
    return [`cali${i}` as EndpointId, { ...template, addresses: [`10.65.1.${i}` as Addr], stages }];
  });
  const own = { ...settings, workloadPrefixes: ["cali"] };
  const program: Program = { settings: own, sets, policies: new Map(policies), endpoints: new Map(pods), routes };
  driver.lower(program, { ...program, members: new Map() });
  finishSteps(driver.committing());
  const median = (isWhole: boolean): string => {
    const [thread, wall]: [number[], number[]] = [[], []];
    for (let i = 0; i < ROUNDS; i++) {
      const one = programOf({ policies: 1, rules: 1, sets: false }, 30_000 + i + (isWhole ? 100 : 0)).policies;
      const changed: Program = { ...program, policies: new Map([...policies, ...one]) };
      const before = process.cpuUsage();
      wall.push(commit(driver, changed, isWhole ? undefined : one));
      const { user, system } = process.cpuUsage(before);
      thread.push((user + system) / 1000);
    }
    return `${digits(percentile(thread, 0.5))} ms of the processor, ${digits(percentile(wall, 0.5))} ms in all`;
  };
  const what = `${POLICIES} policies, ${POLICIES_OF_POD} at each of ${PODS} pods, one of which changes`;
  return `${what}: ${median(false)}; where everything is compared: ${median(true)}`;
}

/** By name of the map, KiB; and of all. */
function memoryOf(driver: EbpfDriver): ReadonlyMap<string, number> {
  const bytes = driver.maps.all.map((map): [string, number] => [map.definition.name, map.memoryBytes()]);
  const all = bytes.reduce((sum, [, each]) => sum + each, 0);
  return new Map([...bytes, ["all", all] as const].map(([name, each]) => [name, Math.ceil(each / 1024)]));
}

const fs = makeBpfFs();
const node = makeNamespace("bench");
try {
  node.run(["ip", "addr", "add", NODE, "dev", "lo"]);
  const driver = openEbpf(node, fs.path);
  const { maps } = driver;
  const empty = memoryOf(driver);
  const given = new Map(
    [maps.records, maps.counters, maps.members, maps.nets].map((map) => [map.definition.name, map]),
  );
  const loads = Array.from({ length: ROUNDS }, () =>
    milliseconds(() => finishSteps(loadingObject(sys, OBJECT, callsAtOnce(sys), given)).close()),
  );
  console.log(
    `the object of ${OBJECT.length} bytes: read, verified and compiled in ${digits(percentile(loads, 0.5))} ms (five programs)\n`,
  );
  console.log(node.enter(() => measureKnown(driver)));
  console.log(
    "| policies | rules in each | each asks for | records | first commit ms | change of one policy ms | ns per packet |",
  );
  console.log("|---|---|---|---|---|---|---|");
  for (const sets of [false, true])
    for (const [policies, rules] of [
      [1, 1],
      [1, 10],
      [1, 100],
      [1, 1000],
      [30, 1],
      [300, 1],
      [3000, 1],
    ] as const)
      node.enter(() => console.log(measure(driver, { policies, rules, sets })));
  for (let i = 0; i < PODS; i++)
    node.run(["ip", "link", "add", `cali${i}`, "type", "veth", "peer", "name", `peer${i}`]);
  node.enter(() => console.log(`\n${measureChange(driver)}`));
  node.enter(() => commit(driver, programOf({ policies: POLICIES, rules: 1, sets: true })));
  console.log(`\n| map | KiB empty | KiB with ${POLICIES} policies, a set in each |\n|---|---|---|`);
  for (const [name, kibibytes] of memoryOf(driver)) console.log(`| ${name} | ${empty.get(name)} | ${kibibytes} |`);
  driver.close();
} finally {
  removeNamespace(node);
  fs.remove();
}
