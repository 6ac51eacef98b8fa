/** Advice: what is valid in an object and will hardly do what its author means: settings without effect, and rules (`model/kinds/advice.ts`). */
import type { Kind } from "../../model/kind.ts";
import { policyAdvice } from "../../model/kinds/advice.ts";
import { formatWithoutEffect, settingsWithoutEffect } from "../../model/kinds/without-effect.ts";
import type { ObjectMeta } from "../../model/resource.ts";
import { objectAt } from "../../model/schema/json.ts";
import { type Given, placeText } from "./given.ts";
import { objectText } from "./kinds.ts";

/** Not Node, whose settings Calico's own programs write. */
const ADVISED: ReadonlySet<Kind> = new Set([
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "KubernetesNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
  "IPPool",
  "IPAMConfiguration",
  "KubeControllersConfiguration",
  "FelixConfiguration",
]);

/** Of a valid object or not. */
export function adviceOf({ place, kind, namespace, name, object }: Given): string[] {
  if (!ADVISED.has(kind.kind)) return [];
  const metadata = objectAt(object["metadata"]) as unknown as ObjectMeta;
  return [
    ...settingsWithoutEffect(kind.kind, { metadata, spec: objectAt(object["spec"]) }).map(formatWithoutEffect),
    ...policyAdvice(kind.kind, object),
  ].map((text) => `${placeText(place)}: ${objectText(kind, namespace, name)}: ${text}`);
}
