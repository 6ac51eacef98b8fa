/** From scratch: the program of a node, and what its BIRD has to know, computed naively from everything that is true, as the graph's oracle. Shares only conversions with it. */
import { equal } from "../lib/equal.ts";
import type { Bgp } from "../model/bgp.ts";
import type { CniRecord, EndpointRow } from "../model/endpoint.ts";
import { formatKey, type Key } from "../model/key.ts";
import { blockRowOf } from "../model/convert/block.ts";
import { nodeAddressesOf } from "../model/convert/node.ts";
import { poolRowOf } from "../model/convert/pool.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import { policyOfNetworkPolicy } from "../model/kubernetes/network-policy.ts";
import { endpointOfPod } from "../model/convert/pod.ts";
import { inheritedLabels } from "../model/convert/profile.ts";
import type { PolicyModel } from "../model/policy.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { evaluateSelector } from "../model/selector/evaluate.ts";
import type { Addr } from "../net/addr.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { lowerPolicy, policyIdOf, type SetDefinition } from "../program/lower-rule.ts";
import type { AddrPort, Policy, PolicyId, SetId, SetMembers } from "../program/policy.ts";
import type { Endpoint, EndpointId, Program, Route, RouteId } from "../program/program.ts";
import { wiringOf } from "./endpoints.ts";
import { stageOf } from "./order.ts";
import { blackholeOf } from "./routes.ts";
import { contributionOf, rangeMembers } from "./sets.ts";

export interface State {
  readonly node: string;
  readonly pods: readonly Resource<"Pod">[];
  readonly namespaces: readonly Resource<"Namespace">[];
  readonly serviceAccounts: readonly Resource<"ServiceAccount">[];
  readonly networkPolicies: readonly Resource<"KubernetesNetworkPolicy">[];
  readonly blocks: readonly Resource<"IPAMBlock">[];
  readonly pools: readonly Resource<"IPPool">[];
  readonly nodes: readonly Resource<"Node">[];
  readonly records: readonly CniRecord[];
}

interface Row {
  readonly key: Key<"Pod">;
  readonly row: EndpointRow;
  readonly labels: ReadonlyMap<string, string>;
  readonly addresses: readonly Addr[];
  readonly local: readonly CniRecord[];
}

export function programOf(state: State): Program {
  const rows = state.pods.flatMap((resource) => rowOf(resource, state));
  const models = state.networkPolicies.map(policyOfNetworkPolicy);
  const endpoints = endpointsOf(rows, models);
  const named = new Set(
    [...endpoints.values()].flatMap(({ ingress, egress }) =>
      [...ingress.tiers, ...egress.tiers].flatMap((tier) => tier.policies),
    ),
  );
  const policies = new Map<PolicyId, Policy>();
  const sets = new Map<SetId, SetMembers>();
  for (const model of models.filter((candidate) => named.has(policyIdOf(candidate)))) {
    const lowered = lowerPolicy(model);
    policies.set(policyIdOf(model), lowered.policy);
    for (const [id, definition] of lowered.sets) sets.set(id, membersOf(definition, rows));
  }
  return { sets, policies, endpoints, routes: routesOf(state) };
}

function rowOf(resource: Resource<"Pod">, state: State): Row[] {
  const read = endpointOfPod(resource);
  if (!read.ok) return [];
  const row = read.value;
  const key = keyOf("Pod", resource);
  const { serviceAccount } = row;
  const namespace = row.namespace ?? "";
  const account = state.serviceAccounts.find(
    ({ metadata }) => metadata.namespace === namespace && metadata.name === serviceAccount,
  );
  const labels = new Map([
    ...row.labels,
    ...inheritedLabels(
      NAMESPACE_PREFIX,
      namespace,
      state.namespaces.find(({ metadata }) => metadata.name === namespace)?.metadata.labels,
    ),
    ...(serviceAccount === undefined
      ? []
      : inheritedLabels(SERVICE_ACCOUNT_PREFIX, serviceAccount, account?.metadata.labels)),
  ]);
  const records = state.records
    .filter((record) => equal(record.pod, key))
    .sort((a, b) => (a.interface < b.interface ? -1 : 1));
  return [
    {
      key,
      row,
      labels,
      ...wiringOf(row, records, state.node, (addr) => isRecorded(addr, key, state.blocks)),
    },
  ];
}

function isRecorded(addr: Addr, pod: Key<"Pod">, blocks: State["blocks"]): boolean {
  return blocks.some((resource) => {
    const block = blockRowOf(resource);
    return block.ok && block.value.allocations.some((held) => held.addr === addr && equal(held.pod, pod));
  });
}

function endpointsOf(rows: readonly Row[], models: readonly PolicyModel[]): Map<EndpointId, Endpoint> {
  const endpoints = new Map<EndpointId, Endpoint>();
  for (const { key, labels, local } of rows) {
    const selecting = models.filter((model) => evaluateSelector(model.selects, labels));
    for (const record of local) {
      endpoints.set(record.interface as EndpointId, {
        source: key,
        addresses: record.addresses,
        ingress: stageOf(selecting, "ingress"),
        egress: stageOf(selecting, "egress"),
      });
    }
  }
  return endpoints;
}

function membersOf(definition: SetDefinition, rows: readonly Row[]): SetMembers {
  if (definition.type === "ranges") return rangeMembers(definition);
  const matching = rows.filter((row) => evaluateSelector(definition.selector, row.labels));
  return {
    type: definition.type,
    members: new Set(
      matching.flatMap(({ row, addresses }) => contributionOf(definition, row.ports, addresses)) as (Addr & AddrPort)[],
    ),
  };
}

function routesOf(state: State): Map<RouteId, Route> {
  const routes = new Map<RouteId, Route>();
  for (const block of state.blocks) {
    const row = blockRowOf(block);
    const prefix = row.ok ? blackholeOf(row.value, state.node) : undefined;
    if (prefix !== undefined) routes.set(prefix, { type: "blackhole" });
  }
  const records = [...state.records].sort((a, b) => (a.interface > b.interface ? -1 : 1));
  for (const record of records)
    for (const addr of record.addresses) routes.set(prefixOfAddr(addr), { type: "local", interface: record.interface });
  return routes;
}

/** What BIRD has to know. */
export function bgpOf(state: State): Bgp {
  const nodes = state.nodes.map((node) => [node.metadata.name, nodeAddressesOf(node)] as const);
  const pools = state.pools.map((pool) => [formatKey(keyOf("IPPool", pool)), poolRowOf(pool)] as const);
  const blocks = state.blocks.flatMap((resource) => {
    const row = blockRowOf(resource);
    return row.ok ? [[formatKey(keyOf("IPAMBlock", resource)), row.value] as const] : [];
  });
  const others = blocks.filter(([, block]) => block.node !== state.node);
  const borrowed = others.map(
    ([key, { allocations }]) =>
      [key, allocations.flatMap(({ addr, node }) => (node === state.node ? [addr] : []))] as const,
  );
  return {
    addresses: nodes.find(([name]) => name === state.node)?.[1] ?? { ipv4: undefined, ipv6: undefined },
    peers: new Map(nodes.filter(([name, { ipv4, ipv6 }]) => name !== state.node && (ipv4 ?? ipv6) !== undefined)),
    pools: new Map(
      pools.flatMap(([key, pool]) =>
        pool.ok ? [[key, { prefix: pool.value.prefix, exported: pool.value.exported }] as const] : [],
      ),
    ),
    blocks: new Map(blocks.flatMap(([key, { node, prefix }]) => (node === state.node ? [[key, prefix] as const] : []))),
    borrowed: new Map(borrowed.filter(([, addresses]) => addresses.length > 0)),
  };
}
