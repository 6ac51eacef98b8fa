/** Pods: their addresses, labels and named ports as policy sees them (POL-1, POL-2, POL-17). */
import { keyOf, type ObjectMeta, type Resource } from "../model/resource.ts";
import { type Addr, addrFromInteger, parseAddr } from "../net/addr.ts";
import { parsePrefix, prefixRange } from "../net/prefix.ts";
import { protocolByName } from "../net/protocol.ts";
import type { ClusterPod, ClusterResources, LabelMap } from "./cluster.ts";

/** Pods that have addresses. */
export function readPods(resources: ClusterResources): ClusterPod[] {
  const held = heldAddresses(resources.blocks ?? []);
  return resources.pods.flatMap((pod) => {
    const addresses = addressesOf(pod, held);
    return addresses.length === 0 ? [] : [readPod(pod, addresses, resources)];
  });
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
    ports: containers.flatMap((container) =>
      (container.ports ?? []).map(({ name, protocol, containerPort }) => ({
        name,
        protocol: protocolByName(protocol ?? "TCP"),
        port: containerPort,
      })),
    ),
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
export function parseAll(texts: readonly string[]): Addr[] {
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

export function inherit(prefix: string, name: string, parent: ObjectMeta | undefined): LabelMap {
  const named = { ...parent?.labels, "projectcalico.org/name": name };
  return Object.fromEntries(Object.entries(named).map(([label, value]) => [prefix + label, value]));
}
