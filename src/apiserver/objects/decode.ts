/**
 * Decode: from a request body to an object of one kind and version, as Kubernetes decodes: identity checked, unknown fields found and
 * dropped, nulls dropped, defaults filled in. What the values mean is checked later (`write.ts`).
 */
import type { FieldError } from "../../model/schema/field-error.ts";
import { isJsonObject, type JsonObject, type JsonValue } from "../../model/schema/json.ts";
import { applyDefaults, dropNulls, prune } from "../../model/schema/normalize.ts";
import { validate } from "../../model/schema/validate.ts";
import { badRequest, invalid } from "../errors.ts";
import type { Body } from "../http/body.ts";
import type { FieldValidation } from "../http/request.ts";
import { type ApiObject, isApiObject } from "../object.ts";
import { apiVersionOf, type ResourceType, type ServedVersion } from "../resource-type.ts";

export interface Decoded {
  readonly object: ApiObject;
  readonly warnings: readonly string[];
  /** What the schema has against the object. */
  readonly errors: readonly FieldError[];
}

/** The object in the body of a POST or PUT. */
export function decodeObject(type: ResourceType, version: ServedVersion, body: Body, fieldValidation: FieldValidation): Decoded {
  if (!isJsonObject(body.value)) throw badRequest(`the object provided is unrecognized (must be of type ${type.kind}): it is no JSON object`);
  const object = withIdentity(type, version, body.value);
  const problems = normalize(type, version, object);
  const strict = [...problems.unknown.map((path) => `unknown field ${JSON.stringify(path)}`), ...body.duplicates.map((path) => `duplicate field ${JSON.stringify(path)}`)];
  if (fieldValidation === "Strict" && strict.length > 0) throw badRequest(cannotHandle(type, version, `strict decoding error: ${strict.join(", ")}`));
  return { object, warnings: fieldValidation === "Ignore" ? [] : strict, errors: problems.errors };
}

/** The object that a patch made; strict problems are told as those of the patch. */
export function decodePatched(type: ResourceType, version: ServedVersion, patched: JsonValue, fieldValidation: FieldValidation, patch: Body): Decoded {
  if (!isJsonObject(patched)) throw badRequest(`the patched ${type.kind} is no JSON object`);
  const before = JSON.stringify(patched);
  const object = withIdentity(type, version, patched);
  const problems = normalize(type, version, object);
  const strict = [...problems.unknown.map((path) => `unknown field ${JSON.stringify(path)}`), ...patch.duplicates.map((path) => `duplicate field ${JSON.stringify(path)}`)];
  if (fieldValidation === "Strict" && strict.length > 0) {
    throw invalid({ ...type, kind: "" }, "", [{ field: "patch", reason: "Invalid", value: before, detail: `strict decoding error: ${strict.join(", ")}` }]);
  }
  return { object, warnings: fieldValidation === "Ignore" ? [] : strict, errors: problems.errors };
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
    throw badRequest(`the API version in the data (${String(value["apiVersion"])}) does not match the expected API version (${apiVersion})`);
  }
  if (value["kind"] !== type.kind) throw badRequest(`the kind in the data (${String(value["kind"])}) does not match the expected kind (${type.kind})`);
  if (!isApiObject(value)) throw badRequest(cannotHandle(type, version, "metadata must be an object"));
  return value;
}

/** Drops what does not belong, fills in defaults; 400 for values whose JSON type a built-in kind cannot hold. */
function normalize(type: ResourceType, version: ServedVersion, object: ApiObject): { unknown: readonly string[]; errors: readonly FieldError[] } {
  const metadataSchema = version.schema.properties?.["metadata"] ?? {};
  dropNulls(metadataSchema, object.metadata, "every");
  dropNulls(version.schema, object, type.builtIn ? "every" : "defaulted");
  const unknown = prune(version.schema, object, "");
  const metadataErrors = validate(metadataSchema, object.metadata, "metadata");
  const wrongMetadata = metadataErrors.find((error) => error.reason === "TypeInvalid");
  if (wrongMetadata !== undefined) throw badRequest(cannotHandle(type, version, goTypeError(wrongMetadata, type.kind)));
  applyDefaults(version.schema, object);
  const errors = validate(version.schema, object, "");
  const wrongType = type.builtIn ? errors.find((error) => error.reason === "TypeInvalid") : undefined;
  if (wrongType !== undefined) throw badRequest(cannotHandle(type, version, goTypeError(wrongType, type.kind)));
  return { unknown, errors };
}

/** How Go's decoder words a wrong JSON type. */
function goTypeError(error: FieldError, kind: string): string {
  const wanted = /of type ([a-z0-9,-]+):/.exec(error.detail)?.[1] ?? "object";
  const found = error.value === "integer" ? "number" : error.value === "boolean" ? "bool" : String(error.value);
  const goType: Readonly<Record<string, string>> = { integer: "int32", boolean: "bool", array: "slice", object: "struct", number: "float64" };
  return `json: cannot unmarshal ${found} into Go struct field ${kind}.${error.field.replace(/\[\d+\]/g, "")} of type ${goType[wanted] ?? wanted}`;
}
