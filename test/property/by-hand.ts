/**
 * By hand: random policies of the whole model (tiers, Pass and Log, negations, ICMP, host endpoints), for which no kind exists: each is
 * made twice from the same choices, as the definition reads it and as the calculation does.
 */
import type { ByHand } from "../../src/calc/from-scratch.ts";
import { stageOf } from "../../src/calc/order.ts";
import { policyOfNetworkPolicy } from "../../src/model/convert/network-policy.ts";
import type { Key } from "../../src/model/key.ts";
import type {
  Action,
  AddressesModel,
  Direction,
  Entity,
  Hook,
  PolicyModel,
  PortModel,
  RuleModel,
} from "../../src/model/policy.ts";
import { BUILT_IN_TIERS, type TierModel } from "../../src/model/tier.ts";
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP } from "../../src/net/protocol.ts";
import { DIRECTIONS, type Endpoint, type EndpointId, HOOKS, type Stages } from "../../src/program/program.ts";
import {
  type Cluster,
  type ClusterPolicy,
  clusterOf,
  sortPolicies,
  type WrittenRule,
  type WrittenSide,
} from "../../src/semantics/cluster.ts";
import { ICMP_CODES, ICMP_TYPES, NAMESPACES, type RandomCluster } from "./clusters.ts";
import { randomPeer, randomPort, randomSelector } from "./policies.ts";
import type { Random } from "./random.ts";
import type { LabelSelector } from "kubernetes-types/meta/v1";
import type { NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec } from "kubernetes-types/networking/v1";

export interface HandMade {
  readonly meaning: Cluster;
  readonly byHand: ByHand;
}

interface HandPolicy {
  readonly written: ClusterPolicy;
  readonly model: PolicyModel;
}

const HOST_LABELS = { role: "host" } as const;

/** The cluster with policies of the whole model at its pods, and at these devices of the node. */
export function addByHand(cluster: RandomCluster, random: Random, devices: readonly EndpointId[]): HandMade {
  const tiers = tiersOf(random);
  const names = [...tiers.keys()];
  const ofPods = random.some(0, 6, (i) => podPolicy(random, `hand-${i}`, random.pick(names)));
  const ofHosts =
    devices.length === 0 ? [] : random.some(1, 6, (i) => hostPolicy(random, `host-${i}`, random.pick(names)));
  const policies = [...ofPods, ...ofHosts];
  const plain = clusterOf(cluster);
  const models = policies.map(({ model }) => model);
  return {
    meaning: {
      ...plain,
      hostEndpoints: devices.map((device) => ({ key: deviceKey(device), labels: HOST_LABELS })),
      tiers: [...tiers.values()].sort((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1)),
      policies: sortPolicies([...plain.policies, ...policies.map(({ written }) => written)]),
    },
    byHand: {
      models,
      tiers,
      hosts: new Map(devices.map((device) => [device, hostEndpoint(device, models, tiers)])),
    },
  };
}

/** No kind is for host endpoints yet. */
export function deviceKey(device: EndpointId): Key {
  return { kind: "Node", namespace: undefined, name: device };
}

function tiersOf(random: Random): Map<string, TierModel> {
  const otherwise = (): TierModel["otherwise"] => random.pick(["deny", "pass"]);
  return new Map([
    ...BUILT_IN_TIERS,
    ["first", { name: "first", order: 10, otherwise: otherwise() }],
    ["same", { name: "same", order: 10, otherwise: otherwise() }],
    ["last", { name: "last", order: Number.POSITIVE_INFINITY, otherwise: otherwise() }],
  ]);
}

function hostEndpoint(
  device: EndpointId,
  models: readonly PolicyModel[],
  tiers: ReadonlyMap<string, TierModel>,
): Endpoint {
  const selecting = models.filter(({ key }) => key.namespace === undefined);
  const stages: { -readonly [H in Hook]?: { [D in Direction]?: ReturnType<typeof stageOf> } } = {};
  for (const hook of HOOKS) {
    for (const direction of DIRECTIONS) {
      const stage = stageOf(selecting, tiers, { kind: "host", hook, direction });
      if (hook === "normal" || stage.tiers.length > 0) stages[hook] = { ...stages[hook], [direction]: stage };
    }
  }
  return { kind: "host", source: deviceKey(device), addresses: [], stages: stages as Stages };
}

function podPolicy(random: Random, name: string, tier: string): HandPolicy {
  const namespace = random.pick(NAMESPACES);
  const selector = randomSelector(random);
  const { selects } = convert(namespace, { podSelector: selector });
  return policy(random, {
    name,
    namespace,
    tier,
    selector,
    selects,
    hooks: ["normal"],
    peer: () => randomPeer(random),
  });
}

function hostPolicy(random: Random, name: string, tier: string): HandPolicy {
  const hooks = random.pick<readonly Hook[]>([["normal"], ["normal", "forward"], ["pre-dnat"], ["untracked"]]);
  const selects = { op: "equal", label: "role", value: HOST_LABELS.role } as const;
  return policy(random, {
    name,
    namespace: undefined,
    tier,
    selector: { matchLabels: HOST_LABELS },
    selects,
    hooks,
    // A peer that selects pods is of a namespace.
    peer: () => blockPeer(random),
  });
}

function blockPeer(random: Random): NetworkPolicyPeer {
  for (;;) {
    const peer = randomPeer(random);
    if (peer.ipBlock) return peer;
  }
}

interface Words {
  readonly name: string;
  readonly namespace: string | undefined;
  readonly tier: string;
  readonly selector: LabelSelector;
  readonly selects: PolicyModel["selects"];
  readonly hooks: readonly Hook[];
  readonly peer: () => NetworkPolicyPeer;
}

function policy(random: Random, words: Words): HandPolicy {
  const { name, namespace, tier, selector, selects, hooks } = words;
  const key: Key = { kind: "KubernetesNetworkPolicy", namespace, name };
  const order = random.pick([1, 5, 1000, Number.POSITIVE_INFINITY]);
  const rules = (direction: Direction, percent: number): HandRule[] | undefined =>
    random.chance(percent) ? random.some(0, 4, () => rule(random, words, direction)) : undefined;
  const ingress = rules("ingress", 85);
  const egress = hooks.includes("pre-dnat") ? undefined : rules("egress", 75);
  const common = { key, tier, order, hooks };
  return {
    written: {
      ...common,
      namespace,
      state: "valid",
      errors: [],
      selector,
      ingress: ingress?.map(({ written }) => written),
      egress: egress?.map(({ written }) => written),
    },
    model: {
      ...common,
      selects,
      ingress: ingress?.map(({ model }) => model),
      egress: egress?.map(({ model }) => model),
      error: undefined,
    },
  };
}

interface HandRule {
  readonly written: WrittenRule;
  readonly model: RuleModel;
}

/** Absent most of the time, so that rules match now and then. */
function maybe<T>(random: Random, percent: number, make: () => T): T | undefined {
  return random.chance(percent) ? make() : undefined;
}

function rule(random: Random, words: Words, direction: Direction): HandRule {
  const action = random.pick<Action>(["allow", "allow", "deny", "pass", "log"]);
  const protocol = maybe(random, 30, () => randomProtocol(random));
  const common = {
    action,
    ...given(
      "ipVersion",
      maybe(random, 10, () => random.pick([4, 6] as const)),
    ),
    ...given("protocol", protocol),
    ...given(
      "notProtocol",
      maybe(random, 15, () => randomProtocol(random)),
    ),
    ...given(
      "icmp",
      maybe(random, 12, () => randomIcmp(random)),
    ),
    ...given(
      "notIcmp",
      maybe(random, 12, () => randomIcmp(random)),
    ),
  };
  const source = side(random, words, direction, "source");
  const destination = side(random, words, direction, "destination");
  return {
    written: { ...common, source: source.written, destination: destination.written },
    model: { ...common, source: source.model, destination: destination.model },
  };
}

function given<K extends string, T>(name: K, value: T | undefined): { readonly [N in K]?: T } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [N in K]?: T });
}

function randomProtocol(random: Random): Protocol {
  return random.pick<Protocol>([TCP, TCP, UDP, SCTP, ICMP, ICMPV6, 47 as Protocol]);
}

function randomIcmp(random: Random): { protocol: Protocol; type: number; code?: number } {
  const code = maybe(random, 50, () => random.pick(ICMP_CODES));
  return {
    protocol: random.pick([ICMP, ICMPV6]),
    type: random.pick(ICMP_TYPES),
    ...(code === undefined ? {} : { code }),
  };
}

interface HandSide {
  readonly written: WrittenSide;
  readonly model: Entity;
}

function side(random: Random, words: Words, direction: Direction, which: "source" | "destination"): HandSide {
  const peers = (): NetworkPolicyPeer[] => random.some(0, 3, words.peer);
  // Where port names are those of the peers, one list of peers says whose.
  const among = random.some(0, random.chance(80) ? 1 : which === "source" ? 2 : 1, peers);
  const notAmong = maybe(random, 20, peers);
  const ports = maybe(random, 30, () => somePorts(random, which));
  const notPorts = maybe(random, 25, () => somePorts(random, which));
  const portModels = (list: readonly NetworkPolicyPort[]): readonly PortModel[] =>
    convertPorts(words, direction, which === "source" ? [] : among, list);
  return {
    written: {
      ...given("among", among.length === 0 ? undefined : among),
      ...given("notAmong", notAmong),
      ...given("ports", ports),
      ...given("notPorts", notPorts),
    },
    model: {
      in: among.map((list) => convertPeers(words.namespace, list)),
      notIn: notAmong === undefined ? [] : [convertPeers(words.namespace, notAmong)],
      ...(ports === undefined ? {} : { ports: portModels(ports) }),
      ...(notPorts === undefined ? {} : { notPorts: portModels(notPorts) }),
    },
  };
}

/** Nobody has names for the ports that packets come from. */
function somePorts(random: Random, which: "source" | "destination"): NetworkPolicyPort[] {
  const ports = random.some(0, random.chance(15) ? 16 : 3, () => randomPort(random));
  return which === "destination" ? ports : ports.filter(({ port }) => typeof port !== "string");
}

function convert(namespace: string | undefined, spec: NetworkPolicySpec): PolicyModel {
  return policyOfNetworkPolicy({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "x", namespace: namespace ?? "default" },
    spec,
  });
}

/** No peers: no address. */
function convertPeers(namespace: string | undefined, peers: readonly NetworkPolicyPeer[]): AddressesModel {
  if (peers.length === 0) return {};
  const model = convert(namespace, { podSelector: {}, ingress: [{ from: [...peers] }] });
  const [addresses] = model.ingress?.[0]?.source.in ?? [];
  if (addresses === undefined) throw new Error(`cannot convert ${JSON.stringify(peers)}: ${model.error}`);
  return addresses;
}

function convertPorts(
  { namespace, selector, selects }: Words,
  direction: Direction,
  among: readonly (readonly NetworkPolicyPeer[])[],
  ports: readonly NetworkPolicyPort[],
): readonly PortModel[] {
  if (ports.length === 0) return [];
  const [to] = among;
  // No peers at all: nobody's names.
  if (direction === "egress" && to?.length === 0)
    return convertPorts({ ...NOBODY, namespace, selector, selects }, "egress", [], ports).map((port) =>
      port.type === "named" ? { ...port, holders: { op: "or", of: [] } } : port,
    );
  const model =
    direction === "ingress"
      ? convert(namespace, { podSelector: selector, ingress: [{ ports: [...ports] }] })
      : convert(namespace, {
          podSelector: {},
          egress: [{ ...(to === undefined ? {} : { to: [...to] }), ports: [...ports] }],
        });
  const converted = model[direction]?.[0]?.destination.ports;
  if (converted === undefined) throw new Error(`cannot convert ${JSON.stringify(ports)}: ${model.error}`);
  if (direction === "egress" || namespace !== undefined) return converted;
  return converted.map((port) => (port.type === "named" ? { ...port, holders: selects } : port));
}

const NOBODY = { name: "", tier: "", hooks: [], peer: (): NetworkPolicyPeer => ({}) } as const;
