/** Staged: which staged policies have a say about the ends of a question, and the cluster as it would be with them. */
import { formatKey, formatName } from "../model/key.ts";
import type { Cluster } from "../semantics/cluster.ts";
import { type Endpoint, selects } from "../semantics/match.ts";
import { clusterOf } from "../semantics/read-cluster.ts";
import {
  enforcedKeyOf,
  isEvaluated,
  STAGED_KINDS,
  stagedKeyOf,
  type StagedPolicy,
  withStaged,
} from "../semantics/staged.ts";
import type { Inventory } from "./inventory.ts";

export interface Staging {
  /** `StagedNetworkPolicy shop/db` of each policy that would change something at an end. */
  readonly names: readonly string[];
  /** The same cluster with all staged policies enforced. */
  readonly inventory: Inventory;
  readonly cluster: Cluster;
}

/** undefined: no staged policy selects one of these pods and host endpoints, nor deletes one that does. */
export function stagingOf(inventory: Inventory, cluster: Cluster, ends: ReadonlySet<string>): Staging | undefined {
  const staged = STAGED_KINDS.flatMap((kind) =>
    inventory.objects.of(kind).map((object): StagedPolicy => ({ kind, object })),
  ).filter(isEvaluated);
  if (staged.length === 0) return undefined;
  const resources = withStaged(inventory.resources, staged);
  const then = clusterOf(resources);
  const policies = [...cluster.policies, ...then.policies];
  const endpoints: Endpoint[] = [
    ...cluster.pods.map((pod) => ({ is: "pod" as const, ...pod })),
    ...cluster.hostEndpoints.map((host) => ({ is: "host" as const, ...host })),
  ].filter(({ key }) => ends.has(formatKey(key)));
  const selected = new Set(
    policies
      .filter((policy) => endpoints.some((endpoint) => selects(policy, endpoint)))
      .map(({ key }) => formatKey(key)),
  );
  const names = staged
    .filter((each) => selected.has(formatKey(enforcedKeyOf(each))))
    .map(stagedKeyOf)
    .map((key) => `${key.kind} ${formatName(key)}`);
  return names.length === 0 ? undefined : { names, inventory: { ...inventory, resources }, cluster: then };
}
