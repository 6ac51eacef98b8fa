/** Definition: the kind CustomResourceDefinition: its rules, and the conditions NamesAccepted and Established. */
import { formatParseError } from "../../../src/lib/result.ts";
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import {
  arrayAt,
  fieldAt,
  jsonEquals,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../../../src/model/schema/json.ts";
import type { Schema } from "../../../src/model/schema/schema.ts";
import { timestamp } from "../objects/context.ts";
import { nameProblems } from "../objects/metadata.ts";
import type { ApiObject } from "../object.ts";
import { builtIn } from "../kinds/built-in.ts";
import { column, NAME_COLUMN } from "../kinds/columns.ts";
import { parseJsonPath } from "./json-path.ts";
import { compileRules } from "./cel/validator.ts";
import { validateStructural } from "./structural.ts";

function fillNames(definition: ApiObject): void {
  const names = objectAt(fieldAt(definition, "spec", "names"));
  const kind = stringAt(names["kind"]);
  if (stringAt(names["singular"]) === "") names["singular"] = kind.toLowerCase();
  if (stringAt(names["listKind"]) === "") names["listKind"] = `${kind}List`;
  const spec = objectAt(definition["spec"]);
  delete spec["preserveUnknownFields"];
}

/** Names that the definition claims within its group. */
function claims(definition: ApiObject): { readonly kinds: readonly string[]; readonly words: readonly string[] } {
  const names = objectAt(fieldAt(definition, "spec", "names"));
  return {
    kinds: [stringAt(names["kind"]), stringAt(names["listKind"])],
    words: [stringAt(names["plural"]), stringAt(names["singular"]), ...arrayAt(names["shortNames"]).map(stringAt)],
  };
}

/** The status of a definition beside the established ones; the first to claim a name keeps it. */
export function definitionStatus(definition: ApiObject, others: readonly ApiObject[], nowMs: number): JsonObject {
  const group = fieldAt(definition, "spec", "group");
  const mine = claims(definition);
  const rivals = others
    .filter(
      (other) =>
        other.metadata.name !== definition.metadata.name &&
        fieldAt(other, "spec", "group") === group &&
        isEstablished(other),
    )
    .map(claims);
  const kind = mine.kinds.find((name) => rivals.some((rival) => rival.kinds.includes(name)));
  const word = mine.words.find((name) => rivals.some((rival) => rival.words.includes(name)));
  const taken = kind ?? word;
  const condition = (type: string, status: boolean, reason: string, message: string): JsonObject => ({
    type,
    status: status ? "True" : "False",
    lastTransitionTime: transitionTime(definition, type, status, nowMs),
    reason,
    message,
  });
  const conditions =
    taken === undefined
      ? [
          condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
          condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted"),
        ]
      : [
          condition(
            "NamesAccepted",
            false,
            kind === undefined ? "NamesConflict" : "KindConflict",
            `${JSON.stringify(taken)} is already in use`,
          ),
          condition("Established", false, "NotAccepted", "not all names are accepted"),
        ];
  const versions = arrayAt(fieldAt(definition, "spec", "versions"))
    .filter((version) => fieldAt(version, "storage") === true)
    .map((version) => stringAt(fieldAt(version, "name")));
  const stored = [...new Set([...arrayAt(fieldAt(definition, "status", "storedVersions")).map(stringAt), ...versions])];
  return {
    acceptedNames: taken === undefined ? objectAt(fieldAt(definition, "spec", "names")) : { plural: "", kind: "" },
    conditions,
    storedVersions: stored,
  };
}

function transitionTime(definition: ApiObject, type: string, status: boolean, nowMs: number): string {
  const before = arrayAt(fieldAt(definition, "status", "conditions")).find((entry) => fieldAt(entry, "type") === type);
  return fieldAt(before, "status") === (status ? "True" : "False")
    ? stringAt(fieldAt(before, "lastTransitionTime"))
    : timestamp(nowMs);
}

export function isEstablished(definition: ApiObject): boolean {
  return arrayAt(fieldAt(definition, "status", "conditions")).some(
    (entry) => fieldAt(entry, "type") === "Established" && fieldAt(entry, "status") === "True",
  );
}

function validate(definition: ApiObject, current: ApiObject | undefined, subresource: string): FieldError[] {
  if (subresource === "status") return [];
  const spec = objectAt(definition["spec"]);
  const names = objectAt(spec["names"]);
  const [group, plural] = [stringAt(spec["group"]), stringAt(names["plural"])];
  const errors: FieldError[] = [];
  if (definition.metadata.name !== `${plural}.${group}`) {
    errors.push({
      field: "metadata.name",
      reason: "Invalid",
      value: definition.metadata.name,
      detail: `must be spec.names.plural+"."+spec.group`,
    });
  }
  if (group === "") errors.push({ field: "spec.group", reason: "Required", value: undefined, detail: "" });
  else if (!group.includes("."))
    errors.push({
      field: "spec.group",
      reason: "Invalid",
      value: group,
      detail: "should be a domain with at least one dot",
    });
  else
    for (const detail of nameProblems("subdomain", group))
      errors.push({ field: "spec.group", reason: "Invalid", value: group, detail });
  if (stringAt(spec["scope"]) === "")
    errors.push({ field: "spec.scope", reason: "Required", value: undefined, detail: "" });
  for (const field of ["plural", "singular", "kind", "listKind"]) {
    const name = stringAt(names[field]);
    if (name === "") errors.push({ field: `spec.names.${field}`, reason: "Required", value: undefined, detail: "" });
    else
      for (const detail of nameProblems("service", name.toLowerCase()))
        errors.push({ field: `spec.names.${field}`, reason: "Invalid", value: name, detail });
  }
  if (fieldAt(spec, "conversion", "strategy") !== "None") {
    errors.push({
      field: "spec.conversion.strategy",
      reason: "NotSupported",
      value: fieldAt(spec, "conversion", "strategy"),
      detail: '"None"',
    });
  }
  for (const field of ["group", "scope"])
    if (current !== undefined && !jsonEquals(fieldAt(current, "spec", field), spec[field]))
      errors.push({ field: `spec.${field}`, reason: "Invalid", value: spec[field], detail: "field is immutable" });
  return [...errors, ...validateVersions(spec)];
}

function validateVersions(spec: JsonObject): FieldError[] {
  const versions = arrayAt(spec["versions"]).map(objectAt);
  const errors: FieldError[] = [];
  const seen = new Set<string>();
  if (versions.length === 0) return [{ field: "spec.versions", reason: "Required", value: undefined, detail: "" }];
  versions.forEach((version, index) => {
    const at = `spec.versions[${index}]`;
    const name = stringAt(version["name"]);
    for (const detail of nameProblems("service", name))
      errors.push({ field: `${at}.name`, reason: "Invalid", value: name, detail });
    if (seen.has(name)) errors.push({ field: `${at}.name`, reason: "Duplicate", value: name, detail: "" });
    seen.add(name);
    errors.push(...validateSchema(fieldAt(version, "schema", "openAPIV3Schema"), `${at}.schema.openAPIV3Schema`));
    arrayAt(version["additionalPrinterColumns"]).forEach((entry, place) =>
      errors.push(...validateColumn(objectAt(entry), `${at}.additionalPrinterColumns[${place}]`)),
    );
  });
  if (versions.filter((version) => version["storage"] === true).length !== 1) {
    errors.push({
      field: "spec.versions",
      reason: "Invalid",
      value: versions.map((version) => version["name"]),
      detail: "must have exactly one version marked as storage version",
    });
  }
  return errors;
}

function validateSchema(schema: JsonValue | undefined, at: string): readonly FieldError[] {
  const errors = validateStructural(schema, at);
  return errors.length > 0 ? errors : compileRules(objectAt(schema) as Schema, at).problems;
}

function validateColumn(entry: JsonObject, at: string): FieldError[] {
  const errors: FieldError[] = [];
  const path = parseJsonPath(stringAt(entry["jsonPath"]));
  if (stringAt(entry["name"]) === "")
    errors.push({ field: `${at}.name`, reason: "Required", value: undefined, detail: "" });
  if (stringAt(entry["jsonPath"]) === "")
    errors.push({ field: `${at}.jsonPath`, reason: "Required", value: undefined, detail: "" });
  else if (!path.ok)
    errors.push({
      field: `${at}.jsonPath`,
      reason: "Invalid",
      value: entry["jsonPath"],
      detail: formatParseError(path.error),
    });
  if (!["boolean", "date", "integer", "number", "string"].includes(stringAt(entry["type"]))) {
    errors.push({
      field: `${at}.type`,
      reason: "Invalid",
      value: entry["type"] ?? "",
      detail: "must be one of boolean,date,integer,number,string",
    });
  }
  return errors;
}

export const CUSTOM_RESOURCE_DEFINITION = builtIn({
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  group: "apiextensions.k8s.io",
  shape: "apiextensions.v1.CustomResourceDefinition",
  namespaced: false,
  shortNames: ["crd", "crds"],
  categories: ["api-extensions"],
  hasStatus: true,
  hasGeneration: true,
  unconditionalUpdate: false,
  columns: [
    NAME_COLUMN,
    column("Created At", "Time of creation", (definition) => stringAt(definition.metadata.creationTimestamp), "date"),
  ],
  prepareCreate: (definition, context) => {
    fillNames(definition);
    definition["status"] = definitionStatus(
      definition,
      context.list("customresourcedefinitions.apiextensions.k8s.io", undefined),
      context.nowMs,
    );
  },
  prepareUpdate: fillNames,
  validate,
});
