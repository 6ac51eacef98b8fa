/** From scratch: the program of a node and the input of its BIRD, computed naively from the whole state. The graph's oracle: shares only conversions with it. */
import { equal } from "../lib/equal.ts";
import type { Bgp } from "../model/bgp.ts";
import type { CniRecord, EndpointRow } from "../model/endpoint.ts";
import { formatKey, type Key } from "../model/key.ts";
import { blockRowOf } from "../model/convert/block.ts";
import { nodeAddressesOf } from "../model/convert/node.ts";
import { poolRowOf } from "../model/convert/pool.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import { policyOfNetworkPolicy } from "../model/convert/network-policy.ts";
import { endpointOfPod } from "../model/convert/pod.ts";
import { inheritedLabels } from "../model/convert/profile.ts";
import type { PolicyModel } from "../model/policy.ts";
import { BUILT_IN_TIERS, type TierModel } from "../model/tier.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { evaluateSelector } from "../model/selector/evaluate.ts";
import type { Addr } from "../net/addr.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { lowerPolicy, policyIdOf, type SetDefinition } from "../program/lower-rule.ts";
import type { AddrPort, Policy, PolicyId, SetId, SetMembers } from "../program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../program/program.ts";
import { blackholeRoute, localRoute, type Route, type RouteId, routeIdOf } from "../program/route.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";
import { wiringOf } from "./endpoints.ts";
import { policiesOf } from "./active.ts";
import { workloadStages } from "./order.ts";
import { blackholeOf } from "./routes.ts";
import { contributionOf, netMembers } from "./sets.ts";

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

/** What no kind can express yet: policies beyond those of the state, with their tiers, and host endpoints. */
export interface ByHand {
  readonly models: readonly PolicyModel[];
  readonly tiers: ReadonlyMap<string, TierModel>;
  readonly hosts: ReadonlyMap<EndpointId, Endpoint>;
}

const NOTHING: ByHand = { models: [], tiers: BUILT_IN_TIERS, hosts: new Map() };

export function programOf(state: State, byHand: ByHand = NOTHING): Program {
  const rows = state.pods.flatMap((resource) => rowOf(resource, state));
  const models = [...state.networkPolicies.map(policyOfNetworkPolicy), ...byHand.models];
  const endpoints = endpointsOf(rows, models, byHand);
  const named = new Set([...endpoints.values()].flatMap(policiesOf));
  const policies = new Map<PolicyId, Policy>();
  const sets = new Map<SetId, SetMembers>();
  for (const model of models.filter((candidate) => named.has(policyIdOf(candidate)))) {
    const lowered = lowerPolicy(model);
    policies.set(policyIdOf(model), lowered.policy);
    for (const [id, definition] of lowered.sets) sets.set(id, membersOf(definition, rows));
  }
  return { settings: DEFAULT_SETTINGS, sets, policies, endpoints, routes: routesOf(state) };
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

function endpointsOf(
  rows: readonly Row[],
  models: readonly PolicyModel[],
  { tiers, hosts }: ByHand,
): Map<EndpointId, Endpoint> {
  const endpoints = new Map<EndpointId, Endpoint>(hosts);
  for (const { key, labels, local } of rows) {
    const selecting = models.filter((model) => evaluateSelector(model.selects, labels));
    for (const record of local) {
      endpoints.set(record.interface as EndpointId, {
        kind: "workload",
        source: key,
        addresses: record.addresses,
        stages: workloadStages(selecting, tiers),
      });
    }
  }
  return endpoints;
}

function membersOf(definition: SetDefinition, rows: readonly Row[]): SetMembers {
  if (definition.type === "nets") return netMembers(definition);
  const matching = rows.filter((row) => evaluateSelector(definition.selector, row.labels));
  const members = new Set(
    matching.flatMap(({ row, addresses }) => contributionOf(definition, row.ports, addresses)) as (Addr & AddrPort)[],
  );
  return definition.type === "address"
    ? { type: "address", hosts: members, nets: new Set() }
    : { type: "address-port", members };
}

function routesOf(state: State): Map<RouteId, Route> {
  const routes = new Map<RouteId, Route>();
  const put = (route: Route): void => void routes.set(routeIdOf(route), route);
  for (const block of state.blocks) {
    const row = blockRowOf(block);
    const prefix = row.ok ? blackholeOf(row.value, state.node) : undefined;
    if (prefix !== undefined) put(blackholeRoute(prefix));
  }
  const records = [...state.records].sort((a, b) => (a.interface > b.interface ? -1 : 1));
  for (const record of records)
    for (const addr of record.addresses) put(localRoute(prefixOfAddr(addr), record.interface));
  return routes;
}

/** What BIRD needs to know. */
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
