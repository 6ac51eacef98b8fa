/** What `calicoctl why` calls certain, although addresses, labels and endpoints are not known, holds however they turn out to be. */
import { expect, test } from "bun:test";
import { formatName } from "../../src/model/key.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import { type Addr, familyOf } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import type { ClusterResources } from "../../src/semantics/cluster.ts";
import { isAllowed, journey } from "../../src/semantics/journey.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { explainer, type Party } from "../../src/verify/explain.ts";
import { NAMESPACE_NAME_LABEL, placeholders } from "../../src/verify/placeholders.ts";
import { hasPorts, isIcmp, type Range, representative, type Traffic } from "../../src/verify/traffic.ts";
import { endpointSlice } from "./calico-policies.ts";
import { namespaceNamed, NAMESPACES, type RandomCluster, randomCluster, randomPackets } from "./clusters.ts";
import { Random } from "./random.ts";

const CLUSTERS = 120;
const COMPLETIONS = 12;
const FIRST_SEED = 6_000_000;
/** Of nothing that is hidden. */
const OUTSIDE = ["198.51.100.7", "2001:db8:1::7", "10.65.0.7"] as Addr[];

/** What of a cluster is hidden. */
interface Hidden {
  /** Of pods, by their place in the list. */
  readonly addresses: ReadonlySet<number>;
  readonly namespaces: readonly string[];
  readonly accounts: boolean;
  readonly services: boolean;
}

function hide(random: Random, { pods }: ClusterResources): Hidden {
  const places = pods.flatMap(({ status }, index) => ((status?.podIPs ?? []).length > 0 ? [index] : []));
  return {
    addresses: new Set(random.subset(places, random.pick([0, 30, 70]))),
    namespaces: random.subset(NAMESPACES, random.pick([0, 0, 50])),
    accounts: random.chance(30),
    services: random.chance(50),
  };
}

function named(namespace: Resource<"Namespace">): Resource<"Namespace"> {
  const { name, labels } = namespace.metadata;
  return { ...namespace, metadata: { name, labels: { ...labels, [NAMESPACE_NAME_LABEL]: name } } };
}

function withAddresses(pod: Resource<"Pod">, addresses: readonly string[]): Resource<"Pod"> {
  return { ...pod, status: { ...pod.status, podIPs: addresses.map((ip) => ({ ip })) } };
}

/** The cluster as manifests may show it. */
function shown(cluster: RandomCluster, hidden: Hidden): ClusterResources {
  return {
    ...cluster,
    pods: cluster.pods.map((pod, index) =>
      hidden.addresses.has(index) ? withAddresses(pod, placeholders(index)) : pod,
    ),
    namespaces: [
      ...cluster.namespaces.filter(({ metadata }) => !hidden.namespaces.includes(metadata.name)).map(named),
      ...hidden.namespaces.map((name) => named({ apiVersion: "v1", kind: "Namespace", metadata: { name } })),
    ],
    serviceAccounts: hidden.accounts ? [] : cluster.serviceAccounts,
    endpointSlices: hidden.services ? [] : cluster.endpointSlices,
  };
}

/** One way that it may turn out to be. */
function completed(random: Random, cluster: RandomCluster, hidden: Hidden, free: readonly Addr[]): ClusterResources {
  const left = random.shuffle([...free]);
  const take = (family: 4 | 6): string => {
    const at = left.findIndex((addr) => familyOf(addr) === family);
    return left.splice(at, 1)[0] ?? "";
  };
  const account = random.pick([{}, { app: "web" }, { app: "db" }, { x: "" }]);
  return {
    ...shown(cluster, hidden),
    pods: cluster.pods.map((pod, index) =>
      hidden.addresses.has(index) ? withAddresses(pod, [take(4), take(6)]) : pod,
    ),
    namespaces: [
      ...cluster.namespaces.filter(({ metadata }) => !hidden.namespaces.includes(metadata.name)).map(named),
      ...hidden.namespaces.map((name) => named(namespaceNamed(random, name))),
    ],
    serviceAccounts: hidden.accounts
      ? NAMESPACES.map((namespace) => ({
          apiVersion: "v1",
          kind: "ServiceAccount",
          metadata: { name: "robot", namespace, labels: account },
        }))
      : cluster.serviceAccounts,
    endpointSlices: hidden.services
      ? random.some(1, 5, (index) => endpointSlice(random, `late-${index}`))
      : cluster.endpointSlices,
  };
}

/** Addresses near the edges of what policies say, that nothing of the cluster has. */
function freeAddresses(cluster: RandomCluster, seed: number): Addr[] {
  const { pods, hostEndpoints, nodes } = clusterOf(cluster);
  const taken = new Set([...OUTSIDE, ...[...pods, ...hostEndpoints, ...nodes].flatMap(({ addresses }) => addresses)]);
  const packets = randomPackets(cluster, 300, seed).map(({ packet }) => packet);
  const edges = new Set(packets.flatMap(({ source, destination }) => [source, destination]));
  const spare = Array.from({ length: 40 }, (_, i) => [
    `10.65.0.${100 + i}`,
    `fd00:65::1${i + 10}`,
    `198.51.100.${i + 20}`,
    `2001:db8:2::${i + 1}`,
  ]);
  const isPossible = (addr: Addr): boolean =>
    !/^(0|127|169\.254|22[4-9]|2[345]\d)\.|^::1?$|^fe80|^ff|^100::|^7fff/.test(addr);
  return [...new Set([...edges, ...(spare.flat() as Addr[])])].filter((addr) => !taken.has(addr) && isPossible(addr));
}

function packetIn(random: Random, traffic: Traffic, source: Addr, destination: Addr): FlowPacket {
  const within = ({ from, to }: Range): number =>
    random.pick([from, to, ...[53, 80, 8080].filter((port) => from <= port && port <= to)]);
  const packet = { source, destination, ...representative(traffic, familyOf(source)) };
  if (hasPorts(traffic))
    return {
      ...packet,
      destinationPort: within(traffic),
      sourcePort: within(traffic.source ?? { from: 0, to: 65535 }),
    };
  if (isIcmp(traffic)) return { ...packet, icmp: { type: within(traffic.types), code: within(traffic.codes) } };
  return packet;
}

test("what is certain holds in every case", () => {
  const count = { certain: 0, open: 0 };
  for (let seed = FIRST_SEED; seed < FIRST_SEED + CLUSTERS; seed++) {
    const random = new Random(seed);
    const cluster = randomCluster(seed);
    const hidden = hide(random, cluster);
    const visible = clusterOf(shown(cluster, hidden));
    const unknowns = {
      namespaces: hidden.namespaces,
      ...(hidden.accounts ? { knownAccounts: new Set<string>() } : {}),
      ...(hidden.services ? { knownServices: new Set<string>() } : {}),
    };
    const explain = explainer(visible, unknowns);
    const places = new Map(cluster.pods.map((pod, index) => [formatName(keyOf("Pod", pod)), index]));
    const parties: Party[] = visible.pods.map(({ key, addresses }) => ({
      label: formatName(key),
      pod: key,
      addresses,
    }));
    const outside: Party = { label: "out", pod: undefined, addresses: OUTSIDE };
    const free = freeAddresses(cluster, seed);
    const cases = Array.from({ length: COMPLETIONS }, () => clusterOf(completed(random, cluster, hidden, free)));
    for (let i = 0; i < 12; i++) {
      const [source, destination] = [random.pick([...parties, outside]), random.pick([...parties, outside])];
      for (const answer of explain({ source, destination, traffic: undefined })) {
        if (answer.otherwise !== undefined) {
          count.open++;
          continue;
        }
        for (const complete of cases) {
          const addressOf = (party: Party, addr: Addr): Addr | undefined =>
            hidden.addresses.has(places.get(party.label) ?? -1)
              ? complete.pods
                  .find(({ key }) => formatName(key) === party.label)
                  ?.addresses.find((each) => familyOf(each) === familyOf(addr))
              : addr;
          const [from, to] = [addressOf(source, answer.source), addressOf(destination, answer.destination)];
          if (from === undefined || to === undefined) continue;
          const packet = packetIn(random, random.pick(answer.traffic), from, to);
          const { egress, ingress } = journey(complete, packet, { source: source.pod, destination: destination.pod });
          count.certain++;
          if (isAllowed({ egress, ingress }) !== answer.allowed)
            throw new Error(JSON.stringify({ seed, packet, answer, found: { egress, ingress } }, undefined, 1));
        }
      }
    }
  }
  // Neither everything nor nothing may be left open.
  expect(count.certain).toBeGreaterThan(5_000);
  expect(count.open).toBeGreaterThan(80);
}, 290_000);
