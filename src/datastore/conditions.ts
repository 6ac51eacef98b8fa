/** Conditions: the checks of revisions and identities, with their errors, that the server side does for the stores without an API server. */
import { formatKey, type Key } from "../model/key.ts";
import type { Kind } from "../model/kind.ts";
import type { ObjectMeta } from "../model/resource.ts";
import { StoreError, type StoreReason } from "./store.ts";

/** `Cannot update IPPool/p: CAUSE` */
export function refused(reason: StoreReason, operation: string, key: Key, cause: string): StoreError {
  return new StoreError(reason, key.kind, key, `Cannot ${operation} ${formatKey(key)}: ${cause}`);
}

export function versionConflict(
  operation: string,
  key: Key,
  given: string | undefined,
  current: string | undefined,
): StoreError {
  return conflict(operation, key, "resourceVersion", given, current);
}

/** Throws `conflict` unless the given resourceVersion is the current one. */
export function checkVersion(
  operation: string,
  key: Key,
  given: string | undefined,
  current: string | undefined,
): void {
  if (given !== current) throw versionConflict(operation, key, given, current);
}

/** Throws `conflict` unless `revision` and `uid`, where they are given, are those of the stored object. */
export function checkPrecondition(
  key: Key,
  { metadata }: { readonly metadata: ObjectMeta },
  { revision, uid }: { readonly revision?: string; readonly uid?: string },
): void {
  if (revision !== undefined && revision !== metadata.resourceVersion)
    throw conflict("delete", key, "revision", revision, metadata.resourceVersion);
  if (uid !== undefined && uid !== metadata.uid) throw conflict("delete", key, "uid", uid, metadata.uid);
}

/** Throws `invalid` unless the revision is one that these stores return. */
export function checkRevision(kind: Kind, revision: string): void {
  if (!/^\d+$/.test(revision))
    throw new StoreError(
      "invalid",
      kind,
      undefined,
      `Cannot watch ${kind}: revision is ${JSON.stringify(revision)}, must come from a list or a watch`,
    );
}

function conflict(
  operation: string,
  key: Key,
  field: string,
  given: string | undefined,
  current: string | undefined,
): StoreError {
  const cause = `${field} is ${JSON.stringify(given)}, must be the current ${JSON.stringify(current)}`;
  return refused("conflict", operation, key, cause);
}
