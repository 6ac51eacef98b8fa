/** Parties: resolves a source or destination, and how a packet reaches a destination whose address is translated. */
import { formatKey, formatName, type KeyText } from "../model/key.ts";
import { keyOf, type ObjectMeta, type Resource } from "../model/resource.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import type { Cluster, ClusterPod } from "../semantics/cluster.ts";
import { asksAccounts, servicesAsked } from "../verify/classes.ts";
import type { Party } from "../verify/explain.ts";
import {
  type Backend,
  nodePorts,
  type Outlet,
  throughService,
  type Translation,
  translationOf,
  type World,
} from "../verify/translation.ts";
import { formatTraffic, type Traffic } from "../verify/traffic.ts";
import { isPlaceholder } from "../verify/placeholders.ts";
import { InputError, type Inventory, isOf } from "./inventory.ts";
import type { ObjectTarget, Target } from "./target.ts";

/** Everything needed to resolve names. */
export interface Scene {
  readonly inventory: Inventory;
  readonly cluster: Cluster;
  /** Every pod that is listed, by `NAMESPACE/NAME`. */
  readonly listed: ReadonlyMap<string, Resource<"Pod">>;
  /** The pods and WorkloadEndpoints that policy knows. */
  readonly podsByKey: ReadonlyMap<KeyText, ClusterPod>;
  readonly world: World;
  /** What rules ask for. */
  readonly asked: { readonly accounts: boolean; readonly services: readonly string[] };
}

/** How a packet reached a destination other than the one it was sent to. */
export interface Passage {
  /** `Service shop/web, 80/tcp`. */
  readonly text: string;
  /** The destination in the packet as sent; undefined when a Service was named and not its address. */
  readonly address: Addr | undefined;
  readonly traffic: Traffic;
  /** Clients outside the cluster use it too, and the node that receives the packet may replace the sender's address with its own. */
  readonly isExternal: boolean;
  readonly keepsSource: boolean;
}

export interface Aim {
  readonly party: Party;
  readonly traffic: Traffic | undefined;
  readonly passage: Passage | undefined;
}

export interface Aims {
  readonly aims: readonly Aim[];
  /** What makes the answer uncertain. */
  readonly doubts: readonly string[];
}

export function sceneOf(inventory: Inventory, cluster: Cluster): Scene {
  const podsByKey = new Map(cluster.pods.map((pod) => [formatKey(pod.key), pod]));
  const nodeAddresses = new Set(cluster.nodes.flatMap(({ addresses }) => addresses));
  const addressesOf = new Map(cluster.nodes.map(({ name, addresses }) => [name, addresses]));
  const pods = inventory.resources.pods
    .filter(({ status }) => status?.phase !== "Succeeded" && status?.phase !== "Failed")
    .flatMap((pod): Backend[] => {
      const party = partyOf(pod, podsByKey);
      if (party === undefined) return [];
      const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
      const isReady = (pod.status?.conditions ?? []).every(({ type, status }) => type !== "Ready" || status === "True");
      const { name, namespace = "default", labels = {} } = pod.metadata;
      return [
        {
          name,
          namespace,
          labels,
          addresses: party.addresses,
          ports: containers.flatMap(({ ports }) => ports ?? []),
          isReady,
          nodeAddresses: addressesOf.get(pod.spec?.nodeName ?? "") ?? parseAll([pod.status?.hostIP ?? ""]),
        },
      ];
    });
  for (const pod of inventory.resources.pods)
    for (const addr of parseAll([pod.status?.hostIP ?? ""])) nodeAddresses.add(addr);
  return {
    inventory,
    cluster,
    listed: new Map(inventory.resources.pods.map((pod) => [formatName(keyOf("Pod", pod)), pod])),
    podsByKey,
    asked: { accounts: asksAccounts(cluster), services: [...servicesAsked(cluster)] },
    world: { services: inventory.services, endpoints: inventory.endpoints, pods, nodeAddresses },
  };
}

/** Throws InputError when nothing matches. */
export function sourcesOf(target: Target, scene: Scene): Party[] {
  if (target.type === "address") {
    const translation = isSender(target.addr, scene) ? undefined : translationOf(target.addr, undefined, scene.world);
    if (translation !== undefined)
      throw new InputError(
        `Cannot use ${target.addr} as a source: it is the ${describe(translation)}, and no packet comes from there; name a pod, or the address of one`,
      );
    return [addressParty(target.addr)];
  }
  if (target.type === "object" && target.kind === "service")
    throw new InputError(`Cannot use a Service as a source: no packet comes from it; name its pods`);
  return partiesOf(target, scene);
}

function isSender(addr: Addr, { cluster, world }: Scene): boolean {
  return world.nodeAddresses.has(addr) || cluster.pods.some(({ addresses }) => addresses.includes(addr));
}

/** Throws InputError when nothing matches, or when the packet would reach no pod. */
export function aimsOf(target: Target, traffic: Traffic | undefined, scene: Scene): Aims {
  const { world, inventory } = scene;
  if (target.type === "object" && target.kind === "service") {
    const service = inventory.services.find(
      ({ namespace, name }) => namespace === target.namespace && name === target.name,
    );
    if (service === undefined)
      throw new InputError(`Cannot find Service ${JSON.stringify(`${target.namespace}/${target.name}`)}`);
    return {
      aims: aimsThrough(throughService(service, "cluster address", traffic, world), undefined, scene),
      doubts: [],
    };
  }
  if (target.type === "address" && !scene.cluster.pods.some(({ addresses }) => addresses.includes(target.addr))) {
    const translation = translationOf(target.addr, traffic, world);
    if (translation !== undefined) return { aims: aimsThrough(translation, target.addr, scene), doubts: [] };
    const ports = traffic === undefined && world.nodeAddresses.has(target.addr) ? nodePorts(target.addr, world) : [];
    const doubts =
      ports.length === 0
        ? []
        : [`traffic to some ports of ${target.addr} goes elsewhere, ask for them by number: ${ports.join(", ")}`];
    return { aims: [{ party: addressParty(target.addr), traffic, passage: undefined }], doubts };
  }
  return { aims: partiesOf(target, scene).map((party) => ({ party, traffic, passage: undefined })), doubts: [] };
}

function aimsThrough(translation: Translation, addr: Addr | undefined, scene: Scene): Aim[] {
  const { service, via, outlets, problem } = translation;
  if (problem !== undefined)
    throw new InputError(
      addr === undefined
        ? `Cannot explain: ${problem}`
        : `Cannot explain ${addr}, the ${describe(translation)}: ${problem}`,
    );
  const what = service === undefined ? "host port" : `Service ${service.namespace}/${service.name}`;
  const isExternal = via !== "cluster address";
  return merged(outlets).map((outlet) => {
    const at =
      addr === undefined
        ? formatTraffic([outlet.asked])
        : `${addr} ${via === "node port" ? "node port" : formatTraffic([outlet.asked])}`;
    const passage = {
      text: `${what}, ${at}`,
      address: addr,
      traffic: outlet.asked,
      isExternal,
      keepsSource: service?.keepsSource ?? false,
    };
    return { party: outletParty(outlet, scene), traffic: outlet.traffic, passage };
  });
}

/** A pod that is listed once per family is one outlet. */
function merged(outlets: readonly Outlet[]): Outlet[] {
  const groups = Map.groupBy(outlets, ({ pod, addresses, traffic, asked }) =>
    JSON.stringify([pod?.namespace, pod?.name ?? addresses, traffic, asked]),
  );
  return [...groups.values()].flatMap(([first, ...others]) =>
    first === undefined
      ? []
      : [{ ...first, addresses: [...new Set([first, ...others].flatMap(({ addresses }) => addresses))] }],
  );
}

function outletParty({ pod, addresses }: Outlet, { listed, cluster, podsByKey }: Scene): Party {
  if (pod === undefined) {
    const owner = cluster.pods.find((each) => addresses.some((addr) => each.addresses.includes(addr)));
    return owner === undefined
      ? { label: addresses.join(", "), pod: undefined, addresses }
      : { ...partyOfEndpoint(owner), addresses };
  }
  const label = `${pod.namespace}/${pod.name}`;
  const resource = listed.get(label);
  const party = resource === undefined ? undefined : partyOf(resource, podsByKey);
  return party === undefined ? { label, pod: undefined, addresses } : { ...party, addresses };
}

function describe({ service, via }: Translation): string {
  return service === undefined ? via : `${via} of Service ${service.namespace}/${service.name}`;
}

function addressParty(addr: Addr): Party {
  return { label: addr, pod: undefined, addresses: [addr] };
}

function partiesOf(target: Target, scene: Scene): Party[] {
  const { inventory, cluster, podsByKey } = scene;
  switch (target.type) {
    case "address":
      return [addressParty(target.addr)];
    case "host":
      return [hostParty(target.node, scene)];
    case "object": {
      const machines = machinesMeant(target, inventory).flatMap((key) => podsByKey.get(key) ?? []);
      if (machines.length > 0) return machines.map(partyOfEndpoint);
      if (target.kind === MACHINE)
        throw new InputError(
          `Cannot find a WorkloadEndpoint ${JSON.stringify(`${target.namespace}/${target.name}`)} with an address`,
        );
      return podsMeant(target, inventory).map((pod) => partyOf(pod, podsByKey) ?? noAddress(pod));
    }
    case "namespace": {
      const pods = cluster.pods.filter(({ namespace }) => namespace === target.namespace);
      if (pods.length === 0)
        throw new InputError(
          `Cannot find a pod with an address in namespace ${JSON.stringify(target.namespace)}${orThere(cluster.pods.map(({ namespace }) => `${namespace}/`))}`,
        );
      return pods.map(partyOfEndpoint);
    }
  }
}

function partyOfEndpoint({ key, addresses }: ClusterPod): Party {
  return { label: formatName(key), pod: key, addresses };
}

const MACHINE = "workloadendpoint";

/** WorkloadEndpoints by their name or that of their workload; none where a pod has the name. */
function machinesMeant({ kind, namespace, name }: ObjectTarget, { resources }: Inventory): KeyText[] {
  const isHere = ({ metadata }: { readonly metadata: ObjectMeta }): boolean =>
    (metadata.namespace ?? "default") === namespace;
  if (kind !== MACHINE && kind !== undefined) return [];
  if (kind === undefined && resources.pods.some((pod) => isHere(pod) && pod.metadata.name === name)) return [];
  return (resources.workloadEndpoints ?? [])
    .filter((each) => isHere(each) && (each.metadata.name === name || each.spec.workload === name))
    .map((each) => formatKey(keyOf("WorkloadEndpoint", each)));
}

/** A node, by its own addresses, or those that its host endpoints expect. */
function hostParty(node: string, { inventory, cluster }: Scene): Party {
  const own = cluster.nodes.find(({ name }) => name === node)?.addresses ?? [];
  const expected = (inventory.resources.hostEndpoints ?? [])
    .filter(({ spec }) => spec.node === node)
    .flatMap(({ spec }) => parseAll(spec.expectedIPs ?? []));
  const addresses = own.length > 0 ? own : [...new Set(expected)];
  if (addresses.length > 0) return { label: `host ${node}`, pod: undefined, addresses };
  throw new InputError(
    `Cannot find an address of node ${JSON.stringify(node)}${orThere(cluster.nodes.map(({ name }) => `host/${name}`))}`,
  );
}

/** `; there is shop/web, other/web`: suggestions. */
function orThere(names: readonly string[]): string {
  const found = [...new Set(names)].slice(0, 5);
  return found.length === 0 ? "" : `; there is ${found.join(", ")}`;
}

/** One pod by its name, or those of a controller. */
function podsMeant(
  { kind, namespace, name, isAmbiguous }: ObjectTarget,
  { resources }: Inventory,
): readonly Resource<"Pod">[] {
  const named = (where: string, what: string): Resource<"Pod">[] =>
    resources.pods.filter(({ metadata }) => (metadata.namespace ?? "default") === where && metadata.name === what);
  const found =
    kind === undefined || kind === "pod"
      ? named(namespace, name)
      : resources.pods.filter((pod) => isOf(pod, { kind, namespace, name }));
  const other = isAmbiguous && kind !== undefined ? named(kind, name) : [];
  if (found.length > 0 && other.length > 0)
    throw new InputError(
      `${kind}/${name} is a ${kind} in namespace ${namespace} and a pod in namespace ${kind}: write ${namespace}/${kind}/${name} or ${kind}/pod/${name}`,
    );
  if (found.length > 0) return kind === undefined || kind === "pod" ? found : withAddress(found);
  if (other.length > 0) return other;
  const ofAny = kind === undefined ? resources.pods.filter((pod) => isStandIn(pod, name, namespace)) : [];
  const [first, second] = ofAny;
  if (first !== undefined && second !== undefined)
    throw new InputError(
      `${JSON.stringify(`${namespace}/${name}`)} is more than one thing: write ${ofAny.map(({ metadata }) => `${namespace}/${metadata.name}`).join(" or ")}`,
    );
  if (first !== undefined) return [first];
  const elsewhere = resources.pods.filter(
    ({ metadata }) => metadata.name === name || metadata.name.endsWith(`/${name}`),
  );
  const what = `${kind ?? "pod"} ${JSON.stringify(`${namespace}/${name}`)}${kind === undefined || kind === "pod" ? "" : " or pods of it"}`;
  throw new InputError(
    `Cannot find ${what}${orThere(elsewhere.map(({ metadata }) => `${metadata.namespace ?? "default"}/${metadata.name}`))}`,
  );
}

/** Whether the pod represents the template of a controller of this name. */
function isStandIn({ metadata }: Resource<"Pod">, name: string, namespace: string): boolean {
  return (
    metadata.namespace === namespace &&
    metadata.name.includes("/") &&
    metadata.name.slice(metadata.name.indexOf("/") + 1) === name
  );
}

/** Without old pods of a controller that have finished. */
function withAddress(pods: readonly Resource<"Pod">[]): readonly Resource<"Pod">[] {
  const live = pods.filter(({ status }) => status?.phase !== "Succeeded" && status?.phase !== "Failed");
  return live.length > 0 ? live : pods;
}

/** A host-network pod sends from its node's addresses, and policy does not treat it as a pod. undefined: it has no address. */
function partyOf(resource: Resource<"Pod">, podsByKey: ReadonlyMap<KeyText, ClusterPod>): Party | undefined {
  const key = keyOf("Pod", resource);
  const label = formatName(key);
  const pod = podsByKey.get(formatKey(key));
  if (pod !== undefined) return { label, pod: key, addresses: pod.addresses };
  const { spec, status } = resource;
  const addresses = spec?.hostNetwork === true ? parseAll((status?.podIPs ?? []).map(({ ip }) => ip ?? "")) : [];
  if (addresses.length === 0) return undefined;
  const node = addresses.some(isPlaceholder) ? "its node" : `node ${spec?.nodeName}`;
  return { label: `${label} (on the network of ${node})`, pod: undefined, addresses };
}

function parseAll(texts: readonly string[]): Addr[] {
  return texts.flatMap((text) => [parseAddr(text)]).flatMap((addr) => (addr.ok ? [addr.value] : []));
}

function noAddress({ metadata, spec, status }: Resource<"Pod">): never {
  const label = `${metadata.namespace ?? "default"}/${metadata.name}`;
  const cause =
    status?.phase === "Succeeded" || status?.phase === "Failed"
      ? `it has finished (phase ${status.phase})`
      : spec?.nodeName
        ? "its network is not set up, or was torn down"
        : "it is not scheduled";
  throw new InputError(`Cannot find an address of pod ${JSON.stringify(label)}: ${cause}`);
}
