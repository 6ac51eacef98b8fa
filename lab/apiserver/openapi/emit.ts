/**
 * Emit: schemas as OpenAPI writes them: named definitions once, references to them elsewhere.
 *
 * A document is collected by walking the schemas of the kinds; `collect` answers the map of definitions.
 */
import type { JsonObject, JsonValue } from "../../../src/model/schema/json.ts";
import type { Schema } from "../../../src/model/schema/schema.ts";
import { requiredOf } from "../kinds/overlay.ts";
import { apiVersionOf, type ResourceType, type ServedVersion } from "../resource-type.ts";

export interface Dialect {
  /** Where definitions live: `#/definitions/` or `#/components/schemas/`. */
  readonly prefix: string;
  /** v2 has no `nullable`, `anyOf` or defaults; v3 has. */
  readonly version: 2 | 3;
}

const KEYWORDS = [
  "description",
  "enum",
  "minimum",
  "maximum",
  "minLength",
  "maxLength",
  "pattern",
  "format",
  "minItems",
  "maxItems",
  "uniqueItems",
  "x-kubernetes-patch-strategy",
  "x-kubernetes-patch-merge-key",
  "x-kubernetes-list-type",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-map-type",
  "x-kubernetes-preserve-unknown-fields",
  "x-kubernetes-int-or-string",
  "x-kubernetes-embedded-resource",
] as const;

/** Adds the kind's schema and everything that it refers to. */
export function collect(
  definitions: Map<string, JsonObject>,
  type: ResourceType,
  version: ServedVersion,
  dialect: Dialect,
): void {
  const name = version.schema.definition ?? "";
  reference(definitions, version.schema, dialect);
  const kind = { group: type.group, kind: type.kind, version: version.name };
  definitions.set(name, { ...definitions.get(name), "x-kubernetes-group-version-kind": [kind] });
  const listName = `${name}List`;
  definitions.set(listName, {
    description: `${type.listKind} is a list of ${type.kind}`,
    type: "object",
    required: ["items"],
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object" },
      items: { type: "array", items: { $ref: `${dialect.prefix}${name}` } },
    },
    "x-kubernetes-group-version-kind": [{ ...kind, kind: type.listKind }],
  });
}

function reference(definitions: Map<string, JsonObject>, schema: Schema, dialect: Dialect): JsonObject {
  const name = schema.definition;
  if (name === undefined) return inline(definitions, schema, dialect);
  if (!definitions.has(name)) {
    definitions.set(name, {});
    definitions.set(name, definitionOf(definitions, schema, name, dialect));
  }
  return { $ref: `${dialect.prefix}${name}` };
}

function definitionOf(
  definitions: Map<string, JsonObject>,
  schema: Schema,
  name: string,
  dialect: Dialect,
): JsonObject {
  if (name.endsWith(".Quantity"))
    return dialect.version === 2 ? { type: "string" } : { oneOf: [{ type: "string" }, { type: "number" }] };
  if (name.endsWith("Time")) return { type: "string", format: "date-time" };
  if (name.endsWith(".IntOrString"))
    return dialect.version === 2
      ? { type: "string", format: "int-or-string" }
      : { format: "int-or-string", oneOf: [{ type: "integer" }, { type: "string" }] };
  const { definition: _, ...rest } = schema;
  const emitted = inline(definitions, rest, dialect);
  const required = [...new Set([...(schema.required ?? []), ...requiredOf(name)])];
  return required.length === 0 ? emitted : { ...emitted, required };
}

function inline(definitions: Map<string, JsonObject>, schema: Schema, dialect: Dialect): JsonObject {
  const out: JsonObject = {};
  const intOrString = schema["x-kubernetes-int-or-string"] === true;
  if (schema.type !== undefined) out["type"] = schema.type;
  for (const keyword of KEYWORDS) {
    const value = schema[keyword];
    if (value !== undefined && value !== "") out[keyword] = value as JsonValue;
  }
  if (schema.required !== undefined && schema.required.length > 0) out["required"] = [...schema.required];
  if (dialect.version === 3) {
    if (schema.nullable === true) out["nullable"] = true;
    if (schema.default !== undefined) out["default"] = schema.default as JsonValue;
    if (intOrString) out["oneOf"] = [{ type: "integer" }, { type: "string" }];
  }
  if (schema.properties !== undefined)
    out["properties"] = Object.fromEntries(
      Object.entries(schema.properties).map(([field, rule]) => [field, child(definitions, rule, dialect)]),
    );
  if (schema.items !== undefined) out["items"] = child(definitions, schema.items, dialect);
  if (typeof schema.additionalProperties === "object")
    out["additionalProperties"] = child(definitions, schema.additionalProperties, dialect);
  return out;
}

/** A reference cannot carry words of its own in v2 readers that drop its siblings; v3 wraps it. */
function child(definitions: Map<string, JsonObject>, schema: Schema, dialect: Dialect): JsonObject {
  const emitted = reference(definitions, schema, dialect);
  if (emitted["$ref"] === undefined || schema.description === undefined || schema.description === "") return emitted;
  return dialect.version === 3
    ? { description: schema.description, allOf: [emitted] }
    : { description: schema.description, ...emitted };
}

/** Paths of the kind with their operations, as kubectl reads them: GVK, action, parameters of writes. */
export function pathsOf(
  type: ResourceType,
  version: ServedVersion,
  parameters: readonly JsonObject[],
  responses: JsonObject,
): JsonObject {
  const root = type.group === "" ? `/api/${version.name}` : `/apis/${apiVersionOf(type.group, version.name)}`;
  const collection = `${root}/${type.namespaced ? "namespaces/{namespace}/" : ""}${type.plural}`;
  const kind = { group: type.group, kind: type.kind, version: version.name };
  const operation = (action: string): JsonObject => ({
    operationId: `${action}${type.kind}${version.name}${type.group}`,
    parameters: [...parameters],
    responses,
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": kind,
  });
  return {
    [collection]: { get: operation("list"), post: operation("post"), delete: operation("deletecollection") },
    [`${collection}/{name}`]: {
      get: operation("get"),
      put: operation("put"),
      patch: operation("patch"),
      delete: operation("delete"),
    },
  };
}
