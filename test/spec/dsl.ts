/**
 * Spec language: small clusters in a few words, and verdict–packet tables of lines such as `alpha/web → alpha/db/tcp:80 allow`.
 *
 * A line is judged three times: by the definition (semantics), by the program that the graph makes of the same resources, and by what the
 * table says; all must agree.
 */
import { expect } from "bun:test";
import { load } from "js-yaml";
import { Graph } from "../../src/calc/graph.ts";
import { endpointOfPod } from "../../src/model/convert/pod.ts";
import { formatKey, formatName, type Key } from "../../src/model/key.ts";
import { addressOfNet } from "../../src/model/kinds/workload-endpoint.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Verdict } from "../../src/model/verdict.ts";
import { type Addr, parseAddr } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP, UDPLITE } from "../../src/net/protocol.ts";
import { evaluate } from "../../src/program/evaluate.ts";
import type { EndpointId } from "../../src/program/program.ts";
import type { ClusterResources } from "../../src/semantics/cluster.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { journey } from "../../src/semantics/journey.ts";
import { blockHolding } from "../property/clusters.ts";
import { updatesOf } from "../property/updates.ts";

export interface PodWords {
  readonly labels?: Record<string, string>;
  readonly addresses?: readonly string[];
  readonly node?: string;
  readonly phase?: string;
  readonly annotations?: Record<string, string>;
  readonly hostNetwork?: boolean;
  readonly serviceAccount?: string;
  /** `http=80/tcp` */
  readonly ports?: readonly string[];
  readonly initPorts?: readonly string[];
}

export interface World {
  readonly namespaces?: Readonly<Record<string, Record<string, string>>>;
  /** By `namespace/name`. */
  readonly pods: Readonly<Record<string, PodWords>>;
  /** YAML of `spec` by `namespace/name`. */
  readonly policies?: Readonly<Record<string, string>>;
  readonly nodes?: Readonly<Record<string, readonly string[]>>;
  /** YAML of further objects, several documents: `- {kind: Tier, metadata: …, spec: …}`, Calico's kinds, ServiceAccounts and EndpointSlices. */
  readonly objects?: string;
  /** By CIDR: the pod (`namespace/name`) for which the block records each address. */
  readonly blocks?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export function resourcesOf(world: World): ClusterResources {
  return {
    pods: Object.entries(world.pods).map(([path, words]) => podResource(path, words)),
    namespaces: Object.entries(world.namespaces ?? {}).map(([name, labels]) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, labels },
    })),
    networkPolicies: Object.entries(world.policies ?? {}).map(([path, text]) => policyResource(path, text)),
    ...objectsOf(world.objects ?? "[]"),
    blocks: Object.entries(world.blocks ?? {}).map(([cidr, held]) =>
      blockHolding(
        cidr,
        "host:n1",
        new Map(Object.entries(held).map(([addr, path]) => [addr as Addr, metadataOf(path)])),
      ),
    ),
    nodes: Object.entries(world.nodes ?? {}).map(([name, addresses]) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name },
      status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
    })),
  };
}

/** Where objects of a kind are listed. */
const LISTS = {
  NetworkPolicy: "calicoPolicies",
  GlobalNetworkPolicy: "globalPolicies",
  Tier: "tiers",
  NetworkSet: "networkSets",
  GlobalNetworkSet: "globalNetworkSets",
  HostEndpoint: "hostEndpoints",
  WorkloadEndpoint: "workloadEndpoints",
  Profile: "profiles",
  EndpointSlice: "endpointSlices",
  ServiceAccount: "serviceAccounts",
} as const;

function objectsOf(text: string): Partial<ClusterResources> {
  const lists: Partial<Record<(typeof LISTS)[keyof typeof LISTS], object[]>> = {};
  for (const object of load(text) as { readonly kind: keyof typeof LISTS }[]) {
    const list = LISTS[object.kind];
    if (list === undefined) throw new Error(`the spec language has no ${object.kind}`);
    (lists[list] ??= []).push({ apiVersion: "projectcalico.org/v3", ...object });
  }
  return lists as Partial<ClusterResources>;
}

export function policyResource(path: string, spec: string): Resource<"KubernetesNetworkPolicy"> {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: metadataOf(path),
    spec: load(spec) as NonNullable<Resource<"KubernetesNetworkPolicy">["spec"]>,
  };
}

export function podResource(path: string, words: PodWords): Resource<"Pod"> {
  const metadata = {
    ...metadataOf(path),
    labels: words.labels ?? {},
    ...(words.annotations === undefined ? {} : { annotations: words.annotations }),
  };
  const spec = {
    ...(words.node === "" ? {} : { nodeName: words.node ?? "n1" }),
    containers: [{ name: "main", ports: (words.ports ?? []).map(containerPort) }],
    initContainers: [{ name: "init", ports: (words.initPorts ?? []).map(containerPort) }],
    ...(words.hostNetwork === undefined ? {} : { hostNetwork: words.hostNetwork }),
    ...(words.serviceAccount === undefined ? {} : { serviceAccountName: words.serviceAccount }),
  };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec,
    status: { phase: words.phase ?? "Running", podIPs: (words.addresses ?? []).map((ip) => ({ ip })) },
  };
}

function metadataOf(path: string): { namespace: string; name: string } {
  const [namespace = "", name = ""] = path.split("/");
  return { namespace, name };
}

function containerPort(text: string): { name: string; containerPort: number; protocol: string } {
  const [, name = "", port = "", protocol = ""] = /^(.+)=(\d+)\/(\w+)$/.exec(text) ?? [];
  return { name, containerPort: Number(port), protocol: protocol.toUpperCase() };
}

/** Checks every line of the table: `FROM → TO/PROTOCOL[:PORT] allow|deny [what decided]`; FROM and TO are pods or workloads of WorkloadEndpoints (both families are tried), or addresses. */
export function expectVerdicts(world: World, table: string): void {
  const resources = resourcesOf(world);
  for (const line of table
    .split("\n")
    .map((text) => text.trim())
    .filter((text) => text !== "")) {
    const match = /^(\S+) → (\S+?)\/(tcp|udp|sctp|icmp|udplite|47)(?::(\d+))? (allow|deny)(?: (.+))?$/.exec(line);
    if (match === null) throw new Error(`cannot read the line ${JSON.stringify(line)}`);
    const [, from = "", to = "", protocol = "", port, action = "", reason] = match;
    const packets = packetsBetween(resources, from, to, protocol, port === undefined ? undefined : Number(port));
    if (packets.length === 0) throw new Error(`no packet can be made of ${JSON.stringify(line)}`);
    for (const packet of packets) expectVerdict(resources, packet, line, action, reason);
  }
}

function expectVerdict(
  resources: ClusterResources,
  packet: FlowPacket,
  line: string,
  action: string,
  reason: string | undefined,
): void {
  const { egress, ingress } = journey(clusterOf(resources), packet);
  const allowed = egress.action === "allow" && ingress.action === "allow";
  const deciding =
    egress.action === "deny" || (ingress.action === "allow" && ingress.reason.type !== "rule")
      ? [egress, ingress]
      : [ingress];
  expect(`${line}: ${allowed ? "allow" : "deny"}`).toBe(`${line}: ${action}`);
  if (reason !== undefined) expect(deciding.map(describe)).toContain(reason);
  for (const verdict of [egress, ingress]) if (isEvaluated(verdict)) expectProgram(resources, packet, verdict, line);
}

function isEvaluated(verdict: Verdict): boolean {
  return (
    verdict.reason.type === "rule" ||
    verdict.reason.type === "no-rule-matched" ||
    verdict.reason.type === "end" ||
    verdict.reason.type === "not-isolated"
  );
}

/** The program of the pod's node, whose endpoints are all pods with an address, must say the same. */
function expectProgram(resources: ClusterResources, packet: FlowPacket, wanted: Verdict, line: string): void {
  const direction = "direction" in wanted.reason ? wanted.reason.direction : "ingress";
  const own = direction === "ingress" ? packet.destination : packet.source;
  const expectSame = (graph: Graph, id: string, key: Key): void => {
    const found = evaluate(graph.program, id as EndpointId, direction, packet);
    expect(`${line} (program, ${formatKey(key)}): ${describe(found)}`).toBe(
      `${line} (program, ${formatKey(key)}): ${describe(wanted)}`,
    );
  };
  for (const resource of resources.pods) {
    const pod = endpointOfPod(resource);
    if (!pod.ok || !pod.value.addresses.includes(own)) continue;
    const graph = graphOf(resources, pod.value.node ?? "");
    graph.setCniRecord({
      containerId: "c",
      pod: keyOf("Pod", resource),
      interface: "cali0",
      addresses: pod.value.addresses,
      mac: "",
      netns: "",
      podInterface: "eth0",
    });
    graph.flush();
    expectSame(graph, "cali0", keyOf("Pod", resource));
  }
  for (const machine of resources.workloadEndpoints ?? []) {
    if (!machineAddresses(machine).includes(own)) continue;
    const graph = graphOf(resources, machine.spec.node);
    graph.flush();
    expectSame(graph, machine.spec.interfaceName, keyOf("WorkloadEndpoint", machine));
  }
}

/** Machines have interfaces `tap…`. */
function graphOf(resources: ClusterResources, node: string): Graph {
  const graph = new Graph({ node, given: { interfacePrefixes: ["tap"] } });
  graph.update([...updatesOf(resources)]);
  return graph;
}

function machineAddresses({ spec }: Resource<"WorkloadEndpoint">): Addr[] {
  return (spec.ipNetworks ?? []).flatMap((text) => addressOfNet(text) ?? []);
}

/** `ingress rule 0 of alpha/p`, `no ingress rule of alpha/p, alpha/q`, `not isolated`, `own node`, `itself`, `no pod`. */
export function describe({ reason }: Verdict): string {
  switch (reason.type) {
    case "rule":
      return `${reason.direction} rule ${reason.index} of ${formatName(reason.policy)}`;
    case "no-rule-matched":
      return `no ${reason.direction} rule of ${reason.policies.map(formatName).join(", ")}`;
    case "end":
      return "end";
    case "not-isolated":
      return "not isolated";
    case "own-node":
      return "own node";
    case "itself":
      return "itself";
    case "not-a-pod":
      return "no pod";
  }
}

const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  tcp: TCP,
  udp: UDP,
  sctp: SCTP,
  udplite: UDPLITE,
  "47": 47 as Protocol,
};

function packetsBetween(
  resources: ClusterResources,
  from: string,
  to: string,
  protocol: string,
  port: number | undefined,
): FlowPacket[] {
  return addressesOf(resources, from).flatMap((source) =>
    addressesOf(resources, to)
      .filter((destination) => destination.includes(":") === source.includes(":"))
      .map((destination) => ({
        source,
        destination,
        protocol: PROTOCOLS[protocol] ?? (source.includes(":") ? ICMPV6 : ICMP),
        sourcePort: port === undefined ? undefined : 40000,
        destinationPort: port,
      })),
  );
}

function addressesOf(resources: ClusterResources, name: string): Addr[] {
  const addr = parseAddr(name);
  if (addr.ok) return [addr.value];
  const machine = resources.workloadEndpoints?.find(
    ({ metadata, spec }) => `${metadata.namespace}/${spec.workload}` === name,
  );
  if (machine !== undefined) return machineAddresses(machine);
  const pod = resources.pods.find(({ metadata }) => `${metadata.namespace}/${metadata.name}` === name);
  return (pod?.status?.podIPs ?? []).flatMap(({ ip }) => {
    const own = parseAddr(ip ?? "");
    return own.ok ? [own.value] : [];
  });
}
