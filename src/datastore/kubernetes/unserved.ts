/**
 * Unserved: kinds that a cluster may be without: ClusterNetworkPolicy, and of the older group those that releases before did not have. There are no
 * objects of such a kind. That the server does not have it must be what its discovery says: a 404 may come from anybody in its place.
 */
import type { Kind } from "../../model/kind.ts";
import { StoreError } from "../store.ts";
import type { Transport } from "./transport.ts";

const NEWER: ReadonlySet<Kind> = new Set<Kind>([
  "Tier",
  "IPReservation",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
]);

/** The revision of a list of such a kind. */
export const UNSERVED = "unserved";
/** How soon it is noticed that the cluster has the kind now. */
export const UNSERVED_MS = 20_000;

export interface Place {
  readonly apiVersion: string;
  readonly plural: string;
}

/** Whether the error of a list may mean that the cluster is without the kind. */
export function mayBeUnserved(kind: Kind, place: Place, error: unknown): boolean {
  const isOptional = kind === "ClusterNetworkPolicy" || (NEWER.has(kind) && place.apiVersion.startsWith("crd."));
  return isOptional && error instanceof StoreError && error.message.includes("the server answered 404");
}

/** Rejects with StoreError. */
export async function isUnserved(
  transport: Transport,
  kind: Kind,
  { apiVersion, plural }: Place,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const look = (path: string): Promise<unknown> =>
    transport.ask({ operation: "look up", kind, key: undefined, method: "GET", path }, signal);
  const groups = fieldsOf(await look("/apis"), "groups");
  const versions = groups.flatMap((group) => fieldsOf(group, "versions"));
  if (!versions.some((version) => textOf(version, "groupVersion") === apiVersion)) return groups.length > 0;
  const resources = fieldsOf(await look(`/apis/${apiVersion}`), "resources");
  return resources.length > 0 && !resources.some((resource) => textOf(resource, "name") === plural);
}

function fieldsOf(value: unknown, field: string): readonly unknown[] {
  const list = (value as Readonly<Record<string, unknown>> | null)?.[field];
  return Array.isArray(list) ? list : [];
}

function textOf(value: unknown, field: string): unknown {
  return (value as Readonly<Record<string, unknown>> | null)?.[field];
}
