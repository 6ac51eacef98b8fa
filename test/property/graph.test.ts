/** The graph against its oracle: after every batch of random updates, the incremental program is the one computed from scratch, its deltas replay to it, and the program's invariants hold. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { bgpOf, programOf, type State } from "../../src/calc/from-scratch.ts";
import { Graph } from "../../src/calc/graph.ts";
import type { Bgp } from "../../src/model/bgp.ts";
import type { CniRecord } from "../../src/model/endpoint.ts";
import { formatKey, type KeyText } from "../../src/model/key.ts";
import type { Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Update } from "../../src/model/update.ts";
import { diffPrograms, isEmptyDelta, membersOf } from "../program/diff.ts";
import type { SetId, SetMembers } from "../../src/program/policy.ts";
import { printProgram } from "../program/print.ts";
import {
  type Delta,
  policiesNamedBy,
  type Program,
  type ProgramDelta,
  stagedOf,
  stagesOf,
} from "../../src/program/program.ts";
import {
  blockHolding,
  claimingPod,
  livePod,
  NAMESPACES,
  namespaceNamed,
  NODES,
  poolAddress,
  randomCluster,
  recordOf,
} from "./clusters.ts";
import {
  calicoPolicy,
  DEVICES,
  endpointSlice,
  felixConfiguration,
  globalPolicy,
  hostEndpoint,
  hostPolicy,
  networkSet,
  profile,
  tier,
  workloadEndpoint,
} from "./calico-policies.ts";
import { adminNetworkPolicy, baselineAdminNetworkPolicy, clusterNetworkPolicy } from "./cluster-network-policies.ts";
import { randomPolicy } from "./policies.ts";
import { Random } from "./random.ts";
import { stagedGlobalPolicy, stagedKubernetesPolicy, stagedPolicy } from "./staged-policies.ts";
import { deniedOf, rowOf, saidOf, saidOfCluster } from "./updates.ts";

/** GRAPH_RUNS=10000 tries so many sequences. */
const RUNS = Number(process.env["GRAPH_RUNS"] ?? "60");

/** What has been said last about every key: the truth that the graph must have understood. */
class World {
  readonly objects = new Map<KeyText, Update>();
  readonly records = new Map<string, CniRecord>();
  readonly interfaces = new Map<string, readonly Addr[]>();
  /** Older words, which may come again. */
  readonly past: Update[] = [];

  say(update: Update, graph: Graph): void {
    graph.update([rowOf(update)]);
    this.past.push(update);
    if (update.value === undefined) this.objects.delete(formatKey(update.key));
    else this.objects.set(formatKey(update.key), update);
  }

  wire(record: CniRecord, graph: Graph): void {
    graph.setCniRecord(record);
    this.records.set(record.interface, record);
  }

  unwire(name: string, graph: Graph): void {
    graph.removeCniRecord(name);
    this.records.delete(name);
  }

  setInterface(random: Random, graph: Graph): void {
    const name = random.pick(DEVICES);
    const addresses = random.chance(25) ? undefined : random.subset(["192.0.2.1", "2001:db8::1", "192.0.2.9"], 50);
    graph.setInterface(name, addresses as Addr[] | undefined);
    if (addresses === undefined) this.interfaces.delete(name);
    else this.interfaces.set(name, addresses as Addr[]);
  }

  state(node: string): State {
    const state = {
      node,
      pods: [] as Resource<"Pod">[],
      namespaces: [] as Resource<"Namespace">[],
      serviceAccounts: [] as Resource<"ServiceAccount">[],
      networkPolicies: [] as Resource<"KubernetesNetworkPolicy">[],
      blocks: [] as Resource<"IPAMBlock">[],
      pools: [] as Resource<"IPPool">[],
      nodes: [] as Resource<"Node">[],
      records: [...this.records.values()],
      calicoPolicies: [] as Resource<"NetworkPolicy">[],
      globalPolicies: [] as Resource<"GlobalNetworkPolicy">[],
      stagedPolicies: [] as Resource<"StagedNetworkPolicy">[],
      stagedGlobalPolicies: [] as Resource<"StagedGlobalNetworkPolicy">[],
      stagedKubernetesPolicies: [] as Resource<"StagedKubernetesNetworkPolicy">[],
      felixConfigurations: [] as Resource<"FelixConfiguration">[],
      hostEndpoints: [] as Resource<"HostEndpoint">[],
      workloadEndpoints: [] as Resource<"WorkloadEndpoint">[],
      profiles: [] as Resource<"Profile">[],
      adminNetworkPolicies: [] as Resource<"AdminNetworkPolicy">[],
      baselineAdminNetworkPolicies: [] as Resource<"BaselineAdminNetworkPolicy">[],
      interfaces: this.interfaces,
      endpointSlices: [] as Resource<"EndpointSlice">[],
      clusterNetworkPolicies: [] as Resource<"ClusterNetworkPolicy">[],
      tiers: [] as Resource<"Tier">[],
      networkSets: [] as Resource<"NetworkSet">[],
      globalNetworkSets: [] as Resource<"GlobalNetworkSet">[],
    };
    for (const update of this.objects.values()) {
      if (update.kind === "Pod" && update.value) state.pods.push(update.value);
      if (update.kind === "Namespace" && update.value) state.namespaces.push(update.value);
      if (update.kind === "ServiceAccount" && update.value) state.serviceAccounts.push(update.value);
      if (update.kind === "KubernetesNetworkPolicy" && update.value) state.networkPolicies.push(update.value);
      if (update.kind === "IPAMBlock" && update.value) state.blocks.push(update.value);
      if (update.kind === "IPPool" && update.value) state.pools.push(update.value);
      if (update.kind === "Node" && update.value) state.nodes.push(update.value);
      if (update.kind === "NetworkPolicy" && update.value) state.calicoPolicies.push(update.value);
      if (update.kind === "GlobalNetworkPolicy" && update.value) state.globalPolicies.push(update.value);
      if (update.kind === "StagedNetworkPolicy" && update.value) state.stagedPolicies.push(update.value);
      if (update.kind === "StagedGlobalNetworkPolicy" && update.value) state.stagedGlobalPolicies.push(update.value);
      if (update.kind === "StagedKubernetesNetworkPolicy" && update.value)
        state.stagedKubernetesPolicies.push(update.value);
      if (update.kind === "EndpointSlice" && update.value) state.endpointSlices.push(update.value);
      if (update.kind === "HostEndpoint" && update.value) state.hostEndpoints.push(update.value);
      if (update.kind === "WorkloadEndpoint" && update.value) state.workloadEndpoints.push(update.value);
      if (update.kind === "Profile" && update.value) state.profiles.push(update.value);
      if (update.kind === "AdminNetworkPolicy" && update.value) state.adminNetworkPolicies.push(update.value);
      if (update.kind === "BaselineAdminNetworkPolicy" && update.value)
        state.baselineAdminNetworkPolicies.push(update.value);
      if (update.kind === "FelixConfiguration" && update.value) state.felixConfigurations.push(update.value);
      if (update.kind === "ClusterNetworkPolicy" && update.value) state.clusterNetworkPolicies.push(update.value);
      if (update.kind === "Tier" && update.value) state.tiers.push(update.value);
      if (update.kind === "NetworkSet" && update.value) state.networkSets.push(update.value);
      if (update.kind === "GlobalNetworkSet" && update.value) state.globalNetworkSets.push(update.value);
    }
    return state;
  }
}

/** A program rebuilt from nothing but deltas, members included. */
class Replica {
  readonly sets = new Map<SetId, SetMembers>();
  readonly policies = new Map();
  readonly endpoints = new Map();
  readonly routes = new Map();

  apply(delta: ProgramDelta): void {
    for (const [id, value] of delta.sets) {
      const change = delta.members.get(id);
      const mine = this.sets.get(id);
      if (value === undefined) this.sets.delete(id);
      else if (change === undefined) this.sets.set(id, copyOf(value));
      else {
        if (mine === undefined) throw new Error(`a change of members for ${id}, which was not there`);
        for (const member of change.added) expect(membersOf(mine).has(member)).toBe(false);
        for (const member of change.removed) expect(partOf(mine, member).delete(member)).toBe(true);
        for (const member of change.added) partOf(mine, member).add(member);
      }
    }
    applyTo(this.policies, delta.policies);
    applyTo(this.endpoints, delta.endpoints);
    applyTo(this.routes, delta.routes);
  }
}

function copyOf(set: SetMembers): SetMembers {
  if (set.type === "address") return { type: "address", hosts: new Set(set.hosts), nets: new Set(set.nets) };
  return set.type === "nets" ? set : { type: "address-port", members: new Set(set.members) };
}

/** The part of the set in which a member with that text belongs. */
function partOf(set: SetMembers, member: string): Set<string> {
  if (set.type === "nets") throw new Error("a set of nets never changes");
  if (set.type === "address-port") return set.members as ReadonlySet<string> as Set<string>;
  return (member.includes("/") ? set.nets : set.hosts) as ReadonlySet<string> as Set<string>;
}

function applyTo<K, V>(table: Map<K, V>, delta: Delta<K, V>): void {
  for (const [key, value] of delta) {
    if (value === undefined) expect(table.delete(key)).toBe(true);
    else table.set(key, value);
  }
}

/** Every id named is present; a policy or set exists exactly while it is named. */
function checkInvariants(program: Program): void {
  const policies = new Set(
    [...program.endpoints.values()].flatMap((endpoint) =>
      [...stagesOf(endpoint), ...stagedOf(endpoint)].flatMap(({ stage }) => policiesNamedBy(stage)),
    ),
  );
  const rules = [...program.policies.values()].flatMap((policy) => [
    ...(policy.ingress ?? []),
    ...(policy.egress ?? []),
  ]);
  const sets = new Set(
    rules.flatMap((rule) =>
      rule.when.flatMap((clause) => clause.any.flatMap((atom) => ("set" in atom ? [atom.set] : []))),
    ),
  );
  expect([...program.policies.keys()].sort()).toEqual([...policies].sort());
  expect([...program.sets.keys()].sort()).toEqual([...sets].sort());
}

/** Addresses recorded for pods that are there, that will be, that are called the same elsewhere; blocks that overlap; blocks that cannot be read. */
function randomBlock(random: Random): Resource<"IPAMBlock"> {
  const [cidr, name] = random.pick([
    ["10.65.0.0/29", "b4"],
    ["fd00:65::/125", "b6"],
    ["10.65.0.5/32", "one"],
    ["10.65.0.0/29", "same"],
    ["10.65.0.0/26", "larger"],
    ["10.65.0.0/99", "wrong"],
  ] as const);
  const holders = new Map<Addr, { namespace: string; name: string }>();
  for (let ordinal = 1; ordinal <= 6; ordinal++) {
    for (const family of [4, 6] as const)
      if (random.chance(60))
        holders.set(poolAddress(family, ordinal) as Addr, {
          namespace: random.pick(NAMESPACES),
          name: `pod-${random.below(8)}`,
        });
  }
  const block = blockHolding(cidr, random.pick(["host:n1", "host:n2", undefined]), holders);
  return { ...block, metadata: { name } };
}

/** Nodes with and without addresses, and pools that are announced or not, or cannot be read. */
function randomBgpSource(random: Random): Update {
  if (random.chance(40))
    return saidOf("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name: random.pick(["p", "q"]) },
      spec: {
        cidr: random.pick(["10.65.0.0/16", "fd00:65::/64", "10.65.0.0"]),
        disableBGPExport: random.chance(30),
        disabled: random.chance(30),
      },
    });
  const addresses = random.subset(["192.0.2.1", "192.0.2.2", "2001:db8::1", "no address"], 50);
  return saidOf("Node", {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: random.pick([...NODES, "n3"]),
      annotations: random.chance(20) ? { "projectcalico.org/IPv4Address": "192.0.2.7/24" } : {},
      labels: { beat: String(random.below(9)), ...(random.chance(50) ? { zone: random.pick(["a", "b"]) } : {}) },
    },
    status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
  });
}

function sorted<K extends string, V>(table: ReadonlyMap<K, V>): [K, V][] {
  return [...table].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** By which two can be compared: rows in no order. */
function plainBgp({ addresses, peers, pools, blocks, borrowed, machines }: Bgp): unknown {
  return [addresses, sorted(peers), sorted(pools), sorted(blocks), sorted(borrowed), sorted(machines)];
}

function randomCalicoObject(random: Random): Update {
  switch (random.below(18)) {
    case 17:
    case 16:
      return saidOf("StagedNetworkPolicy", stagedPolicy(random));
    case 15:
      return saidOf("StagedGlobalNetworkPolicy", stagedGlobalPolicy(random));
    case 14:
      return saidOf("StagedKubernetesNetworkPolicy", stagedKubernetesPolicy(random));
    case 13:
      return saidOf("BaselineAdminNetworkPolicy", baselineAdminNetworkPolicy(random));
    case 12:
      return saidOf("AdminNetworkPolicy", adminNetworkPolicy(random));
    case 11:
      return saidOf("Profile", profile(random));
    case 10:
      return saidOf("WorkloadEndpoint", workloadEndpoint(random));
    case 9:
      return saidOf("ClusterNetworkPolicy", clusterNetworkPolicy(random));
    case 8:
      return saidOf("FelixConfiguration", felixConfiguration(random));
    case 7:
      return saidOf("HostEndpoint", hostEndpoint(random));
    case 6:
      return saidOf("GlobalNetworkPolicy", hostPolicy(random));
    case 5:
      return saidOf("EndpointSlice", endpointSlice(random, random.pick(["slice-0", "slice-1", "other"])));
    case 0:
      return saidOf("NetworkPolicy", calicoPolicy(random));
    case 1:
      return saidOf("GlobalNetworkPolicy", globalPolicy(random));
    case 2:
      return saidOf("Tier", tier(random, random.pick(["first", "same", "missing", "kube-admin"])));
    case 3:
      return saidOf("NetworkSet", networkSet(random, random.pick(NAMESPACES)));
    default:
      return saidOf("GlobalNetworkSet", networkSet(random, undefined));
  }
}

function randomStep(random: Random, world: World, graph: Graph): void {
  const pods = [...world.objects.values()].flatMap((update) =>
    update.kind === "Pod" && update.value ? [update.value] : [],
  );
  switch (random.below(14)) {
    case 13:
      return world.setInterface(random, graph);
    case 12:
    case 11:
      return world.say(randomCalicoObject(random), graph);
    case 10:
      return world.say(randomBgpSource(random), graph);
    case 0:
      return world.say(saidOf("KubernetesNetworkPolicy", randomPolicy(random)), graph);
    case 1:
      return world.say(saidOf("Namespace", namespaceNamed(random, random.pick(NAMESPACES))), graph);
    case 2:
      return world.say(saidOf("IPAMBlock", randomBlock(random)), graph);
    case 3:
      return world.say(
        saidOf("ServiceAccount", {
          apiVersion: "v1",
          kind: "ServiceAccount",
          metadata: { name: "robot", namespace: random.pick(NAMESPACES), labels: { app: random.pick(["web", "db"]) } },
        }),
        graph,
      );
    case 4: {
      // The same pod changes its labels, state or addresses, often to those of another pod.
      const name = `pod-${random.below(8)}`;
      const pod = livePod(
        random,
        name,
        random.subset([poolAddress(4, 1 + random.below(6)), poolAddress(6, 1 + random.below(6))], 80),
      );
      if (random.chance(40))
        return world.say(
          saidOf(
            "Pod",
            claimingPod(random, name, [poolAddress(4, 1 + random.below(6)), poolAddress(6, 1 + random.below(6))]),
          ),
          graph,
        );
      return world.say(
        saidOf("Pod", random.chance(15) ? { ...pod, status: { ...pod.status, phase: "Succeeded" } } : pod),
        graph,
      );
    }
    case 5: {
      const [record] = pods.length === 0 ? [] : recordOf(random.pick(pods), random.below(6));
      return record === undefined ? undefined : world.wire(record, graph);
    }
    case 6:
      return world.records.size === 0 ? undefined : world.unwire(random.pick([...world.records.keys()]), graph);
    case 7:
      return world.objects.size === 0
        ? undefined
        : world.say(deniedOf(random.pick([...world.objects.values()]).key), graph);
    default:
      // Back in time, or a false delete taken back.
      return world.past.length === 0 ? undefined : world.say(random.pick(world.past), graph);
  }
}

function run(seed: number): void {
  const random = new Random(seed);
  const node = random.pick(NODES);
  const [graph, world, replica] = [new Graph({ node }), new World(), new Replica()];
  const cluster = randomCluster(seed);
  const start = random.chance(70) ? random.shuffle(saidOfCluster(cluster)) : [];
  for (const record of random.subset(cluster.records, 60)) world.wire(record, graph);
  let { settings } = graph.program;
  let [bgpChanges, bgpBefore] = [0, plainBgp(graph.bgp)];
  for (let step = 0; step < 40; step++) {
    const batch = random.pick([1, 1, 1, 2, 5, 20]);
    for (let i = 0; i < batch; i++) {
      const next = start.pop();
      if (next !== undefined) world.say(next, graph);
      else randomStep(random, world, graph);
    }
    const delta = graph.flush();
    const wanted = programOf(world.state(node));
    if (!isEmptyDelta(diffPrograms(wanted, graph.program)))
      throw new Error(
        `step ${step}: from scratch\n${printProgram(wanted)}\nincremental\n${printProgram(graph.program)}`,
      );
    expect(graph.program.settings).toEqual(wanted.settings);
    expect(delta.settings === undefined).toBe(graph.program.settings === settings);
    settings = graph.program.settings;
    replica.apply(delta);
    if (!isEmptyDelta(diffPrograms(wanted, replica)))
      throw new Error(`step ${step}: from scratch\n${printProgram(wanted)}\nfrom deltas\n${printProgram(replica)}`);
    checkInvariants(graph.program);
    // It is said to have changed exactly when it did.
    const bgp = plainBgp(bgpOf(world.state(node)));
    expect(plainBgp(graph.bgp)).toEqual(bgp);
    expect(graph.bgpChanges - bgpChanges).toBe(Bun.deepEquals(bgp, bgpBefore) ? 0 : 1);
    [bgpChanges, bgpBefore] = [graph.bgpChanges, bgp];
  }
  // Everything said once more changes nothing; everything taken back leaves nothing.
  graph.update([...world.objects.values()].map((update) => rowOf(update)));
  for (const record of world.records.values()) graph.setCniRecord(record);
  expect(isEmptyDelta(graph.flush())).toBe(true);
  for (const update of random.shuffle([...world.objects.values()])) graph.update([rowOf(deniedOf(update.key))]);
  for (const name of world.records.keys()) graph.removeCniRecord(name);
  graph.flush();
  expect(printProgram(graph.program)).toBe("");
  expect(plainBgp(graph.bgp)).toEqual(plainBgp(new Graph({ node }).bgp));
}

test(
  "incremental = from scratch, after every step of random sequences",
  () => fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), run), { seed: 20251126, numRuns: RUNS }),
  400_000 + RUNS * 4_000,
);
