/** Staged: the cluster as it would be were its staged policies enforced (POL-53), and what is counted of that for a packet (POL-56). */
import { formatKey, type Key, type KeyText } from "../model/key.ts";
import { KINDS } from "../model/kind.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { Verdict } from "../model/verdict.ts";
import type { FlowPacket } from "../net/flow.ts";
import type { Cluster, ClusterResources } from "./cluster.ts";
import { decide, type End, endpointNamed } from "./decide.ts";
import { selects } from "./match.ts";
import { clusterOf } from "./read-cluster.ts";

const ENFORCED = {
  StagedNetworkPolicy: "NetworkPolicy",
  StagedGlobalNetworkPolicy: "GlobalNetworkPolicy",
  StagedKubernetesNetworkPolicy: "KubernetesNetworkPolicy",
} as const;
export type StagedKind = keyof typeof ENFORCED;
export const STAGED_KINDS = Object.keys(ENFORCED) as readonly StagedKind[];

/** A staged policy, and the policy that its enforcement writes or deletes. */
export interface StagedPolicy {
  readonly kind: StagedKind;
  readonly object: Resource<StagedKind>;
}

export function stagedKeyOf({ kind, object }: StagedPolicy): Key {
  return keyOf(kind, object as Resource);
}

export function enforcedKeyOf(staged: StagedPolicy): Key {
  return { ...stagedKeyOf(staged), kind: ENFORCED[staged.kind] } as Key;
}

/** Whether it says something: `Ignore` does not. */
export function isEvaluated({ object }: StagedPolicy): boolean {
  return object.spec?.stagedAction !== "Ignore";
}

export function withStaged(resources: ClusterResources, staged: readonly StagedPolicy[]): ClusterResources {
  const evaluated = staged.filter(isEvaluated);
  const replaced = new Set(evaluated.map((each) => formatKey(enforcedKeyOf(each))));
  const after = <K extends (typeof ENFORCED)[StagedKind]>(kind: K, policies: readonly Resource<K>[]): Resource<K>[] => [
    ...policies.filter((policy) => !replaced.has(formatKey(keyOf(kind, policy)))),
    ...evaluated
      .filter((each) => ENFORCED[each.kind] === kind && each.object.spec?.stagedAction !== "Delete")
      .map(({ object }) => enforced(kind, object)),
  ];
  return {
    ...resources,
    networkPolicies: after("KubernetesNetworkPolicy", resources.networkPolicies),
    calicoPolicies: after("NetworkPolicy", resources.calicoPolicies ?? []),
    globalPolicies: after("GlobalNetworkPolicy", resources.globalPolicies ?? []),
  };
}

function enforced<K extends (typeof ENFORCED)[StagedKind]>(
  kind: K,
  { metadata, spec }: Resource<StagedKind>,
): Resource<K> {
  const { stagedAction: _, ...rest } = spec ?? {};
  const { apiKind, apiVersion } = KINDS[kind];
  return { apiVersion, kind: apiKind, metadata, spec: rest } as unknown as Resource<K>;
}

/** Both states of a cluster. */
export interface Staging {
  readonly now: Cluster;
  readonly pending: Cluster;
  /** By the key of the policy in whose place a staged one is: its own. */
  readonly staged: ReadonlyMap<KeyText, Key>;
}

export function stagingOf(resources: ClusterResources, staged: readonly StagedPolicy[]): Staging {
  return {
    now: clusterOf(resources),
    pending: clusterOf(withStaged(resources, staged)),
    staged: new Map(staged.filter(isEvaluated).map((each) => [formatKey(enforcedKeyOf(each)), stagedKeyOf(each)])),
  };
}

/** POL-56: the verdict with all staged policies enforced, in which these have their own names; undefined: none of them has a say at this end, so nothing is counted. */
export function decideStaged({ now, pending, staged }: Staging, packet: FlowPacket, end: End): Verdict | undefined {
  const { direction, hook = "normal", fromOwnNode } = end;
  if (fromOwnNode) return undefined;
  const endpoint = endpointNamed(now, end.endpoint);
  const hasSay = [...now.policies, ...pending.policies].some(
    (policy) =>
      staged.has(formatKey(policy.key)) &&
      policy.hooks.includes(hook) &&
      policy[direction] !== undefined &&
      selects(policy, endpoint),
  );
  if (!hasSay) return undefined;
  const ownKey = (key: Key): Key => staged.get(formatKey(key)) ?? key;
  const { reason, trace, ...verdict } = decide(pending, packet, end);
  return {
    ...verdict,
    reason:
      reason.type === "rule"
        ? { ...reason, policy: ownKey(reason.policy) }
        : reason.type === "no-rule-matched"
          ? { ...reason, policies: reason.policies.map(ownKey) }
          : reason,
    ...(trace === undefined ? {} : { trace: trace.map((step) => ({ ...step, policy: ownKey(step.policy) })) }),
  };
}
