/**
 * Write: create, replace and patch: from a decoded body to a stored object.
 *
 * Order, as in Kubernetes: decode, admission by namespace, prepare, validate, admission rules, store. Everything is synchronous: what was
 * read is what is replaced.
 */
import { type FieldError } from "../../../src/model/schema/field-error.ts";
import {
  cloneJson,
  isJsonObject,
  jsonEquals,
  type JsonObject,
  type JsonValue,
} from "../../../src/model/schema/json.ts";
import { alreadyExists, ApiError, badRequest, conflict, forbidden, invalid, notFound, STALE } from "../errors.ts";
import type { Body } from "../http/body.ts";
import type { WriteOptions } from "../http/request.ts";
import type { ApiObject, Metadata } from "../object.ts";
import { apiVersionOf, resourceId, type ResourceType, type ServedVersion } from "../resource-type.ts";
import { type Context, ruleContext, timestamp } from "./context.ts";
import { decodeObject, decodePatched } from "./decode.ts";
import { validateMetadata } from "./metadata.ts";
import { finishDeletion } from "./remove.ts";

/** The kind and version that a request addresses, and where. */
export interface Place {
  readonly type: ResourceType;
  readonly version: ServedVersion;
  readonly namespace: string | undefined;
}

export interface Written {
  readonly object: ApiObject;
  readonly warnings: readonly string[];
}

const NAMESPACE = { group: "", plural: "namespaces", kind: "Namespace" };

/** Creates the object of a POST; answers it as stored. */
export function createObject(context: Context, place: Place, body: Body, options: WriteOptions): Written {
  const { type, version } = place;
  const { object, warnings, errors } = decodeObject(type, version, body, options.fieldValidation);
  placeInNamespace(place, object);
  const { metadata } = object;
  dropEmpty(metadata);
  if (metadata.resourceVersion !== undefined && metadata.resourceVersion !== "")
    throw new ApiError(500, "", "resourceVersion should not be set on objects to be created");
  if (type.namespaced) requireNamespace(context, place, object);
  stampMetadata(context, type, object);
  if (version.hasStatus && !type.createsWithStatus) delete object["status"];
  const rules = ruleContext(context);
  type.prepareCreate?.(object, rules);
  const refusal = type.forbid?.(object, rules);
  if (refusal !== undefined) throw forbidden(type, metadata.name ?? "", refusal);
  check(context, type, object, undefined, errorsWithoutStatus(type, version, errors), "");
  object.apiVersion = apiVersionOf(type.group, type.storageVersion);
  const existing = context.storage.get(resourceId(type), metadata.namespace, metadata.name);
  if (existing !== undefined)
    throw alreadyExists(type, metadata.name, existing.object.metadata.deletionTimestamp !== undefined);
  if (!options.dryRun) context.storage.write(resourceId(type), object);
  return { object, warnings: [...warnings, ...(type.warn?.(object) ?? []), ...advice(context, type, object)] };
}

/** The status that comes with a user's object is not kept, so nothing in it can be wrong. */
function errorsWithoutStatus(
  type: ResourceType,
  version: ServedVersion,
  errors: readonly FieldError[],
): readonly FieldError[] {
  return type.builtIn || !version.hasStatus ? errors : errors.filter((error) => !isOfStatus(error));
}

function isOfStatus({ field }: FieldError): boolean {
  return /^status(?:$|[.[])/.test(field);
}

function advice(context: Context, type: ResourceType, object: ApiObject): readonly string[] {
  const { list } = ruleContext(context);
  return context.advice.flatMap((each) => each({ resource: resourceId(type), object, list }));
}

function placeInNamespace(place: Place, object: ApiObject): void {
  const { metadata } = object;
  if (!place.type.namespaced) {
    delete metadata.namespace;
    return;
  }
  if (metadata.namespace === undefined || metadata.namespace === "") metadata.namespace = place.namespace ?? "default";
  if (place.namespace !== undefined && metadata.namespace !== place.namespace) {
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  }
}

function requireNamespace(context: Context, place: Place, object: ApiObject): void {
  const namespace = object.metadata.namespace ?? "";
  const stored = context.storage.get("namespaces", undefined, namespace);
  if (stored === undefined) throw notFound(NAMESPACE, namespace);
  if (stored.object.metadata.deletionTimestamp !== undefined) {
    const why = `namespace ${namespace} is being terminated`;
    throw forbidden(
      place.type,
      object.metadata.name ?? "",
      `unable to create new content in namespace ${namespace} because it is being terminated`,
      [{ reason: "NamespaceTerminating", message: why, field: "metadata.namespace" }],
    );
  }
}

/** Fields of metadata that only the server sets. */
function stampMetadata(context: Context, type: ResourceType, object: ApiObject): void {
  const { metadata } = object;
  for (const field of [
    "selfLink",
    "managedFields",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
  ])
    delete metadata[field];
  if ((metadata.name ?? "") === "" && (metadata.generateName ?? "") !== "")
    metadata.name = generateName(metadata.generateName ?? "");
  metadata.uid = crypto.randomUUID();
  metadata.creationTimestamp = timestamp(context.nowMs());
  if (type.hasGeneration) metadata.generation = 1;
}

const SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789";

function generateName(prefix: string): string {
  const suffix = [...crypto.getRandomValues(new Uint8Array(5))]
    .map((byte) => SUFFIX_LETTERS[byte % SUFFIX_LETTERS.length])
    .join("");
  return `${prefix.slice(0, 58)}${suffix}`;
}

/** 422 with everything that is wrong with the object. */
function check(
  context: Context,
  type: ResourceType,
  object: ApiObject,
  current: ApiObject | undefined,
  schemaErrors: readonly FieldError[],
  subresource: string,
): void {
  const rules = ruleContext(context);
  const errors = [...validateMetadata(type, object, current), ...schemaErrors];
  if (!type.builtIn && type.validate !== undefined && errors.some(isBlocking)) errors.push(UNCHECKED);
  else errors.push(...(type.validate?.(object, current, subresource, rules) ?? []));
  if (errors.length === 0 && subresource === "") {
    for (const admission of context.admission)
      errors.push(...admission({ resource: resourceId(type), object, current, list: rules.list }));
  }
  if (errors.length > 0) throw invalid(type, object.metadata.name ?? "", errors);
}

/** Reported in place of a custom kind's rules when the schema has too many errors in the object for them to run. */
const UNCHECKED: FieldError = {
  field: "<nil>",
  reason: "Invalid",
  value: null,
  detail:
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
};

function isBlocking({ reason }: FieldError): boolean {
  return (
    reason === "NotSupported" ||
    reason === "Required" ||
    reason === "TooLong" ||
    reason === "TooMany" ||
    reason === "TypeInvalid"
  );
}

/** Replaces the object by the body of a PUT. */
export function replaceObject(
  context: Context,
  place: Place,
  name: string,
  subresource: string,
  body: Body,
  options: WriteOptions,
): Written {
  const { type, version } = place;
  const decoded = decodeObject(type, version, body, options.fieldValidation);
  const next = decoded.object;
  placeInNamespace(place, next);
  if ((next.metadata.name ?? "") === "")
    throw badRequest(`the name of the object (${name} based on URL) was undeterminable: name must be provided`);
  if (next.metadata.name !== name)
    throw badRequest(`the name of the object (${next.metadata.name}) does not match the name on the URL (${name})`);
  const current = context.storage.get(resourceId(type), next.metadata.namespace, name)?.object;
  if (current === undefined) throw notFound(type, name);
  const given = next.metadata.resourceVersion ?? "";
  if (given === "" && !type.unconditionalUpdate) {
    throw invalid({ ...type, kind: type.plural }, name, [
      { field: "metadata.resourceVersion", reason: "Invalid", value: 0, detail: "must be specified for an update" },
    ]);
  }
  const object = update(context, type, version, subresource, current, next, decoded.errors, options);
  return { object, warnings: [...decoded.warnings, ...(subresource === "" ? advice(context, type, object) : [])] };
}

/** A patch applied to the object as the client sees it; `apply` answers the patched copy. */
export function patchObject(
  context: Context,
  place: Place,
  name: string,
  subresource: string,
  patch: Body,
  apply: (current: JsonObject) => JsonValue,
  options: WriteOptions,
): Written {
  const { type, version } = place;
  const stored = context.storage.get(resourceId(type), place.namespace, name);
  if (stored === undefined) throw notFound(type, name);
  const visible = { ...stored.object, apiVersion: apiVersionOf(type.group, version.name) };
  const decoded = decodePatched(type, version, cloneJson(apply(visible)), options.fieldValidation, patch);
  const { metadata } = decoded.object;
  if (metadata.name !== name)
    throw badRequest(`the name of the object (${metadata.name}) does not match the name on the URL (${name})`);
  if (metadata.namespace !== place.namespace)
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  const { uid } = decoded.object.metadata;
  const fixed: FieldError[] =
    uid === stored.object.metadata.uid || (uid ?? "") === ""
      ? []
      : [{ field: "metadata.uid", reason: "Invalid", value: uid, detail: "field is immutable" }];
  if (fixed.length > 0) throw invalid(type, name, fixed);
  const object = update(context, type, version, subresource, stored.object, decoded.object, decoded.errors, options);
  return { object, warnings: [...decoded.warnings, ...(subresource === "" ? advice(context, type, object) : [])] };
}

function update(
  context: Context,
  type: ResourceType,
  version: ServedVersion,
  subresource: string,
  current: ApiObject,
  next: ApiObject,
  schemaErrors: readonly FieldError[],
  options: WriteOptions,
): ApiObject {
  const { name, namespace } = current.metadata;
  const given = next.metadata.resourceVersion ?? "";
  if ((next.metadata.uid ?? "") !== "" && next.metadata.uid !== current.metadata.uid) {
    throw conflict(
      type,
      name,
      `StorageError: invalid object, Code: 4, Key: /registry/${type.plural}/${namespace === undefined ? "" : `${namespace}/`}${name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: ${next.metadata.uid}, UID in object meta: ${current.metadata.uid}`,
    );
  }
  if (given !== "" && given !== current.metadata.resourceVersion) throw conflict(type, name, STALE);
  keepServerFields(next, current);
  if (subresource !== "") keepAllButStatus(type, next, current);
  else if (version.hasStatus) keepField(next, current, "status");
  if (type.builtIn && subresource === "") type.prepareUpdate?.(next, current, ruleContext(context));
  const errors =
    subresource === "" || type.builtIn
      ? errorsWithoutStatus(type, version, schemaErrors)
      : schemaErrors.filter(isOfStatus);
  next.apiVersion = current.apiVersion;
  if (type.hasGeneration && subresource === "") bumpGeneration(next, current);
  check(context, type, next, current, errors, subresource);
  if (jsonEquals(next, current)) return current;
  if (options.dryRun) return next;
  // The write that completes a deletion is not a separate change: watchers see only the deletion.
  if (finishDeletion(context, type, next)) return next;
  return context.storage.write(resourceId(type), next).object;
}

function keepServerFields(next: ApiObject, current: ApiObject): void {
  delete next.metadata["managedFields"];
  delete next.metadata["selfLink"];
  for (const field of [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "generateName",
  ])
    keepField(next.metadata, current.metadata, field);
  dropEmpty(next.metadata);
}

/** Empty maps and lists of metadata are not kept. */
function dropEmpty(metadata: Metadata): void {
  for (const field of ["labels", "annotations", "finalizers", "ownerReferences"])
    if (isEmpty(metadata[field])) delete metadata[field];
}

function isEmpty(value: JsonValue | undefined): boolean {
  return Array.isArray(value) ? value.length === 0 : isJsonObject(value) && Object.keys(value).length === 0;
}

function keepField(next: JsonObject, current: JsonObject, field: string): void {
  const value = current[field];
  if (value === undefined) delete next[field];
  else next[field] = value;
}

/** A write to the status subresource changes the status only; of built-in kinds also labels and annotations, as in Kubernetes. */
function keepAllButStatus(type: ResourceType, next: ApiObject, current: ApiObject): void {
  for (const field of new Set([...Object.keys(next), ...Object.keys(current)])) {
    if (field === "status" || field === "apiVersion" || field === "kind" || field === "metadata") continue;
    keepField(next, current, field);
  }
  const kept = type.builtIn
    ? ["ownerReferences", "finalizers"]
    : ["ownerReferences", "finalizers", "labels", "annotations"];
  for (const field of kept) keepField(next.metadata, current.metadata, field);
  const [status, before] = [next["status"], current["status"]];
  if (isJsonObject(status) && isJsonObject(before))
    for (const field of type.lastingStatus ?? []) if (status[field] === undefined) keepField(status, before, field);
}

function bumpGeneration(next: ApiObject, current: ApiObject): void {
  const desired = (object: ApiObject): JsonObject => {
    const { metadata: _, status: __, ...rest } = object;
    return rest;
  };
  if (!jsonEquals(desired(next), desired(current))) next.metadata.generation = (current.metadata.generation ?? 0) + 1;
}
