/**
 * Guards: what may not be done whatever the server says: views and upstream's read-only kinds are not written, built-in tiers stay, and a
 * tier goes only after its policies.
 */
import { type Store, StoreError } from "../../datastore/store.ts";
import { FIXED_TIERS } from "../../model/kinds/tier.ts";
import { TIERED_KINDS, tierOf } from "../../model/kinds/validation/tier-removal.ts";
import { formatKey } from "../../model/key.ts";
import { keyOf } from "../../model/resource.ts";
import type { JsonObject } from "../../model/schema/json.ts";
import { Refusal, type Verb } from "./failures.ts";
import { objectText, type ServedKind } from "./kinds.ts";
import { DEFAULT_ALLOW, podOfEndpointName } from "./views.ts";

const VIEWS: Readonly<Record<string, string>> = {
  Profile:
    "profiles are read-only, because they follow from Namespaces and ServiceAccounts; label those, and use policies for rules",
  Node: 'it is a view of a Kubernetes Node; use "kubectl label node", "kubectl annotate node" or "kubectl delete node"',
};
const VIEW_OF_POD = "it is a view of a Pod; change the Pod";

/** Why the verb is refused for the object, as far as that can be said without a cluster. */
export function refusalOf(
  verb: Verb,
  kind: ServedKind,
  namespace: string | undefined,
  name: string,
): string | undefined {
  if (verb === "get" || verb === "validate") return undefined;
  const refused = (reason: string): string =>
    `operation ${verb} is not supported on ${objectText(kind, namespace, name)}: ${reason}`;
  const view = VIEWS[kind.name];
  if (kind.isView && view !== undefined) return refused(view);
  if (kind.showsPods && podOfEndpointName(name) !== undefined) return refused(VIEW_OF_POD);
  if (kind.name === "Profile" && name === DEFAULT_ALLOW) return refused("it is built in");
  if (kind.kind === "ClusterInformation" && verb === "apply")
    return refused("resource is readonly: the nodes maintain it; use patch for one field");
  if (kind.kind === "Tier" && verb === "delete" && FIXED_TIERS.some((tier) => tier.name === name))
    return refused(`Cannot delete ${name} tier: it is built in`);
  return undefined;
}

const MOST_NAMES = 5;

/** Rejects with Refusal while policies are in the tier; the message names them. */
export async function refuseUsedTier(store: Store, tier: string): Promise<void> {
  const names: string[] = [];
  let count = 0;
  for (const kind of TIERED_KINDS) {
    let ofKind: string[] = [];
    let inKind = 0;
    try {
      for await (const { items, isFirst } of store.pages(kind)) {
        if (isFirst) [ofKind, inKind] = [[], 0];
        for (const policy of items) {
          if (tierOf(policy.spec) !== tier) continue;
          inKind++;
          if (ofKind.length < MOST_NAMES) ofKind.push(formatKey(keyOf(kind, policy)));
        }
      }
    } catch (error) {
      // Whether the tier is empty cannot be told, so it stays.
      if (!(error instanceof StoreError) || error.reason !== "forbidden") throw error;
      throw new Refusal(
        `operation delete is not supported on Tier(${tier}): whether it is empty cannot be seen: ${error.message}`,
      );
    }
    names.push(...ofKind);
    count += inKind;
  }
  if (count === 0) return;
  const shown = names.slice(0, MOST_NAMES);
  const more = count > shown.length ? ` and ${count - shown.length} more` : "";
  throw new Refusal(
    `operation delete is not supported on Tier(${tier}): Cannot delete a non-empty tier: delete or move ${shown.join(", ")}${more} first`,
  );
}

/** Rejects with Refusal when a policy names a tier that is not there: nodes would evaluate it after all other tiers. */
export function tierChecker(store: Store): (kind: ServedKind, object: JsonObject) => Promise<void> {
  const known = new Map<string, Promise<boolean>>();
  return async (kind, object) => {
    if (!TIERED_KINDS.some((tiered) => tiered === kind.kind)) return;
    const tier = tierOf(object["spec"]);
    if (FIXED_TIERS.some(({ name }) => name === tier)) return;
    const asked = known.get(tier) ?? exists(store, tier);
    known.set(tier, asked);
    if (!(await asked))
      throw new Refusal(
        `resource does not exist: Tier(${tier}): create the tier first, or with the policy in one file`,
      );
  };
}

async function exists(store: Store, tier: string): Promise<boolean> {
  try {
    return (await store.get({ kind: "Tier", namespace: undefined, name: tier })) !== undefined;
  } catch (error) {
    // Who may not read tiers is not held up.
    if (error instanceof StoreError && error.reason === "forbidden") return true;
    throw error;
  }
}
