/** Host endpoints: their labels, expected addresses, named ports and profiles (POL-49, POL-50). */
import { keyOf } from "../model/resource.ts";
import { protocolByName, type Protocol } from "../net/protocol.ts";
import type { ClusterHostEndpoint, ClusterProfile, ClusterResources } from "./cluster.ts";
import { ownLabels } from "./network-sets.ts";
import { parseAll } from "./pods.ts";

export function readHostEndpoints(resources: ClusterResources): ClusterHostEndpoint[] {
  return (resources.hostEndpoints ?? []).map((host) => ({
    key: keyOf("HostEndpoint", host),
    namespace: undefined,
    labels: ownLabels(host.metadata),
    addresses: (host.spec.expectedIPs ?? []).flatMap((text) => parseAll([text])),
    ports: (host.spec.ports ?? []).map(({ name, port, protocol }) => ({
      name,
      port,
      protocol: protocolByName(String(protocol)) ?? (Number(protocol) as Protocol),
    })),
    profiles: (host.spec.profiles ?? []).map((name) => ({ name, does: profileDoes(name, resources) })),
  }));
}

/** POL-50. */
export function profileDoes(name: string, resources: ClusterResources): ClusterProfile["does"] {
  if (name === "projectcalico-default-allow") return "allow";
  const parts = name.split(".");
  if (parts[0] === "kns")
    return resources.namespaces.some(({ metadata }) => `kns.${metadata.name}` === name) ? "allow" : "deny";
  const isAccount = (resources.serviceAccounts ?? []).some(
    ({ metadata }) => `ksa.${metadata.namespace}.${metadata.name}` === name,
  );
  return isAccount ? "nothing" : "deny";
}
