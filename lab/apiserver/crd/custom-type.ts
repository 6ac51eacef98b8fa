/** CustomType: the served kind that an established CustomResourceDefinition describes. */
import {
  arrayAt,
  fieldAt,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../../../src/model/schema/json.ts";
import type { Schema } from "../../../src/model/schema/schema.ts";
import { AGE_COLUMN, NAME_COLUMN } from "../kinds/columns.ts";
import { schemaOf } from "../kinds/overlay.ts";
import { STANDARD_FINALIZERS } from "../objects/metadata.ts";
import type { ApiObject } from "../object.ts";
import { apiVersionOf, type Column, type ResourceType, type ServedVersion } from "../resource-type.ts";
import { formatAge } from "../table/age.ts";
import { compileRules } from "./cel/validator.ts";
import { parseJsonPath, readJsonPath } from "./json-path.ts";

/** The definition must be valid: what the rules of its kind refuse cannot come here. */
export function customType(definition: ApiObject): ResourceType {
  const spec = objectAt(definition["spec"]);
  const names = objectAt(spec["names"]);
  const versions = arrayAt(spec["versions"]).map(objectAt);
  const group = stringAt(spec["group"]);
  const served = versions.filter((version) => version["served"] === true);
  return {
    group,
    plural: stringAt(names["plural"]),
    singular: stringAt(names["singular"]),
    kind: stringAt(names["kind"]),
    listKind: stringAt(names["listKind"]),
    shortNames: arrayAt(names["shortNames"]).map(stringAt),
    categories: arrayAt(names["categories"]).map(stringAt),
    namespaced: spec["scope"] === "Namespaced",
    builtIn: false,
    nameRule: "subdomain",
    hasGeneration: true,
    unconditionalUpdate: false,
    createsWithStatus: false,
    answersDeleted: false,
    subresources: {},
    selectableFields: Object.assign({}, ...served.map(selectableFields)),
    storageVersion: stringAt(versions.find((version) => version["storage"] === true)?.["name"]),
    ...celValidation(group, versions),
    warn: finalizerWarnings,
    versions: served
      .sort((a, b) => compareVersions(stringAt(a["name"]), stringAt(b["name"])))
      .map((version) => servedVersion(version, group, stringAt(names["kind"]))),
  };
}

/** Kubernetes advises against names of finalizers that say nothing of whose they are. */
function finalizerWarnings(object: ApiObject): string[] {
  return (object.metadata.finalizers ?? [])
    .filter((name) => !name.includes("/") && !STANDARD_FINALIZERS.has(name))
    .map(
      (name) =>
        `metadata.finalizers: ${JSON.stringify(name)}: prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers`,
    );
}

/** The rules in CEL of the version that an object is written in, if any version has some. */
function celValidation(group: string, versions: readonly JsonObject[]): Pick<ResourceType, "validate"> {
  const checks = new Map(
    versions.map((version) => [
      apiVersionOf(group, stringAt(version["name"])),
      compileRules(objectAt(fieldAt(version, "schema", "openAPIV3Schema")) as Schema, "").check,
    ]),
  );
  if ([...checks.values()].every((check) => check === undefined)) return {};
  return { validate: (object, current) => checks.get(object.apiVersion)?.(object, current) ?? [] };
}

function servedVersion(version: JsonObject, group: string, kind: string): ServedVersion {
  const own = objectAt(fieldAt(version, "schema", "openAPIV3Schema")) as Schema;
  const name = stringAt(version["name"]);
  const definition = `${group.split(".").reverse().join(".")}.${name}.${kind}`;
  const schema: Schema = {
    ...own,
    definition,
    properties: {
      ...own.properties,
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: schemaOf("meta.v1.ObjectMeta"),
    },
  };
  const columns = arrayAt(version["additionalPrinterColumns"]).map(objectAt).map(printerColumn);
  const deprecation =
    version["deprecated"] === true
      ? stringAt(version["deprecationWarning"]) || `${group}/${name} ${kind} is deprecated`
      : undefined;
  return {
    name,
    schema,
    columns: [NAME_COLUMN, ...(columns.length === 0 ? [AGE_COLUMN] : columns)],
    hasStatus: isJsonObject(fieldAt(version, "subresources", "status")),
    ...(deprecation === undefined ? {} : { deprecation }),
  };
}

function selectableFields(version: JsonObject): Record<string, (object: ApiObject) => string> {
  const fields: Record<string, (object: ApiObject) => string> = {};
  for (const entry of arrayAt(version["selectableFields"])) {
    const text = stringAt(fieldAt(entry, "jsonPath"));
    const path = parseJsonPath(text);
    if (path.ok) fields[text.replace(/^\./, "")] = (object) => String(readJsonPath(path.value, object)[0] ?? "");
  }
  return fields;
}

function printerColumn(entry: JsonObject): Column {
  const path = parseJsonPath(stringAt(entry["jsonPath"]));
  const type = columnType(stringAt(entry["type"]));
  return {
    name: stringAt(entry["name"]),
    type,
    format: stringAt(entry["format"]),
    description:
      stringAt(entry["description"]) ||
      `Custom resource definition column (in JSONPath format): ${stringAt(entry["jsonPath"])}`,
    priority: typeof entry["priority"] === "number" && entry["priority"] > 0 ? 1 : 0,
    cell: (object, nowMs) => (path.ok ? cellValue(type, readJsonPath(path.value, object)[0], nowMs) : undefined),
  };
}

function columnType(type: string): Column["type"] {
  return type === "integer" || type === "number" || type === "boolean" || type === "date" ? type : "string";
}

function cellValue(type: Column["type"], value: JsonValue | undefined, nowMs: number): JsonValue | undefined {
  if (value === undefined || value === null) return undefined;
  switch (type) {
    case "date":
      return formatAge(value, nowMs);
    case "integer":
    case "number":
      return typeof value === "number" ? value : undefined;
    case "boolean":
      return typeof value === "boolean" ? value : undefined;
    case "string":
      return typeof value === "object" ? JSON.stringify(value) : String(value);
  }
}

/** Kubernetes' order of preference: v2 before v1 before v1beta1 before v1alpha1, other names last. */
export function compareVersions(a: string, b: string): number {
  const rank = (name: string): readonly [number, number, number] => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(name);
    if (match === null) return [3, 0, 0];
    return [match[2] === undefined ? 0 : match[2] === "beta" ? 1 : 2, -Number(match[1]), -Number(match[3] ?? 0)];
  };
  const [x, y] = [rank(a), rank(b)];
  return x[0] - y[0] || x[1] - y[1] || x[2] - y[2] || (a < b ? -1 : a > b ? 1 : 0);
}
