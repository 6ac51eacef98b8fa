/**
 * Cluster: what policy sees of raw resources, read naively: pods with their labels and addresses, namespaces, policies.
 *
 * Part of the definition of meaning (docs/semantics.md), so it shares no conversion with the calculation, which is tested against it.
 */
import { formatKey, type Key } from "../model/key.ts";
import { validateNetworkPolicy } from "../model/kubernetes/network-policy-validation.ts";
import { keyOf, type ObjectMeta, type Resource } from "../model/resource.ts";
import type { FieldError } from "../model/schema/field-error.ts";
import { type Addr, addrFromInteger, parseAddr } from "../net/addr.ts";
import { parsePrefix, prefixRange } from "../net/prefix.ts";
import type { Action, Hook } from "../model/policy.ts";
import type { Family } from "../net/addr.ts";
import type { Icmp } from "../net/flow.ts";
import type { Protocol } from "../net/protocol.ts";
import type { ContainerPort } from "kubernetes-types/core/v1";
import type { LabelSelector } from "kubernetes-types/meta/v1";
import type { NetworkPolicyPeer, NetworkPolicyPort } from "kubernetes-types/networking/v1";

export interface ClusterResources {
  readonly pods: readonly Resource<"Pod">[];
  readonly namespaces: readonly Resource<"Namespace">[];
  readonly networkPolicies: readonly Resource<"KubernetesNetworkPolicy">[];
  readonly serviceAccounts?: readonly Resource<"ServiceAccount">[];
  readonly nodes?: readonly Resource<"Node">[];
  readonly blocks?: readonly Resource<"IPAMBlock">[];
}

export type LabelMap = Readonly<Record<string, string>>;

/** A pod that has addresses. */
export interface ClusterPod {
  readonly key: Key<"Pod">;
  readonly namespace: string;
  readonly node: string;
  readonly addresses: readonly Addr[];
  readonly labels: LabelMap;
  readonly ports: readonly ContainerPort[];
}

/** An interface of a node that policy protects. */
export interface ClusterHostEndpoint {
  readonly key: Key;
  readonly labels: LabelMap;
}

/** POL-26. */
export interface ClusterTier {
  readonly name: string;
  readonly order: number;
  /** What happens to packets that none of its policies decided. */
  readonly otherwise: "deny" | "pass";
}

export interface ClusterPolicy {
  readonly key: Key;
  /** undefined: cluster-wide. */
  readonly namespace: string | undefined;
  readonly tier: string;
  readonly order: number;
  /** POL-31. */
  readonly hooks: readonly Hook[];
  /** POL-19: `closed` selects what its selector says, `closed-to-all` every pod of its namespace; neither allows anything. */
  readonly state: "valid" | "closed" | "closed-to-all";
  readonly errors: readonly FieldError[];
  readonly selector: LabelSelector;
  /** undefined: the policy does not apply to the direction. */
  readonly ingress: readonly WrittenRule[] | undefined;
  readonly egress: readonly WrittenRule[] | undefined;
}

/** A rule as written: all given conditions must hold. */
export interface WrittenRule {
  readonly action: Action;
  readonly ipVersion?: Family;
  readonly protocol?: Protocol;
  readonly notProtocol?: Protocol;
  /** Of ICMP or ICMPv6, by the protocol. */
  readonly icmp?: Partial<Icmp> & { readonly protocol: Protocol };
  readonly notIcmp?: Partial<Icmp> & { readonly protocol: Protocol };
  readonly source: WrittenSide;
  readonly destination: WrittenSide;
}

export interface WrittenSide {
  /** One peer of each list must match. */
  readonly among?: readonly (readonly NetworkPolicyPeer[])[];
  /** None of these may match. */
  readonly notAmong?: readonly NetworkPolicyPeer[];
  /** One of these must match. */
  readonly ports?: readonly NetworkPolicyPort[];
  /** None of these may match. */
  readonly notPorts?: readonly NetworkPolicyPort[];
}

export interface Cluster {
  readonly pods: readonly ClusterPod[];
  readonly hostEndpoints: readonly ClusterHostEndpoint[];
  /** In order of evaluation. */
  readonly tiers: readonly ClusterTier[];
  /** POL-8: in order of evaluation within their tier. */
  readonly policies: readonly ClusterPolicy[];
  readonly nodes: readonly { readonly name: string; readonly addresses: readonly Addr[] }[];
}

/** The tier of Kubernetes' policies. */
const DEFAULT_TIER: ClusterTier = { name: "default", order: 1_000_000, otherwise: "deny" };

export function clusterOf(resources: ClusterResources): Cluster {
  const held = heldAddresses(resources.blocks ?? []);
  return {
    pods: resources.pods.flatMap((pod) => {
      const addresses = addressesOf(pod, held);
      return addresses.length === 0 ? [] : [readPod(pod, addresses, resources)];
    }),
    hostEndpoints: [],
    tiers: [DEFAULT_TIER],
    policies: sortPolicies(resources.networkPolicies.map(readPolicy)),
    nodes: (resources.nodes ?? []).map((node) => ({
      name: node.metadata.name,
      addresses: parseAll((node.status?.addresses ?? []).map(({ address }) => address)),
    })),
  };
}

/** POL-3: an address means every pod that has it. */
export function podsAt(cluster: Cluster, addr: Addr): readonly ClusterPod[] {
  return cluster.pods.filter((pod) => pod.addresses.includes(addr));
}

export function findPod(cluster: Cluster, key: Key<"Pod">): ClusterPod | undefined {
  return cluster.pods.find((pod) => formatKey(pod.key) === formatKey(key));
}

/** The rules of every policy. */
export function rulesOf(cluster: Cluster): readonly WrittenRule[] {
  return cluster.policies.flatMap(({ ingress, egress }) => [...(ingress ?? []), ...(egress ?? [])]);
}

function readPod(pod: Resource<"Pod">, addresses: readonly Addr[], resources: ClusterResources): ClusterPod {
  const key = keyOf("Pod", pod);
  const namespace = key.namespace ?? "default";
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  return {
    key,
    namespace,
    node: pod.spec?.nodeName ?? "",
    addresses,
    labels: labelsOf(pod, namespace, resources),
    ports: containers.flatMap((container) => container.ports ?? []),
  };
}

/** POL-1. `held` has a line `NAMESPACE/NAME ADDRESS` for each address that a block records for a pod. */
function addressesOf(pod: Resource<"Pod">, held: ReadonlySet<string>): Addr[] {
  const { spec, status } = pod;
  const annotations = pod.metadata.annotations ?? {};
  const written = [annotations["cni.projectcalico.org/podIPs"], annotations["cni.projectcalico.org/podIP"]];
  const hasFinished = status?.phase === "Succeeded" || status?.phase === "Failed";
  if (hasFinished || spec?.hostNetwork === true || !spec?.nodeName || written.includes("")) return [];
  if (status?.podIPs !== undefined && status.podIPs.length > 0)
    return parseAll(status.podIPs.map(({ ip }) => ip ?? ""));
  if (status?.podIP) return parseAll([status.podIP]);
  const claimed = parseAll(
    (written[0] ?? written[1] ?? "").split(",").map((text) => text.trim().replace(/\/(32|128)$/, "")),
  );
  return claimed.filter((addr) => held.has(`${pod.metadata.namespace ?? "default"}/${pod.metadata.name} ${addr}`));
}

/** The size of the largest block. */
const MOST_ADDRESSES = 4096n;

/** POL-1. Entry i of `allocations` is the block's address i: an index into `attributes`, where the holder is. A malformed block records nothing. */
function heldAddresses(blocks: readonly Resource<"IPAMBlock">[]): Set<string> {
  const held = new Set<string>();
  for (const { spec } of blocks) {
    const prefix = parsePrefix(String(spec?.cidr));
    if (!prefix.ok || !Array.isArray(spec.allocations)) continue;
    const { family, first, last } = prefixRange(prefix.value);
    if (last - first >= MOST_ADDRESSES || BigInt(spec.allocations.length) > last - first + 1n) continue;
    spec.allocations.forEach((index, ordinal) => {
      const { namespace, pod } = (index === null ? undefined : spec.attributes?.[index]?.secondary) ?? {};
      if (namespace !== undefined && pod !== undefined)
        held.add(`${namespace}/${pod} ${addrFromInteger(family, first + BigInt(ordinal))}`);
    });
  }
  return held;
}

/** All of them, or none if one is malformed. */
function parseAll(texts: readonly string[]): Addr[] {
  const parsed = texts.filter((text) => text !== "").map((text) => parseAddr(text.trim()));
  return parsed.every((addr) => addr.ok) ? parsed.map((addr) => addr.value) : [];
}

/** POL-2. */
function labelsOf(pod: Resource<"Pod">, namespace: string, resources: ClusterResources): LabelMap {
  const labels: Record<string, string> = {};
  for (const [label, value] of Object.entries(pod.metadata.labels ?? {})) {
    if (!label.startsWith("pcns.") && !label.startsWith("pcsa.") && label !== "projectcalico.org/serviceaccount")
      labels[label] = value;
  }
  labels["projectcalico.org/namespace"] = namespace;
  labels["projectcalico.org/orchestrator"] = "k8s";
  Object.assign(
    labels,
    inherit("pcns.", namespace, resources.namespaces.find(({ metadata }) => metadata.name === namespace)?.metadata),
  );
  const account = pod.spec?.serviceAccountName;
  if (!account) return labels;
  labels["projectcalico.org/serviceaccount"] = account;
  const object = resources.serviceAccounts?.find(
    ({ metadata }) => metadata.namespace === namespace && metadata.name === account,
  );
  return Object.assign(labels, inherit("pcsa.", account, object?.metadata));
}

function inherit(prefix: string, name: string, parent: ObjectMeta | undefined): LabelMap {
  const named = { ...parent?.labels, "projectcalico.org/name": name };
  return Object.fromEntries(Object.entries(named).map(([label, value]) => [prefix + label, value]));
}

function readPolicy(policy: Resource<"KubernetesNetworkPolicy">): ClusterPolicy {
  const key = keyOf("KubernetesNetworkPolicy", policy);
  const errors = validateNetworkPolicy(policy);
  const isUnreadable = errors.some(
    ({ field }) => field === "<nil>" || field === "spec" || field.startsWith("spec.podSelector"),
  );
  const state = errors.length === 0 ? "valid" : isUnreadable ? "closed-to-all" : "closed";
  return {
    key,
    namespace: key.namespace ?? "default",
    tier: DEFAULT_TIER.name,
    order: 1000,
    hooks: ["normal"],
    state,
    errors,
    selector: policy.spec?.podSelector ?? {},
    ...(state === "valid" ? readRules(policy.spec) : { ingress: [], egress: [] }),
  };
}

/** POL-6. */
function readRules(spec: Resource<"KubernetesNetworkPolicy">["spec"]): Pick<ClusterPolicy, "ingress" | "egress"> {
  const types = spec?.policyTypes ?? [];
  const egress = spec?.egress ?? [];
  const has = (type: string, implied: boolean): boolean => (types.length > 0 ? types.includes(type) : implied);
  return {
    ingress: has("Ingress", true)
      ? (spec?.ingress ?? []).map(({ from, ports }) => allow(readSide(from), readSide(undefined, ports)))
      : undefined,
    egress: has("Egress", egress.length > 0)
      ? egress.map(({ to, ports }) => allow({}, readSide(to, ports)))
      : undefined,
  };
}

function allow(source: WrittenSide, destination: WrittenSide): WrittenRule {
  return { action: "allow", source, destination };
}

/** POL-11: an empty list does not restrict. */
function readSide(
  peers: readonly NetworkPolicyPeer[] | null | undefined,
  ports?: readonly NetworkPolicyPort[] | null,
): WrittenSide {
  return {
    ...(peers && peers.length > 0 ? { among: [peers] } : {}),
    ...(ports && ports.length > 0 ? { ports } : {}),
  };
}

/** POL-8, POL-26. */
export function sortPolicies(policies: readonly ClusterPolicy[]): ClusterPolicy[] {
  return [...policies].sort((a, b) => a.order - b.order || (rank(a) < rank(b) ? -1 : 1));
}

function rank({ key }: ClusterPolicy): string {
  return `${key.name}/${key.namespace ?? ""}/${key.kind}`;
}
