/** From scratch: the program of a node and the input of its BIRD, computed naively from the whole state. The graph's oracle: shares only conversions with it. */
import { equal } from "../lib/equal.ts";
import type { ParseError, Result } from "../lib/result.ts";
import type { Bgp } from "../model/bgp.ts";
import type { CniRecord, EndpointRow, Wire } from "../model/endpoint.ts";
import { formatKey, type Key } from "../model/key.ts";
import { wholeBlockOf } from "../model/convert/block.ts";
import { nodeAddressesOf } from "../model/convert/node.ts";
import { poolRowOf } from "../model/convert/pool.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import { policyOfNetworkPolicy } from "../model/convert/network-policy.ts";
import { policyOfCalicoNetworkPolicy, policyOfGlobalNetworkPolicy } from "../model/convert/calico-policy.ts";
import { felixRowOf } from "../model/convert/felix-configuration.ts";
import {
  policyOfAdminNetworkPolicy,
  policyOfBaselineAdminNetworkPolicy,
} from "../model/convert/admin-network-policy.ts";
import { policyOfClusterNetworkPolicy } from "../model/convert/cluster-network-policy.ts";
import { hostEndpointOf } from "../model/convert/host-endpoint.ts";
import { endpointSliceOf } from "../model/convert/endpoint-slice.ts";
import { networkSetOf } from "../model/convert/network-set.ts";
import { endpointOfPod } from "../model/convert/pod.ts";
import {
  policyOfStagedGlobalNetworkPolicy,
  policyOfStagedKubernetesNetworkPolicy,
  policyOfStagedNetworkPolicy,
} from "../model/convert/staged-policy.ts";
import { tierOf } from "../model/convert/tier.ts";
import { enforcedKeyOf, isStagedKey } from "../model/kinds/staged.ts";
import { endpointOfWorkload } from "../model/convert/workload-endpoint.ts";
import { inheritedLabels, type ProfileRow, profileRowOf, sourceOfProfile } from "../model/convert/profile.ts";
import type { PolicyModel } from "../model/policy.ts";
import { BUILT_IN_TIERS } from "../model/tier.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { evaluateSelector } from "../model/selector/evaluate.ts";
import type { Addr } from "../net/addr.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { lowerPolicy, policyIdOf, type SetDefinition } from "../program/lower-rule.ts";
import type { AddrPort, Policy, PolicyId, SetId, SetMembers } from "../program/policy.ts";
import {
  type Endpoint,
  type EndpointId,
  policiesNamedBy,
  type Program,
  type Settings,
  stagedOf,
  stagesOf,
} from "../program/program.ts";
import { blackholeRoute, localRoute, type Route, type RouteId, routeIdOf } from "../program/route.ts";
import { wiringOf } from "./endpoints.ts";
import { bindHosts } from "./host-bindings.ts";
import { selecting } from "./matches.ts";
import { placesOf, whyNoSourcePrefixes } from "./order.ts";
import { type Exists, profileModel } from "./profiles.ts";
import { ranked } from "./ranked.ts";
import { blackholeOf } from "./routes.ts";
import { settingsOf } from "./settings.ts";
import { sliceContribution } from "./services.ts";
import { contributionOf, netMembers } from "./sets.ts";
import { claimOf, wireOf } from "./wires.ts";

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
  readonly calicoPolicies?: readonly Resource<"NetworkPolicy">[];
  readonly globalPolicies?: readonly Resource<"GlobalNetworkPolicy">[];
  readonly clusterNetworkPolicies?: readonly Resource<"ClusterNetworkPolicy">[];
  readonly adminNetworkPolicies?: readonly Resource<"AdminNetworkPolicy">[];
  readonly baselineAdminNetworkPolicies?: readonly Resource<"BaselineAdminNetworkPolicy">[];
  readonly tiers?: readonly Resource<"Tier">[];
  readonly networkSets?: readonly Resource<"NetworkSet">[];
  readonly globalNetworkSets?: readonly Resource<"GlobalNetworkSet">[];
  readonly endpointSlices?: readonly Resource<"EndpointSlice">[];
  readonly felixConfigurations?: readonly Resource<"FelixConfiguration">[];
  readonly hostEndpoints?: readonly Resource<"HostEndpoint">[];
  readonly workloadEndpoints?: readonly Resource<"WorkloadEndpoint">[];
  readonly profiles?: readonly Resource<"Profile">[];
  readonly stagedPolicies?: readonly Resource<"StagedNetworkPolicy">[];
  readonly stagedGlobalPolicies?: readonly Resource<"StagedGlobalNetworkPolicy">[];
  readonly stagedKubernetesPolicies?: readonly Resource<"StagedKubernetesNetworkPolicy">[];
  /** Addresses of the node's own interfaces. */
  readonly interfaces?: ReadonlyMap<string, readonly Addr[]>;
}

interface Row {
  readonly key: Key;
  readonly row: EndpointRow;
  readonly labels: ReadonlyMap<string, string>;
  readonly addresses: readonly Addr[];
  readonly local: readonly Wire[];
}

export function programOf(state: State): Program {
  const settings = settingsIn(state);
  const wires = wiresOf(state, settings);
  const rows = rowsOf(state, wires);
  const models = [
    ...state.networkPolicies.map(policyOfNetworkPolicy),
    ...(state.calicoPolicies ?? []).map(policyOfCalicoNetworkPolicy),
    ...(state.globalPolicies ?? []).map(policyOfGlobalNetworkPolicy),
    ...(state.clusterNetworkPolicies ?? []).map(policyOfClusterNetworkPolicy),
    ...(state.adminNetworkPolicies ?? []).map(policyOfAdminNetworkPolicy),
    ...(state.baselineAdminNetworkPolicies ?? []).map(policyOfBaselineAdminNetworkPolicy),
    ...(state.stagedPolicies ?? []).flatMap((each) => policyOfStagedNetworkPolicy(each) ?? []),
    ...(state.stagedGlobalPolicies ?? []).flatMap((each) => policyOfStagedGlobalNetworkPolicy(each) ?? []),
    ...(state.stagedKubernetesPolicies ?? []).flatMap((each) => policyOfStagedKubernetesNetworkPolicy(each) ?? []),
  ];
  const profiles = new Set(rows.flatMap(({ row }) => row.profiles ?? []));
  const stored = storedIn(state);
  const endpoints = endpointsOf(rows, models, settings, state);
  const places = [...endpoints.values()].flatMap((endpoint) => [...stagesOf(endpoint), ...stagedOf(endpoint)]);
  const named = new Set(places.flatMap(({ stage }) => policiesNamedBy(stage)));
  const policies = new Map<PolicyId, Policy>();
  const sets = new Map<SetId, SetMembers>();
  for (const model of [
    ...models,
    ...[...profiles].map((name) => profileModel(name, stored.get(name), existsIn(state))),
  ]) {
    if (!named.has(policyIdOf(model))) continue;
    const lowered = lowerPolicy(model);
    policies.set(policyIdOf(model), lowered.policy);
    for (const [id, definition] of lowered.sets) sets.set(id, membersOf(definition, rows, state));
  }
  return { settings, sets, policies, endpoints, routes: routesOf(state, wires) };
}

function settingsIn({ felixConfigurations = [], nodes, node }: State): Settings {
  const own = nodes.find(({ metadata }) => metadata.name === node);
  return settingsOf(felixConfigurations.map(felixRowOf), node, own?.metadata.labels ?? {});
}

/** One for each interface at most. */
function wiresOf(state: State, settings: Settings): Wire[] {
  const claims = (state.workloadEndpoints ?? []).flatMap((machine) => {
    const row = endpointOfWorkload(machine);
    const key = formatKey(keyOf("WorkloadEndpoint", machine));
    return (row.ok ? claimOf(key, row.value, state.node) : undefined) ?? [];
  });
  const names = new Set([...state.records.map((record) => record.interface), ...claims.map(({ device }) => device)]);
  return [...names].sort().flatMap((name) => {
    const record = state.records.find((each) => each.interface === name);
    const claiming = claims.filter(({ device }) => device === name);
    return wireOf(record, claiming, settings) ?? [];
  });
}

function rowsOf(state: State, wires: readonly Wire[]): Row[] {
  const rowOf = (key: Key, read: Result<EndpointRow, ParseError>): Row[] => rowWith(key, read, state, wires);
  return [
    ...state.pods.flatMap((pod) => rowOf(keyOf("Pod", pod), endpointOfPod(pod))),
    ...(state.workloadEndpoints ?? []).flatMap((machine) =>
      rowOf(keyOf("WorkloadEndpoint", machine), endpointOfWorkload(machine)),
    ),
    ...(state.networkSets ?? []).flatMap((set) => rowOf(keyOf("NetworkSet", set), networkSetOf("NetworkSet", set))),
    ...(state.globalNetworkSets ?? []).flatMap((set) =>
      rowOf(keyOf("GlobalNetworkSet", set), networkSetOf("GlobalNetworkSet", set)),
    ),
    ...(state.hostEndpoints ?? []).flatMap((host) => rowOf(keyOf("HostEndpoint", host), hostEndpointOf(host))),
  ];
}

function storedIn({ profiles = [] }: State): ReadonlyMap<string, ProfileRow> {
  return new Map(profiles.map((profile) => [profile.metadata.name, profileRowOf(profile)]));
}

/** The first of several profiles counts, and before it what the endpoint has already. */
function withProfileLabels(
  own: ReadonlyMap<string, string>,
  profiles: readonly string[],
  state: State,
): Map<string, string> {
  const labels = new Map(own);
  const inherit = (from: ReadonlyMap<string, string> | undefined): void => {
    for (const [label, value] of from ?? []) if (!labels.has(label)) labels.set(label, value);
  };
  for (const name of profiles) {
    const source = sourceOfProfile(name);
    const of = source?.kind === "Namespace" ? state.namespaces : state.serviceAccounts;
    const object = of.find((each) => source !== undefined && equal(keyOf(source.kind, each), source));
    if (source !== undefined)
      inherit(
        inheritedLabels(
          source.kind === "Namespace" ? NAMESPACE_PREFIX : SERVICE_ACCOUNT_PREFIX,
          source.name,
          object?.metadata.labels,
        ),
      );
    inherit(storedIn(state).get(name)?.labels);
  }
  return labels;
}

function existsIn({ namespaces, serviceAccounts }: State): Exists {
  const keys = new Set([
    ...namespaces.map((object) => formatKey(keyOf("Namespace", object))),
    ...serviceAccounts.map((object) => formatKey(keyOf("ServiceAccount", object))),
  ]);
  return (key) => keys.has(key);
}

function rowWith(key: Key, read: Result<EndpointRow, ParseError>, state: State, wires: readonly Wire[]): Row[] {
  if (!read.ok) return [];
  const row = read.value;
  const { serviceAccount, namespace } = row;
  const account = state.serviceAccounts.find(
    ({ metadata }) => metadata.namespace === namespace && metadata.name === serviceAccount,
  );
  const labels = new Map([
    ...row.labels,
    ...(namespace === undefined
      ? []
      : inheritedLabels(
          NAMESPACE_PREFIX,
          namespace,
          state.namespaces.find(({ metadata }) => metadata.name === namespace)?.metadata.labels,
        )),
    ...(serviceAccount === undefined
      ? []
      : inheritedLabels(SERVICE_ACCOUNT_PREFIX, serviceAccount, account?.metadata.labels)),
  ]);
  const own = wires.filter(({ workload }) => equal(workload, key));
  return [
    {
      key,
      row,
      labels: withProfileLabels(labels, row.profiles ?? [], state),
      ...wiringOf(row, own, state.node, (addr) => isRecorded(addr, key, state.blocks)),
    },
  ];
}

function isRecorded(addr: Addr, pod: Key, blocks: State["blocks"]): boolean {
  return blocks.some((resource) => {
    const block = wholeBlockOf(resource);
    return block.ok && block.value.allocations.some((held) => held.addr === addr && equal(held.pod, pod));
  });
}

function endpointsOf(
  rows: readonly Row[],
  models: readonly PolicyModel[],
  settings: Settings,
  state: State,
): Map<EndpointId, Endpoint> {
  const own = (state.tiers ?? []).map((tier) => [tier.metadata.name, tierOf(tier)] as const);
  const tiers = new Map([...BUILT_IN_TIERS, ...own]);
  const here = rows.flatMap(({ key, row: { host, node }, addresses }) =>
    host !== undefined && node === state.node ? [{ key: formatKey(key), host, addresses }] : [],
  );
  const interfaces = bindHosts(here, state.interfaces ?? new Map(), settings);
  const replaced = new Set(
    models.flatMap((model) => (isStagedKey(model.key) ? [formatKey(enforcedKeyOf(model.key))] : [])),
  );
  const endpoints = new Map<EndpointId, Endpoint>();
  for (const { key, row, labels, addresses, local } of rows) {
    const found = models.filter((model) => evaluateSelector(model.selects, labels)).map(ranked);
    const places = placesOf(
      selecting(found, ({ model }) => replaced.has(formatKey(model.key))),
      row,
      tiers,
    );
    for (const wire of local)
      endpoints.set(wire.interface as EndpointId, {
        kind: "workload",
        source: key,
        addresses: wire.addresses,
        ...(row.sources === undefined || whyNoSourcePrefixes(settings) !== undefined ? {} : { sources: row.sources }),
        ...places,
      });
    for (const id of row.host === undefined ? [] : (interfaces.get(formatKey(key)) ?? []))
      endpoints.set(id, {
        kind: "host",
        source: key,
        addresses,
        ...places,
      });
  }
  return endpoints;
}

function membersOf(definition: SetDefinition, rows: readonly Row[], { endpointSlices = [] }: State): SetMembers {
  if (definition.type === "nets") return netMembers(definition);
  if (definition.type === "service") {
    const slices = endpointSlices.map(endpointSliceOf).filter(({ service }) => service === definition.service);
    const live = new Set(slices.flatMap((slice) => sliceContribution(definition, slice)) as (Addr & AddrPort)[]);
    return definition.ports
      ? { type: "address-port", members: live }
      : { type: "address", hosts: live, nets: new Set() };
  }
  const matching = rows.filter((row) => evaluateSelector(definition.selector, row.labels));
  const members = new Set(
    matching.flatMap(({ row, addresses }) => contributionOf(definition, row.ports, addresses)) as (Addr & AddrPort)[],
  );
  const nets = matching.flatMap(({ row }) => row.nets ?? []);
  return definition.type === "address"
    ? { type: "address", hosts: members, nets: new Set(nets) }
    : { type: "address-port", members };
}

function routesOf(state: State, wires: readonly Wire[]): Map<RouteId, Route> {
  const routes = new Map<RouteId, Route>();
  const put = (route: Route): void => void routes.set(routeIdOf(route), route);
  for (const block of state.blocks) {
    const row = wholeBlockOf(block);
    const prefix = row.ok ? blackholeOf(row.value, state.node) : undefined;
    if (prefix !== undefined) put(blackholeRoute(prefix));
  }
  const isMachine = ({ workload }: Wire): boolean => workload.kind === "WorkloadEndpoint";
  const [machines, pods] = [wires.filter(isMachine), wires.filter((wire) => !isMachine(wire))];
  // The first of those that come first has the last word.
  for (const { interface: name, addresses } of [...pods, ...machines].reverse())
    for (const addr of addresses) put(localRoute(prefixOfAddr(addr), name));
  return routes;
}

/** What BIRD needs to know. */
export function bgpOf(state: State): Bgp {
  const nodes = state.nodes.map((node) => [node.metadata.name, nodeAddressesOf(node)] as const);
  const pools = state.pools.map((pool) => [formatKey(keyOf("IPPool", pool)), poolRowOf(pool)] as const);
  const blocks = state.blocks.flatMap((resource) => {
    const row = wholeBlockOf(resource);
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
    machines: new Map(
      wiresOf(state, settingsIn(state)).flatMap(({ workload, interface: name, addresses }) =>
        workload.kind === "WorkloadEndpoint" && addresses.length > 0 ? [[name, addresses] as const] : [],
      ),
    ),
  };
}
