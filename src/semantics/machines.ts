/** Machines: WorkloadEndpoints, which are as pods are, but for their profiles (POL-54). */
import { keyOf } from "../model/resource.ts";
import { parseNet, prefixAddr, prefixLength } from "../net/prefix.ts";
import { protocolByName, type Protocol } from "../net/protocol.ts";
import type { ClusterPod, ClusterResources } from "./cluster.ts";
import { ownLabels } from "./network-sets.ts";
import { inherit } from "./pods.ts";
import { profilesOf, withProfileLabels } from "./profiles.ts";

/** Those that have addresses. */
export function readMachines(resources: ClusterResources): ClusterPod[] {
  return (resources.workloadEndpoints ?? []).flatMap((machine) => {
    const key = keyOf("WorkloadEndpoint", machine);
    const namespace = key.namespace ?? "default";
    const {
      node,
      orchestrator,
      serviceAccountName: account,
      ipNetworks = [],
      ports = [],
      profiles = [],
    } = machine.spec;
    const addresses = ipNetworks.flatMap((text) => {
      const net = parseNet(text);
      if (!net.ok || prefixLength(net.value) !== (text.includes(":") ? 128 : 32)) return [];
      return [prefixAddr(net.value)];
    });
    const space = resources.namespaces.find(({ metadata }) => metadata.name === namespace);
    const object = resources.serviceAccounts?.find(
      ({ metadata }) => metadata.namespace === namespace && metadata.name === account,
    );
    const labels = {
      ...ownLabels(machine.metadata),
      "projectcalico.org/namespace": namespace,
      "projectcalico.org/orchestrator": orchestrator,
      ...inherit("pcns.", namespace, space?.metadata),
      ...(account
        ? { "projectcalico.org/serviceaccount": account, ...inherit("pcsa.", account, object?.metadata) }
        : {}),
    };
    const endpoint = {
      key,
      namespace,
      node,
      addresses: [...new Set(addresses)],
      labels: withProfileLabels(labels, profiles, resources),
      ports: ports.map(({ name, protocol, port }) => ({
        name: name || undefined,
        protocol: protocolByName(String(protocol)) ?? (Number(protocol) as Protocol),
        port,
      })),
      profiles: profilesOf(profiles, resources),
    };
    return addresses.length === 0 ? [] : [endpoint];
  });
}
