/**
 * Unserved: a cluster that lacks a kind (`mayLack` of its row in `KINDS`) has no objects of it. That the server does not have it must be what its
 * discovery says: a 404 may come from anybody in its place. Who lacks the right gets 403 also for what is not there, so that discovery is asked then too.
 */
import { type Kind, KINDS } from "../../model/kind.ts";
import { isDenied, isUnserved as isMissing, StoreError } from "../store.ts";
import type { Transport } from "./transport.ts";

/** The revision of a list of such a kind. */
export const UNSERVED = "unserved";
/** How soon it is noticed that the cluster has the kind now. */
export const UNSERVED_MS = 20_000;

export interface Place {
  readonly apiVersion: string;
  readonly plural: string;
}

/** Whether the error of a list may mean that the cluster is without the kind. */
export function mayBeUnserved(kind: Kind, place: Place, error: unknown): error is StoreError {
  const { mayLack } = KINDS[kind];
  if (mayLack === undefined || (mayLack === "classic" && !place.apiVersion.startsWith("crd."))) return false;
  return error instanceof StoreError && (isMissing(error) || isDenied(error));
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
  // A server without all of Calico's kinds is one on which they are not installed yet.
  if (!versions.some((version) => textOf(version, "groupVersion") === apiVersion))
    return groups.length > 0 && !apiVersion.includes("projectcalico.org/");
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
