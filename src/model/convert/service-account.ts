/** ServiceAccount: the labels that pods inherit from theirs. */
import { SERVICE_ACCOUNT_PREFIX } from "../labels.ts";
import type { Resource } from "../resource.ts";
import { inheritedLabels, type ProfileLabels } from "./profile.ts";

export interface ServiceAccountRow {
  readonly profile: ProfileLabels;
}

export function serviceAccountRowOf({ metadata }: Resource<"ServiceAccount">): ServiceAccountRow {
  return { profile: inheritedLabels(SERVICE_ACCOUNT_PREFIX, metadata.name, metadata.labels) };
}
