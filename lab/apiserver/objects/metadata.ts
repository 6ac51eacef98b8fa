/**
 * Metadata: the rules for `metadata`, the same for all kinds: names, labels, annotations, finalizers, owners.
 *
 * Source of the words: apimachinery pkg/api/validation/objectmeta.go, pkg/util/validation/validation.go.
 */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { arrayAt, isJsonObject, jsonEquals, stringAt } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import type { ResourceType } from "../resource-type.ts";

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SERVICE = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const QUALIFIED = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;

const SUBDOMAIN_WORDS =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_WORDS =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE_WORDS =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_WORDS =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_WORDS =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

export type NameRule = ResourceType["nameRule"];

/** What is wrong with the name under the rule; empty when nothing is. */
export function nameProblems(rule: NameRule, name: string): string[] {
  const [limit, pattern, words] =
    rule === "subdomain"
      ? ([253, SUBDOMAIN, SUBDOMAIN_WORDS] as const)
      : rule === "label"
        ? ([63, LABEL, LABEL_WORDS] as const)
        : ([63, SERVICE, SERVICE_WORDS] as const);
  const problems = name.length > limit ? [`must be no more than ${limit} characters`] : [];
  if (!pattern.test(name)) problems.push(rule === "label" && SUBDOMAIN.test(name) ? "must not contain dots" : words);
  return problems;
}

/** What is wrong with `prefix/name` as a label key; empty when nothing is. */
export function qualifiedNameProblems(key: string): string[] {
  if (key.split("/").length > 2)
    return [
      `a qualified name ${QUALIFIED_WORDS.slice("name part ".length)} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  const slash = key.lastIndexOf("/");
  const name = key.slice(slash + 1);
  const problems: string[] = [];
  if (slash >= 0) {
    const prefix = key.slice(0, slash);
    if (prefix === "") problems.push("prefix part must be non-empty");
    else problems.push(...nameProblems("subdomain", prefix).map((words) => `prefix part ${words}`));
  }
  if (name === "") problems.push("name part must be non-empty");
  else if (name.length > 63) problems.push("name part must be no more than 63 characters");
  if (!QUALIFIED.test(name)) problems.push(QUALIFIED_WORDS);
  return problems;
}

function fieldErrors(field: string, value: unknown, problems: readonly string[]): FieldError[] {
  return problems.map((detail) => ({ field, reason: "Invalid", value, detail }));
}

/** What is wrong with the value of a label; empty when nothing is. */
export function labelValueProblems(value: string): string[] {
  return [
    ...(value.length > 63 ? ["must be no more than 63 characters"] : []),
    ...(LABEL_VALUE.test(value) ? [] : [VALUE_WORDS]),
  ];
}

/** Labels as they stand at `field`: keys are qualified names, values label values. */
export function validateLabels(labels: Readonly<Record<string, string>>, field: string): FieldError[] {
  return Object.entries(labels).flatMap(([key, value]) => [
    ...fieldErrors(field, key, qualifiedNameProblems(key)),
    ...fieldErrors(field, value, labelValueProblems(value)),
  ]);
}

const MAX_ANNOTATION_BYTES = 256 * 1024;

function validateAnnotations(annotations: Readonly<Record<string, string>>): FieldError[] {
  const errors = Object.keys(annotations).flatMap((key) =>
    fieldErrors("metadata.annotations", key, qualifiedNameProblems(key.toLowerCase())),
  );
  const size = Object.entries(annotations).reduce(
    (sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value),
    0,
  );
  if (size > MAX_ANNOTATION_BYTES)
    errors.push({
      field: "metadata.annotations",
      reason: "TooLong",
      value: "",
      detail: `may not be more than ${MAX_ANNOTATION_BYTES} bytes`,
    });
  return errors;
}

function validateOwners(object: ApiObject): FieldError[] {
  const owners = arrayAt(object.metadata.ownerReferences).map((entry) => (isJsonObject(entry) ? entry : {}));
  const field = "metadata.ownerReferences";
  const errors = owners.flatMap((owner): FieldError[] => {
    const missing = ["apiVersion", "kind", "name", "uid"].filter((name) => stringAt(owner[name]) === "");
    if (owner["apiVersion"] === "v1" && owner["kind"] === "Event")
      return [{ field, reason: "Invalid", value: owner, detail: "/v1, Kind=Event is disallowed from being an owner" }];
    return missing.map((name) => ({
      field: `${field}.${name}`,
      reason: "Invalid",
      value: "",
      detail: name === "apiVersion" ? "version must not be empty" : "must not be empty",
    }));
  });
  const [first, second] = owners
    .filter((owner) => owner["controller"] === true)
    .map((owner) => `${stringAt(owner["kind"])}/${stringAt(owner["name"])}`);
  if (second !== undefined)
    errors.push({
      field,
      reason: "Invalid",
      value: owners,
      detail: `Only one reference can have Controller set to true. Found "true" in references for ${first} and ${second}`,
    });
  return errors;
}

/** Of users' kinds a name need not have a path. */
function validateFinalizers(type: ResourceType, object: ApiObject): FieldError[] {
  return arrayAt(object.metadata.finalizers).flatMap((entry, index) => {
    const name = stringAt(entry);
    const problems = qualifiedNameProblems(name);
    if (problems.length > 0) return fieldErrors("metadata.finalizers", name, problems);
    return !type.builtIn || name.includes("/") || STANDARD_FINALIZERS.has(name)
      ? []
      : fieldErrors(`metadata.finalizers[${index}]`, name, [
          "name is neither a standard finalizer name nor is it fully qualified",
        ]);
  });
}

export const STANDARD_FINALIZERS: ReadonlySet<string> = new Set(["kubernetes", "orphan", "foregroundDeletion"]);

/** Everything wrong with the metadata of an object of the type, apart from what its schema says. */
export function validateMetadata(type: ResourceType, object: ApiObject, current: ApiObject | undefined): FieldError[] {
  const { metadata } = object;
  const errors: FieldError[] = [];
  if (metadata.generateName !== undefined && current === undefined) {
    errors.push(
      ...fieldErrors(
        "metadata.generateName",
        metadata.generateName,
        nameProblems(type.nameRule, metadata.generateName.replace(/-$/, "a")),
      ),
    );
  }
  if (typeof metadata.name !== "string" || metadata.name === "")
    errors.push({
      field: "metadata.name",
      reason: "Required",
      value: undefined,
      detail: "name or generateName is required",
    });
  else if (current === undefined)
    errors.push(...fieldErrors("metadata.name", metadata.name, nameProblems(type.nameRule, metadata.name)));
  errors.push(
    ...validateLabels(metadata.labels ?? {}, "metadata.labels"),
    ...validateAnnotations(metadata.annotations ?? {}),
    ...validateOwners(object),
    ...validateFinalizers(type, object),
  );
  if (current?.metadata.deletionTimestamp !== undefined) errors.push(...noNewFinalizers(object, current));
  return errors;
}

function noNewFinalizers(object: ApiObject, current: ApiObject): FieldError[] {
  const known = arrayAt(current.metadata.finalizers);
  const added = arrayAt(object.metadata.finalizers).filter(
    (finalizer) => !known.some((entry) => jsonEquals(entry, finalizer)),
  );
  if (added.length === 0) return [];
  return [
    {
      field: "metadata.finalizers",
      reason: "Forbidden",
      value: added,
      detail: `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((entry) => JSON.stringify(entry)).join(", ")}}`,
    },
  ];
}
