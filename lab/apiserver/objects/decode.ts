/**
 * Decode: from a request body to an object of one kind and version, as Kubernetes decodes: identity checked, unknown fields found and
 * dropped, nulls dropped, defaults filled in. What the values mean is checked later (`write.ts`).
 */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { fieldAt, isJsonObject, type JsonObject, type JsonValue, stringAt } from "../../../src/model/schema/json.ts";
import { applyDefaults, dropNulls, prune } from "../../../src/model/schema/normalize.ts";
import { validate } from "../../../src/model/schema/validate.ts";
import { ApiError, badRequest, invalid, invalidPatch } from "../errors.ts";
import type { Body } from "../http/body.ts";
import type { FieldValidation } from "../http/request.ts";
import type { Schema } from "../../../src/model/schema/schema.ts";
import { requiredOf } from "../kinds/overlay.ts";
import { type ApiObject, isApiObject } from "../object.ts";
import { apiVersionOf, type ResourceType, type ServedVersion } from "../resource-type.ts";

/** How a list of errors begins in the words of the YAML reader. */
const YAML_ERRORS = /^yaml: unmarshal errors:\n {2}/;

export interface Decoded {
  readonly object: ApiObject;
  readonly warnings: readonly string[];
  /** What the schema has against the object. */
  readonly errors: readonly FieldError[];
}

/** The object in the body of a POST or PUT. */
export function decodeObject(
  type: ResourceType,
  version: ServedVersion,
  body: Body,
  fieldValidation: FieldValidation,
): Decoded {
  if (!isJsonObject(body.value))
    throw badRequest(`the object provided is unrecognized (must be of type ${type.kind}): it is no JSON object`);
  if (!type.builtIn && body.value["kind"] === undefined) {
    const text = JSON.stringify(body.value);
    throw badRequest(
      `the object provided is unrecognized (must be of type ${type.kind}): Object 'Kind' is missing in '${text}' (${text})`,
    );
  }
  const object = withIdentity(type, version, body.value);
  const problems = normalize(type, version, object);
  const strict = [...unknownFields(type, problems.unknown), ...body.repeated];
  if (fieldValidation === "Strict" && strict.length > 0)
    throw badRequest(cannotHandle(type, version, `strict decoding error: ${strict.join(", ")}`));
  return {
    object,
    warnings: fieldValidation === "Ignore" ? [] : strict.map((text) => text.replace(YAML_ERRORS, "")),
    errors: problems.errors,
  };
}

/** The object that a patch produced; strict problems are reported as those of the patch. */
export function decodePatched(
  type: ResourceType,
  version: ServedVersion,
  patched: JsonValue,
  fieldValidation: FieldValidation,
  patch: Body,
): Decoded {
  if (!isJsonObject(patched)) throw badRequest(`the patched ${type.kind} is no JSON object`);
  const before = JSON.stringify(patched);
  const [object, problems] = readPatched(type, version, patched, before);
  const strict = [...unknownFields(type, problems.unknown), ...patch.repeated];
  if (fieldValidation === "Strict" && strict.length > 0)
    throw invalidPatch(before, `strict decoding error: ${strict.join(", ")}`);
  return { object, warnings: fieldValidation === "Ignore" ? [] : strict, errors: problems.errors };
}

/** What a built-in kind cannot hold is reported as an error of the patch. */
function readPatched(
  type: ResourceType,
  version: ServedVersion,
  patched: JsonObject,
  before: string,
): [ApiObject, Problems] {
  try {
    const object = withIdentity(type, version, patched);
    return [object, normalize(type, version, object)];
  } catch (error) {
    if (!type.builtIn || !(error instanceof ApiError) || error.reason !== "BadRequest") throw error;
    throw invalidPatch(before, error.message.replace(/^.* cannot be handled as a \w+: /, ""));
  }
}

/** Kubernetes reports those of custom kinds by name, those of built-in ones in the order of the text. */
function unknownFields(type: ResourceType, paths: readonly string[]): string[] {
  return (type.builtIn ? [...paths] : paths.toSorted()).map((path) => `unknown field ${JSON.stringify(path)}`);
}

function cannotHandle(type: ResourceType, version: ServedVersion, why: string): string {
  return `${type.kind} in version ${JSON.stringify(version.name)} cannot be handled as a ${type.kind}: ${why}`;
}

function withIdentity(type: ResourceType, version: ServedVersion, value: JsonObject): ApiObject {
  const apiVersion = apiVersionOf(type.group, version.name);
  value["apiVersion"] ??= apiVersion;
  value["kind"] ??= type.kind;
  value["metadata"] ??= {};
  if (value["apiVersion"] !== apiVersion) {
    throw badRequest(
      `the API version in the data (${String(value["apiVersion"])}) does not match the expected API version (${apiVersion})`,
    );
  }
  const { kind } = value;
  if (!type.builtIn && typeof kind === "string" && kind !== type.kind)
    throw invalid({ ...type, kind }, stringAt(fieldAt(value, "metadata", "name")), [
      { field: "kind", reason: "Invalid", value: kind, detail: `must be ${type.kind}` },
    ]);
  if (value["kind"] !== type.kind)
    throw badRequest(`the kind in the data (${String(value["kind"])}) does not match the expected kind (${type.kind})`);
  if (!isApiObject(value)) throw badRequest(cannotHandle(type, version, "metadata must be an object"));
  return value;
}

interface Problems {
  readonly unknown: readonly string[];
  readonly errors: readonly FieldError[];
}

/** Drops what does not belong, fills in defaults; 400 for values whose JSON type a built-in kind cannot hold. */
function normalize(type: ResourceType, version: ServedVersion, object: ApiObject): Problems {
  const metadataSchema = version.schema.properties?.["metadata"] ?? {};
  nullsToText(metadataSchema, object.metadata);
  if (type.builtIn) nullsToText(version.schema, object);
  dropNulls(metadataSchema, object.metadata);
  dropNulls(version.schema, object);
  const unknown = prune(version.schema, object, "");
  if (type.builtIn) dropEmpty(version.schema, object);
  const metadataErrors = validate(metadataSchema, object.metadata, "metadata");
  const wrongMetadata = metadataErrors.find((error) => error.reason === "TypeInvalid");
  if (wrongMetadata !== undefined) throw badRequest(cannotHandle(type, version, goTypeError(wrongMetadata, type.kind)));
  applyDefaults(version.schema, object);
  const errors = validate(version.schema, object, "");
  const wrongType = type.builtIn ? errors.find((error) => error.reason === "TypeInvalid") : undefined;
  if (wrongType !== undefined) throw badRequest(cannotHandle(type, version, goTypeError(wrongType, type.kind)));
  return { unknown, errors };
}

/** A null among the values of a map of texts is an empty text, as Go decodes it. */
function nullsToText(schema: Schema, value: JsonValue): void {
  if (Array.isArray(value)) for (const item of value) nullsToText(schema.items ?? {}, item);
  if (!isJsonObject(value)) return;
  const values = typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
  for (const [field, child] of Object.entries(value)) {
    if (child === null && values?.type === "string") value[field] = "";
    else nullsToText(schema.properties?.[field] ?? values ?? {}, child);
  }
}

/** Built-in kinds keep no empty lists and maps, except in the fields that Go writes always. */
function dropEmpty(schema: Schema, value: JsonValue): void {
  if (Array.isArray(value)) {
    for (const item of value) dropEmpty(schema.items ?? {}, item);
    return;
  }
  if (!isJsonObject(value)) return;
  const always = requiredOf(schema.definition ?? "");
  for (const [field, child] of Object.entries(value)) {
    const rule =
      schema.properties?.[field] ??
      (typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined);
    if (rule === undefined) continue;
    const isEmpty = Array.isArray(child)
      ? child.length === 0
      : isJsonObject(child) && rule.additionalProperties !== undefined && Object.keys(child).length === 0;
    if (isEmpty && schema.properties !== undefined && !always.includes(field)) delete value[field];
    else dropEmpty(rule, child);
  }
}

/** How Go's decoder words a wrong JSON type, or bytes that are not base64. */
function goTypeError(error: FieldError, kind: string): string {
  if (error.detail.includes("must be of type byte"))
    return `illegal base64 data at input byte ${Math.max(0, String(error.value).search(/[^A-Za-z0-9+/]/))}`;
  const wanted = /of type ([a-z0-9,-]+):/.exec(error.detail)?.[1] ?? "object";
  const found = error.value === "integer" ? "number" : error.value === "boolean" ? "bool" : String(error.value);
  const goType: Readonly<Record<string, string>> = {
    integer: "int32",
    boolean: "bool",
    array: "slice",
    object: "struct",
    number: "float64",
  };
  return `json: cannot unmarshal ${found} into Go struct field ${kind}.${error.field.replace(/\[\d+\]/g, "")} of type ${goType[wanted] ?? wanted}`;
}
