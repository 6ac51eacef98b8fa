/**
 * Shape: the first part of every validation: whether an untrusted object fits the schema of its kind and has valid metadata.
 *
 * Nulls and defaults are treated as an API server does. Unknown fields are errors: dropping a misplaced one would make a rule wider than
 * written. An API server has dropped them before anything else sees the object.
 */
import { copyJson } from "../../../lib/copy.ts";
import { labelKeyErrors, labelValueErrors } from "../../labels.ts";
import type { FieldError } from "../../schema/field-error.ts";
import { isJsonObject, type JsonObject, type JsonValue } from "../../schema/json.ts";
import { applyDefaults, dropNulls, prune } from "../../schema/normalize.ts";
import type { Infer, Schema } from "../../schema/schema.ts";
import { validate } from "../../schema/validate.ts";
import { MOST_NAME, SUBDOMAIN_PATTERN } from "../common.ts";
import { Errors } from "./errors.ts";

export interface Metadata {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** `spec` and `metadata` of an object that fits, with defaults; or what does not. */
export type Shaped<S> =
  | { readonly ok: true; readonly spec: Infer<S>; readonly metadata: Metadata; readonly errors: Errors }
  | { readonly ok: false; readonly errors: readonly FieldError[] };

interface KindSchema extends Schema {
  readonly properties: { readonly spec: Schema };
}

const SUBDOMAIN = new RegExp(SUBDOMAIN_PATTERN);
const MOST_ANNOTATIONS = 256 * 1024;
const FIELDS = new Set(["apiVersion", "kind", "metadata", "spec", "status"]);

/** `status` is not judged: it is not the user's. */
export function shape<const S extends KindSchema>(object: unknown, schema: S): Shaped<S["properties"]["spec"]> {
  if (!isJsonObject(object))
    return {
      ok: false,
      errors: [{ field: "<nil>", reason: "TypeInvalid", value: object, detail: "must be an object" }],
    };
  const errors = new Errors();
  for (const field of Object.keys(object)) if (!FIELDS.has(field)) errors.forbidden(field, object[field], UNKNOWN);
  const metadata = checkMetadata(object["metadata"] ?? {}, errors);
  const spec: JsonValue | undefined = object["spec"];
  if (spec === undefined || spec === null) {
    errors.required("spec", "");
    return { ok: false, errors: errors.list };
  }
  const copy = copyJson(spec);
  dropNulls(schema.properties.spec, copy);
  for (const field of prune(schema.properties.spec, copy, "spec")) errors.forbidden(field, undefined, UNKNOWN);
  applyDefaults(schema.properties.spec, copy);
  errors.add(validate(schema.properties.spec, copy, "spec"));
  if (errors.list.length > 0 || metadata === undefined) return { ok: false, errors: errors.list };
  return { ok: true, spec: copy as Infer<S["properties"]["spec"]>, metadata, errors };
}

const UNKNOWN = "is no field of this kind";

function checkMetadata(value: JsonValue, errors: Errors): Metadata | undefined {
  if (!isJsonObject(value)) {
    errors.invalid("metadata", value, "must be an object");
    return undefined;
  }
  const name = value["name"] ?? "";
  if (name === "") errors.required("metadata.name", "name or generateName is required");
  else if (typeof name !== "string" || name.length > MOST_NAME || !SUBDOMAIN.test(name))
    errors.invalid(
      "metadata.name",
      name,
      `must be at most ${MOST_NAME} characters a-z, 0-9, - and ., and begin and end with a letter or digit`,
    );
  const labels = textsOf(value, "labels", errors);
  for (const [key, label] of Object.entries(labels)) {
    for (const detail of labelKeyErrors(key)) errors.invalid("metadata.labels", key, detail);
    for (const detail of labelValueErrors(label)) errors.invalid("metadata.labels", label, detail);
  }
  checkAnnotations(textsOf(value, "annotations", errors), "metadata.annotations", errors);
  return { name: typeof name === "string" ? name : "", labels };
}

function textsOf(metadata: JsonObject, field: string, errors: Errors): Readonly<Record<string, string>> {
  const value = metadata[field] ?? {};
  const isMap = isJsonObject(value) && Object.values(value).every((text) => typeof text === "string");
  if (isMap) return value as Readonly<Record<string, string>>;
  errors.invalid(`metadata.${field}`, value, "must be a map of text");
  return {};
}

/** Of an object, and of a rule: names are like label keys, but with capitals, and all together at most 256 KiB. */
export function checkAnnotations(annotations: Readonly<Record<string, string>>, field: string, errors: Errors): void {
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) {
    for (const detail of labelKeyErrors(key.toLowerCase())) errors.invalid(field, key, detail);
    size += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (size > MOST_ANNOTATIONS)
    errors.add([{ field, reason: "TooLong", value: "", detail: `may not be more than ${MOST_ANNOTATIONS} bytes` }]);
}
