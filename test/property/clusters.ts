/**
 * Clusters: random but small clusters with everything in them that policy implementations get wrong, and packets near every boundary
 * that the policies draw. All follows from the seed.
 */
import type { CniRecord, WorkloadKey } from "../../src/model/endpoint.ts";
import { formatKey } from "../../src/model/key.ts";
import type { Direction } from "../../src/model/policy.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import { endpointOfPod } from "../../src/model/convert/pod.ts";
import { SOURCES_ANNOTATION } from "../../src/model/kubernetes/pod-annotations.ts";
import { addressOfNet } from "../../src/model/kinds/workload-endpoint.ts";
import {
  type Addr,
  addrFromInteger,
  addrToInteger,
  bitsOf,
  type Family,
  familyOf,
  parseAddr,
} from "../../src/net/addr.ts";
import type { FlowPacket, Icmp } from "../../src/net/flow.ts";
import { parsePrefix, prefixRange } from "../../src/net/prefix.ts";
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP, UDPLITE } from "../../src/net/protocol.ts";
import type { ClusterResources } from "../../src/semantics/cluster.ts";
import { type CalicoObjects, NO_CALICO_OBJECTS, randomCalicoObjects, sourcePrefixes } from "./calico-policies.ts";
import { randomPolicy } from "./policies.ts";
import { Random } from "./random.ts";
import { randomStagedObjects, type StagedObjects } from "./staged-policies.ts";
import type { Container } from "kubernetes-types/core/v1";

export interface RandomCluster
  extends Required<ClusterResources>, Pick<CalicoObjects, "felixConfigurations">, StagedObjects {
  readonly seed: number;
  /** One for each pod that can be wired, on the pod's node. */
  readonly records: readonly CniRecord[];
}

/** One question to both statements of meaning: this packet at this end. */
export interface Probe {
  readonly pod: WorkloadKey;
  readonly direction: Direction;
  readonly packet: FlowPacket;
}

export const NODES = ["n1", "n2"] as const;
export const NAMESPACES = ["alpha", "beta", "gamma"] as const;
const POOL_SIZE = 24;

export function poolAddress(family: Family, ordinal: number): string {
  return family === 4 ? `10.65.0.${ordinal}` : `fd00:65::${ordinal.toString(16)}`;
}

export function randomCluster(seed: number): RandomCluster {
  const random = new Random(seed);
  const free = random.shuffle(Array.from({ length: POOL_SIZE }, (_, i) => i + 1));
  const live = random.some(3, 9, (index) => livePod(random, `pod-${index}`, addressesAt(random, free.pop() ?? 0)));
  const ghosts = random.some(0, 4, (index) => ghostPod(random, `ghost-${index}`, random.pick(live)));
  // An old owner and a new one, both alive for a moment.
  const twins = random.chance(10)
    ? [
        livePod(
          random,
          "twin",
          (random.pick(live).status?.podIPs ?? []).map(({ ip }) => ip ?? ""),
        ),
      ]
    : [];
  const settled = [...live, ...ghosts, ...twins];
  // Their kubelets have not reported them yet.
  const early = random.some(0, 2, (index) =>
    claimingPod(random, `early-${index}`, addressesAt(random, free.pop() ?? 0)),
  );
  const liars = random.some(0, 2, (index) =>
    claimingPod(random, `liar-${index}`, claimsOf(random, random.pick([...live, ...early]), free)),
  );
  const pods = [...settled, ...early, ...liars];
  const blocks = blocksOf(random, [...live, ...early]);
  // Kubernetes' policies alone, and beside Calico's.
  const calico = seed % 2 === 0 ? NO_CALICO_OBJECTS : randomCalicoObjects(new Random(seed ^ 0xca11c0));
  const namespaces = random.subset(NAMESPACES, 85).map((name) => namespaceNamed(random, name));
  const networkPolicies = policiesOf(random);
  return {
    ...calico,
    ...randomStagedObjects(new Random(seed ^ 0x57a6ed), { ...calico, networkPolicies }, calico !== NO_CALICO_OBJECTS),
    seed,
    pods,
    blocks,
    namespaces,
    serviceAccounts: [
      {
        apiVersion: "v1",
        kind: "ServiceAccount",
        metadata: { name: "robot", namespace: "alpha", labels: { app: "web" } },
      },
    ],
    networkPolicies,
    nodes: NODES.map((name, i) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name },
      status: {
        addresses: [
          { type: "InternalIP", address: `192.0.2.${i + 1}` },
          { type: "InternalIP", address: `2001:db8::${i + 1}` },
        ],
      },
    })),
    records: pods.flatMap((pod, index) =>
      recordOf(pod, index, (addr) => holderIn(blocks, addr) === formatKey(keyOf("Pod", pod))),
    ),
  };
}

/** A pod that has these addresses by annotation alone. */
export function claimingPod(random: Random, name: string, addresses: readonly string[]): Resource<"Pod"> {
  const pod = livePod(random, name, []);
  const [first = ""] = addresses;
  const many = addresses
    .map((addr) => `${addr}${random.chance(50) ? `/${addr.includes(":") ? 128 : 32}` : ""}`)
    .join(random.pick([",", ", "]));
  const annotations = random.chance(80)
    ? { "cni.projectcalico.org/podIPs": many }
    : { "cni.projectcalico.org/podIP": first };
  return { ...pod, metadata: { ...pod.metadata, annotations }, status: { phase: "Pending" } };
}

/** What somebody without an address of his own would like to have: another's, one that nobody has, one outside. */
function claimsOf(random: Random, other: Resource<"Pod">, free: readonly number[]): string[] {
  const claims = [
    ...addressesNamedBy(other),
    ...(free[0] === undefined ? [] : [poolAddress(4, free[0]), poolAddress(6, free[0])]),
    "198.51.100.7",
    "2001:db8:1::7",
  ];
  return random.shuffle(random.subset(claims, 60)).concat(claims[0] ?? "198.51.100.7");
}

/** Addresses of status and annotation. */
function addressesNamedBy(pod: Resource<"Pod">): readonly Addr[] {
  const model = endpointOfPod(pod);
  return model.ok ? model.value.addresses : [];
}

const BLOCKS = ["10.65.0.0/26", "fd00:65::/122"] as const;

/** IPAM's blocks, in which most of the pods' addresses are recorded, a few not yet, and a few for a pod of the same name elsewhere. */
function blocksOf(random: Random, pods: readonly Resource<"Pod">[]): Resource<"IPAMBlock">[] {
  const holders = new Map<Addr, { namespace: string; name: string }>();
  for (const pod of pods) {
    const { namespace = "default", name } = pod.metadata;
    for (const addr of addressesNamedBy(pod))
      if (random.chance(85))
        holders.set(addr, { name, namespace: random.chance(90) ? namespace : random.pick(NAMESPACES) });
  }
  return BLOCKS.map((cidr) => blockHolding(cidr, random.pick(["host:n1", "host:n2"]), holders));
}

export function blockHolding(
  cidr: string,
  affinity: string | undefined,
  holders: ReadonlyMap<Addr, { readonly namespace: string; readonly name: string }>,
): Resource<"IPAMBlock"> {
  const prefix = parsePrefix(cidr);
  const range = prefix.ok ? prefixRange(prefix.value) : undefined;
  const allocations: (number | null)[] = [];
  const attributes: { handle_id: string; secondary: Record<string, string> }[] = [];
  for (let value = range?.first ?? 1n; value <= (range?.last ?? 0n); value++) {
    const holder = holders.get(addrFromInteger(range?.family ?? 4, value));
    allocations.push(holder === undefined ? null : attributes.length);
    if (holder !== undefined)
      attributes.push({
        handle_id: `h.${holder.name}`,
        secondary: { namespace: holder.namespace, pod: holder.name, node: "n1" },
      });
  }
  const spec = {
    cidr,
    ...(affinity === undefined ? {} : { affinity }),
    allocations,
    unallocated: [],
    attributes,
    sequenceNumber: 0,
    sequenceNumberForAllocation: {},
    strictAffinity: false,
  };
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMBlock",
    metadata: { name: cidr.replaceAll(/[^a-z0-9]/g, "-") },
    spec,
  };
}

/** The text of the key of the pod for which a block records the address. */
function holderIn(blocks: readonly Resource<"IPAMBlock">[], addr: Addr): string | undefined {
  for (const { spec } of blocks) {
    const prefix = parsePrefix(spec.cidr);
    if (!prefix.ok || prefixRange(prefix.value).family !== familyOf(addr)) continue;
    const index = spec.allocations[Number(addrToInteger(addr) - prefixRange(prefix.value).first)];
    const { namespace = "", pod = "" } =
      (typeof index === "number" ? spec.attributes[index]?.secondary : undefined) ?? {};
    if (pod !== "") return formatKey({ kind: "Pod", namespace, name: pod });
  }
  return undefined;
}

function policiesOf(random: Random): Resource<"KubernetesNetworkPolicy">[] {
  const named = new Map<string, Resource<"KubernetesNetworkPolicy">>();
  for (const policy of random.some(0, 7, () => randomPolicy(random)))
    named.set(formatKey(keyOf("KubernetesNetworkPolicy", policy)), policy);
  return [...named.values()];
}

function addressesAt(random: Random, ordinal: number): string[] {
  const both = [poolAddress(4, ordinal), poolAddress(6, ordinal)];
  return random.chance(70) ? both : [random.pick(both)];
}

export function namespaceNamed(random: Random, name: string): Resource<"Namespace"> {
  const labels = {
    ...(random.chance(70) ? { team: random.pick(["red", "blue"]) } : {}),
    ...(random.chance(30) ? { "projectcalico.org/name": "mask" } : {}),
  };
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}

export function randomLabels(random: Random): Record<string, string> {
  const labels: Record<string, string> = {};
  if (random.chance(70)) labels["app"] = random.pick(["web", "db"]);
  if (random.chance(40)) labels["role"] = random.pick(["", "front"]);
  // Labels that pretend to be inherited or given.
  if (random.chance(15)) labels["pcns.team"] = random.pick(["red", "blue"]);
  if (random.chance(5)) labels["projectcalico.org/namespace"] = random.pick(NAMESPACES);
  if (random.chance(5)) labels["projectcalico.org/serviceaccount"] = "root";
  return labels;
}

export function livePod(random: Random, name: string, addresses: readonly string[]): Resource<"Pod"> {
  const sources = random.chance(60) ? { [SOURCES_ANNOTATION]: JSON.stringify(sourcePrefixes(random)) } : undefined;
  const metadata = {
    name,
    namespace: random.pick(NAMESPACES),
    labels: randomLabels(random),
    ...(sources === undefined ? {} : { annotations: sources }),
  };
  const spec = {
    nodeName: random.pick(NODES),
    containers: [container(random), container(random)],
    initContainers: random.some(0, 1, () => container(random)),
    ...(random.chance(30) ? { serviceAccountName: "robot" } : {}),
  };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec,
    status: { phase: random.pick(["Running", "Pending"]), podIPs: addresses.map((ip) => ({ ip })) },
  };
}

function container(random: Random): Container {
  const ports = random.some(0, 2, () => ({
    containerPort: random.pick([53, 80, 81, 8080]),
    ...(random.chance(80) ? { name: random.pick(["http", "dns"]) } : {}),
    ...(random.chance(60) ? { protocol: random.pick(["TCP", "UDP", "SCTP"]) } : {}),
  }));
  return { name: "c", ports };
}

/** A pod that has, or seems to have, an address of another pod, and takes no part. */
function ghostPod(random: Random, name: string, owner: Resource<"Pod">): Resource<"Pod"> {
  const pod = livePod(
    random,
    name,
    (owner.status?.podIPs ?? []).map(({ ip }) => ip ?? ""),
  );
  const spec = pod.spec ?? { containers: [] };
  const { nodeName: _, ...unscheduled } = spec;
  switch (random.below(4)) {
    case 0:
      return { ...pod, status: { ...pod.status, phase: random.pick(["Succeeded", "Failed"]) } };
    case 1:
      return { ...pod, metadata: { ...pod.metadata, annotations: { "cni.projectcalico.org/podIP": "" } } };
    case 2:
      return { ...pod, spec: { ...spec, hostNetwork: true } };
    default:
      return { ...pod, spec: unscheduled };
  }
}

/** `isRecorded`: whether a block records the address for the pod, which counts for annotated ones. */
export function recordOf(
  resource: Resource<"Pod">,
  index: number,
  isRecorded: (addr: Addr) => boolean = () => true,
): CniRecord[] {
  const pod = endpointOfPod(resource);
  if (!pod.ok) return [];
  const addresses =
    pod.value.addressesFrom === "annotation" ? pod.value.addresses.filter(isRecorded) : pod.value.addresses;
  if (addresses.length === 0) return [];
  const id = index.toString(16).padStart(11, "0");
  return [
    {
      containerId: `container-${id}`,
      pod: keyOf("Pod", resource),
      interface: `cali${id}`,
      addresses,
      mac: "ee:ee:ee:ee:ee:ee",
      netns: `/run/netns/${id}`,
      podInterface: "eth0",
    },
  ];
}

/** The pods that can be wired, and the WorkloadEndpoints that have addresses. */
function endsOf(cluster: RandomCluster): { readonly key: WorkloadKey; readonly addresses: readonly Addr[] }[] {
  const machines = cluster.workloadEndpoints.map((machine) => ({
    key: keyOf("WorkloadEndpoint", machine),
    addresses: (machine.spec.ipNetworks ?? []).flatMap((text) => addressOfNet(text) ?? []),
  }));
  return [
    ...cluster.records.map(({ pod: key, addresses }) => ({ key, addresses })),
    ...machines.filter(({ addresses }) => addresses.length > 0),
  ];
}

/** Packets at the ends of the cluster's pods and WorkloadEndpoints, near the edges of whatever its policies say. */
export function randomPackets(cluster: RandomCluster, count: number, seed: number): Probe[] {
  const random = new Random(seed);
  const edges = edgesOf(cluster);
  const ends = endsOf(cluster);
  if (ends.length === 0) return [];
  return Array.from({ length: count }, () => {
    const end = random.pick(ends);
    const own = random.pick(end.addresses);
    const direction: Direction = random.chance(50) ? "ingress" : "egress";
    const other = random.pick(familyOf(own) === 4 ? edges.addresses4 : edges.addresses6);
    const protocol = random.pick<Protocol>([
      TCP,
      TCP,
      TCP,
      UDP,
      UDP,
      SCTP,
      UDPLITE,
      familyOf(own) === 4 ? ICMP : ICMPV6,
      47 as Protocol,
    ]);
    const ports = hasPorts(protocol)
      ? { sourcePort: random.pick(edges.ports), destinationPort: random.pick(edges.ports) }
      : { sourcePort: undefined, destinationPort: undefined };
    const both = direction === "ingress" ? { source: other, destination: own } : { source: own, destination: other };
    const icmp = protocol === ICMP || protocol === ICMPV6 ? { icmp: randomIcmp(random) } : {};
    return { pod: end.key, direction, packet: { ...both, protocol, ...ports, ...icmp } };
  });
}

/** Echo, unreachable and time exceeded of either version: routers forward them all. */
export const ICMP_TYPES = [0, 1, 3, 8, 11, 128, 129] as const;
export const ICMP_CODES = [0, 1, 3] as const;

function randomIcmp(random: Random): Icmp {
  return { type: random.pick(ICMP_TYPES), code: random.pick(ICMP_CODES) };
}

interface Edges {
  readonly addresses4: readonly Addr[];
  readonly addresses6: readonly Addr[];
  readonly ports: readonly number[];
}

function edgesOf(cluster: RandomCluster): Edges {
  const addresses = new Set<Addr>();
  for (const pod of cluster.pods) {
    for (const addr of addressesNamedBy(pod)) addresses.add(addr);
    for (const { ip } of pod.status?.podIPs ?? []) addAddress(addresses, ip ?? "");
  }
  for (const { addresses: own } of endsOf(cluster)) for (const addr of own) addresses.add(addr);
  for (const node of cluster.nodes)
    for (const { address } of node.status?.addresses ?? []) addAddress(addresses, address);
  const ports = new Set([1, 22, 53, 80, 81, 8080, 65535]);
  const policies = [cluster.networkPolicies, cluster.calicoPolicies, cluster.globalPolicies];
  walk([...policies, cluster.networkSets, cluster.globalNetworkSets], (field, value) => {
    if (typeof value === "string" && value.includes("/")) addBlockEdges(addresses, value);
    if (typeof value === "number" && ["port", "endPort", "ports", "notPorts"].includes(field))
      for (const port of [value - 1, value, value + 1]) if (port >= 1 && port <= 65535) ports.add(port);
  });
  for (const text of ["198.51.100.7", "2001:db8:1::7"]) addAddress(addresses, text);
  const all = [...addresses];
  return {
    addresses4: all.filter((addr) => familyOf(addr) === 4),
    addresses6: all.filter((addr) => familyOf(addr) === 6),
    ports: [...ports],
  };
}

function addAddress(addresses: Set<Addr>, text: string): void {
  const addr = parseAddr(text);
  if (addr.ok) addresses.add(addr.value);
}

/** Both ends of a block, and what lies beyond them. */
function addBlockEdges(addresses: Set<Addr>, text: string): void {
  const prefix = parsePrefix(text);
  if (!prefix.ok) return;
  const { family, first, last } = prefixRange(prefix.value);
  const end = (1n << BigInt(bitsOf(family))) - 1n;
  for (const value of [first - 1n, first, last, last + 1n])
    if (value >= 0n && value <= end) addresses.add(addrFromInteger(family, value));
}

function walk(value: unknown, visit: (field: string, value: unknown) => void, field = ""): void {
  visit(field, value);
  if (Array.isArray(value)) for (const item of value) walk(item, visit, field);
  else if (typeof value === "object" && value !== null)
    for (const [name, child] of Object.entries(value)) walk(child, visit, name);
}

/** Whether packets of the protocol begin with source and destination ports. */
export function hasPorts(protocol: Protocol): boolean {
  return protocol === TCP || protocol === UDP || protocol === SCTP || protocol === UDPLITE;
}
