/** Etcd cluster: reads what `why` needs of a cluster without Kubernetes: Calico's objects, Nodes and profiles among them, from etcd. */
import { openDatastore, type DatastoreAccess } from "../datastore/open.ts";
import { openClock } from "../host/bun/clock.ts";
import { openFiles } from "../host/bun/files.ts";
import { openRandom } from "../host/bun/random.ts";
import { openSockets } from "../host/bun/sockets.ts";
import type { Resource } from "../model/resource.ts";
import { isJsonObject, type JsonObject, type JsonValue } from "../model/schema/json.ts";
import type { Inventory, Warning } from "./inventory.ts";
import { isNamespaced, POLICY_KINDS, policyObject, PolicyObjects } from "./policy-objects.ts";

/** Kinds of Kubernetes' own, which only its API keeps. */
const OF_KUBERNETES = ["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"];

/** Rejects with StoreError when etcd cannot be read. */
export async function readEtcdCluster(access: Extract<DatastoreAccess, { type: "etcdv3" }>): Promise<Inventory> {
  const dependencies = { files: openFiles(), clock: openClock(), random: openRandom(), sockets: openSockets() };
  const store = await openDatastore(access, dependencies);
  try {
    const objects = new PolicyObjects();
    const warnings: Warning[] = [];
    const namespaces = new Set<string>();
    const kinds = POLICY_KINDS.filter((kind) => !OF_KUBERNETES.includes(kind));
    const lists = await Promise.all(kinds.map(async (kind) => ({ kind, items: (await store.list(kind)).items })));
    for (const { kind, items } of lists)
      for (const item of items) {
        const { name, namespace = "default" } = item.metadata;
        const read = policyObject(kind, jsonOf(item));
        if (!read.ok) {
          const text = `${kind} ${name} could not be looked at, and may decide otherwise: ${read.error}`;
          warnings.push({ text, doubt: kind.startsWith("Staged") ? "none" : "all" });
          continue;
        }
        objects.add(kind, read.value);
        if (isNamespaced(kind)) namespaces.add(namespace);
      }
    const nodes = (await store.list("Node")).items;
    return {
      resources: {
        pods: [],
        // Nothing else says labels of a namespace there.
        namespaces: [...namespaces].map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } })),
        serviceAccounts: [],
        nodes,
        networkPolicies: [],
        ...objects.resources,
        endpointSlices: [],
      },
      services: [],
      endpoints: [],
      objects,
      unknowns: { namespaces: [] },
      warnings,
    };
  } finally {
    await store.close();
  }
}

/** As it came from the datastore, which holds JSON. */
function jsonOf(object: Resource): JsonObject {
  const value = JSON.parse(JSON.stringify(object)) as JsonValue;
  return isJsonObject(value) ? value : {};
}
