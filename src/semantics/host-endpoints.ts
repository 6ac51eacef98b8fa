/** Host endpoints: their labels, expected addresses, named ports and profiles (POL-49, POL-50). */
import { keyOf } from "../model/resource.ts";
import { protocolByName, type Protocol } from "../net/protocol.ts";
import type { ClusterHostEndpoint, ClusterResources } from "./cluster.ts";
import { ownLabels } from "./network-sets.ts";
import { parseAll } from "./pods.ts";
import { profilesOf, withProfileLabels } from "./profiles.ts";

export function readHostEndpoints(resources: ClusterResources): ClusterHostEndpoint[] {
  return (resources.hostEndpoints ?? []).map((host) => ({
    key: keyOf("HostEndpoint", host),
    namespace: undefined,
    labels: withProfileLabels(ownLabels(host.metadata), host.spec.profiles ?? [], resources),
    addresses: (host.spec.expectedIPs ?? []).flatMap((text) => parseAll([text])),
    ports: (host.spec.ports ?? []).map(({ name, port, protocol }) => ({
      name,
      port,
      protocol: protocolByName(String(protocol)) ?? (Number(protocol) as Protocol),
    })),
    profiles: profilesOf(host.spec.profiles ?? [], resources),
  }));
}
