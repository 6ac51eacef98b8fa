/** Namespace: converts a Namespace to a row: what its pods inherit (labels for policy, network annotations), and the labels by which pools select it. */
import { NAMESPACE_PREFIX } from "../labels.ts";
import type { Resource } from "../resource.ts";
import { inheritedLabels, type ProfileLabels } from "./profile.ts";

export interface NamespaceRow {
  readonly profile: ProfileLabels;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export function namespaceRowOf({ metadata }: Resource<"Namespace">): NamespaceRow {
  const { name, labels = {}, annotations = {} } = metadata;
  return { profile: inheritedLabels(NAMESPACE_PREFIX, name, labels), labels, annotations };
}
