/** Network sets: the nets and labels of NetworkSets and GlobalNetworkSets (POL-44). */
import { keyOf, type ObjectMeta } from "../model/resource.ts";
import { parseNet } from "../net/prefix.ts";
import type { ClusterNetworkSet, ClusterResources, LabelMap } from "./cluster.ts";
import { inherit } from "./pods.ts";

export function readNetworkSets(resources: ClusterResources): ClusterNetworkSet[] {
  const namespaced = (resources.networkSets ?? []).map((set) => {
    const key = keyOf("NetworkSet", set);
    const namespace = key.namespace ?? "default";
    const object = resources.namespaces.find(({ metadata }) => metadata.name === namespace);
    const labels = {
      ...ownLabels(set.metadata),
      "projectcalico.org/namespace": namespace,
      ...inherit("pcns.", namespace, object?.metadata),
    };
    return { key, namespace, labels, nets: netsOf(set.spec?.nets) };
  });
  const global = (resources.globalNetworkSets ?? []).map((set) => ({
    key: keyOf("GlobalNetworkSet", set),
    namespace: undefined,
    labels: ownLabels(set.metadata),
    nets: netsOf(set.spec?.nets),
  }));
  return [...namespaced, ...global];
}

/** What is no pod cannot pretend to be one, to be in a namespace, or to have inherited a label. */
export function ownLabels(metadata: ObjectMeta): LabelMap {
  return Object.fromEntries(
    Object.entries(metadata.labels ?? {}).filter(
      ([label]) =>
        !label.startsWith("pcns.") &&
        !label.startsWith("pcsa.") &&
        !RESERVED.some((name) => label === `projectcalico.org/${name}`),
    ),
  );
}

const RESERVED = ["namespace", "orchestrator", "serviceaccount"];

/** Entries that cannot be read stand for nothing. */
function netsOf(texts: readonly unknown[] | null | undefined): ClusterNetworkSet["nets"] {
  return (texts ?? []).flatMap((text) => {
    const net = typeof text === "string" ? parseNet(text) : undefined;
    return net?.ok ? [net.value] : [];
  });
}
