/** Host world: the interfaces that host endpoints protect, and the settings of their nodes. */
import { settingsOf } from "../calc/settings.ts";
import { felixRowOf } from "../model/convert/felix-configuration.ts";
import type { Settings } from "../program/program.ts";
import type { Cluster } from "../semantics/cluster.ts";
import type { HostInterface, HostWorld } from "../verify/hosts.ts";
import type { Inventory } from "./inventory.ts";

export function hostWorldOf({ resources, objects }: Inventory, cluster: Cluster): HostWorld {
  const written = resources.hostEndpoints ?? [];
  const rows = objects.of("FelixConfiguration").map(felixRowOf);
  const labels = new Map((resources.nodes ?? []).map(({ metadata }) => [metadata.name, metadata.labels ?? {}]));
  const known = new Map<string, Settings>();
  return {
    // In the same order.
    interfaces: cluster.hostEndpoints.map((endpoint, index): HostInterface => {
      const { node, interfaceName } = written[index]?.spec ?? {};
      return { node: node ?? "", interfaceName: interfaceName || undefined, endpoint };
    }),
    settingsOf: (node) => {
      const settings = known.get(node) ?? settingsOf(rows, node, labels.get(node) ?? {});
      known.set(node, settings);
      return settings;
    },
  };
}
