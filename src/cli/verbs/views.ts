/**
 * Views: Calico's objects that are made from Kubernetes' own when they are read: a Profile from a Namespace or ServiceAccount, a Node from a
 * Node's annotations, a WorkloadEndpoint from a Pod.
 * Upstream: libcalico-go/lib/backend/k8s/conversion/conversion.go, workload_endpoint_default.go, resources/node.go.
 */
import { endpointOfPod } from "../../model/convert/pod.ts";
import { ADDRESS_ANNOTATIONS } from "../../model/convert/node.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../../model/labels.ts";
import type { ObjectMeta, Resource } from "../../model/resource.ts";
import type { JsonObject, JsonValue } from "../../model/schema/json.ts";
import { hostInterfaceName } from "../../podnet/names.ts";

export const DEFAULT_ALLOW = "projectcalico-default-allow";
const API = "projectcalico.org/v3";
const ALLOW: JsonObject[] = [{ action: "Allow" }];

export function defaultAllowProfile(): JsonObject {
  return {
    apiVersion: API,
    kind: "Profile",
    metadata: { name: DEFAULT_ALLOW },
    spec: { ingress: ALLOW, egress: ALLOW },
  };
}

export function profileOfNamespace({ metadata }: Resource<"Namespace">): JsonObject {
  const labelsToApply = prefixed(NAMESPACE_PREFIX, metadata);
  return {
    apiVersion: API,
    kind: "Profile",
    metadata: { name: `kns.${metadata.name}`, ...origin(metadata) },
    spec: { ingress: ALLOW, egress: ALLOW, labelsToApply },
  };
}

export function profileOfServiceAccount({ metadata }: Resource<"ServiceAccount">): JsonObject {
  return {
    apiVersion: API,
    kind: "Profile",
    metadata: { name: `ksa.${metadata.namespace ?? "default"}.${metadata.name}`, ...origin(metadata) },
    spec: { labelsToApply: prefixed(SERVICE_ACCOUNT_PREFIX, metadata) },
  };
}

function prefixed(prefix: string, { name, labels }: ObjectMeta): JsonObject {
  const own = Object.entries(labels ?? {}).map(([key, value]) => [`${prefix}${key}`, value]);
  return Object.fromEntries([...own, [`${prefix}projectcalico.org/name`, name]]) as JsonObject;
}

function origin({ creationTimestamp, uid, resourceVersion }: ObjectMeta): JsonObject {
  return present({ creationTimestamp, uid, resourceVersion });
}

/** What a profile's name says that it is made from. */
export type ProfileSource =
  | { readonly type: "default-allow" }
  | { readonly type: "namespace"; readonly namespace: string }
  | { readonly type: "service-account"; readonly namespace: string; readonly name: string }
  | { readonly type: "stored" };

export function profileSource(name: string): ProfileSource {
  if (name === DEFAULT_ALLOW) return { type: "default-allow" };
  if (name.startsWith("kns.")) return { type: "namespace", namespace: name.slice("kns.".length) };
  const [, namespace, account] = /^ksa\.([^.]+)\.(.+)$/.exec(name) ?? [];
  return namespace === undefined || account === undefined
    ? { type: "stored" }
    : { type: "service-account", namespace, name: account };
}

const ANNOTATION = "projectcalico.org/";

export function nodeView({ metadata, spec, status }: Resource<"Node">): JsonObject {
  const { labels, annotations = {} } = metadata;
  const note = (name: string): string | undefined => annotations[`${ANNOTATION}${name}`];
  const number = Number(note("ASNumber"));
  const bgp = present({
    asNumber: Number.isInteger(number) && number > 0 ? number : undefined,
    ipv4Address: annotations[ADDRESS_ANNOTATIONS[4]],
    ipv6Address: annotations[ADDRESS_ANNOTATIONS[6]],
    ipv4IPIPTunnelAddr: note("IPv4IPIPTunnelAddr"),
    routeReflectorClusterID: note("RouteReflectorClusterID"),
  });
  const recorded = ([4, 6] as const).flatMap((family) => {
    const address = annotations[ADDRESS_ANNOTATIONS[family]];
    return address === undefined ? [] : [{ address, type: "CalicoNodeIP" }];
  });
  const reported = (status?.addresses ?? [])
    .filter(({ type }) => type === "InternalIP" || type === "ExternalIP")
    .map(({ address, type }) => ({ address, type }));
  const addresses: JsonObject[] = [...recorded, ...reported];
  return {
    apiVersion: API,
    kind: "Node",
    metadata: present({ name: metadata.name, ...origin(metadata), labels: labels as JsonValue | undefined }),
    spec: present({
      ...(Object.keys(bgp).length === 0 ? {} : { bgp }),
      ipv4VXLANTunnelAddr: note("IPv4VXLANTunnelAddr"),
      vxlanTunnelMACAddr: note("VXLANTunnelMACAddr"),
      orchRefs: [{ nodeName: metadata.name, orchestrator: "k8s" }],
      ...(addresses.length === 0 ? {} : { addresses }),
    }),
    ...(spec?.podCIDRs === undefined ? {} : { status: { podCIDRs: spec.podCIDRs } }),
  };
}

/** undefined for a pod that is no endpoint: on its host's network, on no node yet, or malformed. */
export function endpointView(pod: Resource<"Pod">): JsonObject | undefined {
  const read = endpointOfPod(pod);
  if (!read.ok || read.value.state === "host-network" || read.value.node === undefined) return undefined;
  const { node, serviceAccount, labels, addresses, ports } = read.value;
  const { metadata } = pod;
  const namespace = metadata.namespace ?? "default";
  return {
    apiVersion: API,
    kind: "WorkloadEndpoint",
    metadata: {
      name: endpointName(node, metadata.name),
      namespace,
      ...origin(metadata),
      labels: Object.fromEntries(labels),
    },
    spec: present({
      orchestrator: "k8s",
      node,
      containerID: metadata.annotations?.["cni.projectcalico.org/containerID"],
      pod: metadata.name,
      endpoint: "eth0",
      serviceAccountName: serviceAccount,
      ipNetworks: addresses.map((address) => `${address}${address.includes(":") ? "/128" : "/32"}`),
      profiles: [`kns.${namespace}`, ...(serviceAccount === undefined ? [] : [`ksa.${namespace}.${serviceAccount}`])],
      interfaceName: hostInterfaceName(namespace, metadata.name),
      ports: ports.map(({ name, protocol, port }) => ({ name, protocol: PROTOCOLS[protocol] ?? protocol, port })),
    }),
  };
}

const PROTOCOLS: Readonly<Record<number, string>> = { 6: "TCP", 17: "UDP", 132: "SCTP" };

/** `NODE-k8s-POD-eth0`, with the dashes of each part doubled. */
export function endpointName(node: string, pod: string): string {
  return [node, "k8s", pod, "eth0"].map((part) => part.replaceAll("-", "--")).join("-");
}

/** The pod that an endpoint's name says; undefined when it is no such name. */
export function podOfEndpointName(name: string): { readonly node: string; readonly pod: string } | undefined {
  const [node, orchestrator, pod, endpoint, ...more] = name
    .split(/(?<!-)-(?!-)/)
    .map((part) => part.replaceAll("--", "-"));
  return node !== undefined && orchestrator === "k8s" && pod !== undefined && endpoint === "eth0" && more.length === 0
    ? { node, pod }
    : undefined;
}

function present(fields: Readonly<Record<string, JsonValue | undefined>>): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as JsonObject;
}
