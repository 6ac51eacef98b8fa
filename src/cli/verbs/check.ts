/**
 * Check: everything that is wrong with an object, without a cluster: the validators of the policy kinds, and for the other kinds their
 * schema. Each error names the field, its value and what is allowed. Fills in the directions of a policy that gives none.
 */
import { CALICO_NODE_SCHEMA } from "../../model/kinds/calico-node.ts";
import { CRDS } from "../../model/kinds/crds.ts";
import { policyTypesOf } from "../../model/kinds/network-policy.ts";
import { PATTERNS, PROTOCOL_NAMES } from "../../model/kinds/rule.ts";
import { shape } from "../../model/kinds/validation/shape.ts";
import { VALIDATORS, type Validator } from "../../model/kinds/validation/validators.ts";
import { validateNetworkPolicy } from "../../model/kubernetes/network-policy-validation.ts";
import { type FieldError, formatFieldError } from "../../model/schema/field-error.ts";
import { fieldAt, isJsonObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../../model/schema/json.ts";
import type { Schema } from "../../model/schema/schema.ts";
import { applyDefaults, dropNulls } from "../../model/schema/normalize.ts";
import { parseSelector } from "../../model/selector/parse.ts";
import { copyJson } from "../../lib/copy.ts";
import { formatParseError } from "../../lib/result.ts";
import { parsePrefix } from "../../net/prefix.ts";
import type { ServedKind } from "./kinds.ts";
import { nearest } from "./nearest.ts";

const METADATA = new Set(
  "name generateName namespace labels annotations uid resourceVersion generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds finalizers ownerReferences managedFields selfLink".split(
    " ",
  ),
);
const ONLY_DEFAULT: ReadonlySet<string> = new Set([
  "ClusterInformation",
  "IPAMConfiguration",
  "KubeControllersConfiguration",
]);

/** Empty for a valid object. */
export function errorsOf(kind: ServedKind, object: JsonObject): readonly FieldError[] {
  const schema = schemaOf(kind);
  const errors = [...unknownMetadata(object), ...validatorOf(kind, schema)(object)];
  // What a value of the wrong type has in it says nothing more.
  const wrong = errors.flatMap(({ reason, field }) => (reason === "TypeInvalid" ? [field] : []));
  return errors
    .filter(({ detail, field }) => detail !== UNKNOWN || !wrong.some((each) => field.startsWith(`${each}.`)))
    .map((error) => explained(error, object, schema));
}

function validatorOf(kind: ServedKind, schema: Schema | undefined): Validator {
  if (kind.kind === "KubernetesNetworkPolicy")
    return (object) => {
      const { spec, ...rest } = objectAt(object as JsonValue);
      return [...shapeErrors({ ...rest, spec: {} }, {}), ...validateNetworkPolicy({ ...rest, spec: spec ?? {} })];
    };
  const own: Validator | undefined = (VALIDATORS as Readonly<Record<string, Validator>>)[kind.kind];
  if (own !== undefined) return own;
  return (object) => [
    ...shapeErrors(object, fieldsOf(schema)["spec"] ?? {}),
    ...(kind.kind === "IPPool" ? poolErrors(object as JsonObject) : []),
    ...(ONLY_DEFAULT.has(kind.kind) ? nameErrors(object as JsonObject) : []),
  ];
}

function shapeErrors(object: unknown, spec: Schema): readonly FieldError[] {
  const shaped = shape(object, { properties: { spec } });
  return shaped.ok ? shaped.errors.list : shaped.errors;
}

function poolErrors(pool: JsonObject): FieldError[] {
  const cidr = fieldAt(pool, "spec", "cidr");
  const errors: FieldError[] = [];
  if (typeof cidr === "string" && !parsePrefix(cidr).ok)
    errors.push({
      field: "spec.cidr",
      reason: "Invalid",
      value: cidr,
      detail: "must be a range such as 10.65.0.0/16 or fd00::/64",
    });
  for (const field of ["nodeSelector", "namespaceSelector"]) {
    const text = stringAt(fieldAt(pool, "spec", field));
    const selector = text === "" ? undefined : parseSelector(text);
    if (selector !== undefined && !selector.ok)
      errors.push({ field: `spec.${field}`, reason: "Invalid", value: text, detail: formatParseError(selector.error) });
  }
  return errors;
}

function nameErrors(object: JsonObject): FieldError[] {
  const name = fieldAt(object, "metadata", "name");
  return name === "default"
    ? []
    : [{ field: "metadata.name", reason: "Invalid", value: name, detail: "must be default: there is one such object" }];
}

function unknownMetadata(object: JsonObject): FieldError[] {
  return Object.keys(objectAt(object["metadata"]))
    .filter((name) => !METADATA.has(name))
    .map((name) => ({ field: `metadata.${name}`, reason: "Forbidden", value: undefined, detail: UNKNOWN }));
}

/** As the validators say it. */
const UNKNOWN = "is no field of this kind";

/** Kinds without a CRD: their objects are stored only where there is no Kubernetes. */
const STORED: Readonly<Record<string, Schema>> = {
  Node: CALICO_NODE_SCHEMA,
  WorkloadEndpoint: { properties: { spec: { type: "object", "x-kubernetes-preserve-unknown-fields": true } } },
};

function schemaOf({ kind, apiKind, apiVersion }: ServedKind): Schema | undefined {
  if (kind === "KubernetesNetworkPolicy") return undefined;
  const own = STORED[apiKind];
  if (own !== undefined) return own;
  const crd = CRDS.find(({ spec }) => spec.names.kind === apiKind && apiVersion.startsWith(`${spec.group}/`));
  return crd?.spec.versions[0]?.schema.openAPIV3Schema;
}

function fieldsOf(schema: Schema | undefined): Readonly<Record<string, Schema>> {
  return schema?.properties ?? {};
}

/**
 * The error as its author needs it: a wrong type with the value, not the name of its type; an unknown field with its value and the fields
 * that exist where it stands.
 */
function explained(error: FieldError, object: JsonObject, schema: Schema | undefined): FieldError {
  const path = error.field.split(/\.|(?=\[)/);
  if (error.detail.startsWith(`${error.field} in body `)) {
    const detail = error.detail.slice(`${error.field} in body `.length);
    if (error.reason !== "TypeInvalid") return { ...error, detail: WORDS_OF_PATTERNS.get(detail) ?? detail };
    const example = /[sS]elector$/.test(error.field) ? ", such as app == 'web'" : "";
    return { ...error, value: valueAt(object, path) ?? null, detail: `${detail.replace(/: "[^"]*"$/, "")}${example}` };
  }
  if (error.reason === "Required" && error.detail === "") {
    const allowed = path.reduce<Schema | undefined>(below, schema)?.enum;
    return allowed === undefined ? error : { ...error, detail: `must be one of ${allowed.join(", ")}` };
  }
  if (error.detail !== UNKNOWN) return error;
  const last = path.pop() ?? "";
  const place = path.reduce<Schema | undefined>(below, schema);
  const names = error.field.startsWith("metadata.") ? [...METADATA] : Object.keys(fieldsOf(place));
  const near = nearest(last, names);
  const allowed =
    near === undefined ? (names.length === 0 ? "" : `: there are ${names.join(", ")}`) : `; did you mean ${near}?`;
  return { ...error, value: valueAt(object, [...path, last]), detail: `${UNKNOWN}${allowed}` };
}

const WORDS_OF_PATTERNS: ReadonlyMap<string, string> = new Map(
  (
    [
      [PATTERNS.protocol, `must be ${PROTOCOL_NAMES.join(", ")} or a number from 1 to 255`],
      [PATTERNS.port, "must be a number, a range such as 80:90, or a name"],
      [PATTERNS.tier, "must have only characters a-z, 0-9 and -, and begin and end with a letter or digit"],
    ] as const
  ).map(([pattern, words]) => [`should match '${pattern}'`, words]),
);

function below(schema: Schema | undefined, part: string): Schema | undefined {
  if (part.startsWith("[")) return schema?.items;
  const more = schema?.additionalProperties;
  return fieldsOf(schema)[part] ?? (typeof more === "object" ? more : undefined);
}

function valueAt(value: JsonValue | undefined, path: readonly string[]): JsonValue | undefined {
  return path.reduce<JsonValue | undefined>((current, part) => {
    const index = /^\[(\d+)\]$/.exec(part)?.[1];
    if (index !== undefined) return Array.isArray(current) ? current[Number(index)] : undefined;
    return isJsonObject(current) ? current[part] : undefined;
  }, value);
}

const LONGEST_VALUE = 200;

/** `spec.order: Invalid value: "x": must be …`; with the value of a forbidden field, too, and long values cut. */
export function errorText(error: FieldError): string {
  const json = JSON.stringify(error.value);
  const isLong = json !== undefined && json.length > LONGEST_VALUE;
  const short = isLong ? { ...error, value: `${json.slice(0, LONGEST_VALUE)}…` } : error;
  if (error.reason !== "Forbidden" || json === undefined) return formatFieldError(short);
  return `${error.field}: Forbidden value: ${json.slice(0, LONGEST_VALUE)}${isLong ? "…" : ""}: ${error.detail}`;
}

const WITH_TYPES: ReadonlySet<string> = new Set([
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
]);

/** Upstream's tools find the policies of a tier by it. */
const TIER_LABEL = "projectcalico.org/tier";

/**
 * The object as it is sent: with its defaults, and a policy with the directions whose rules it gives and the label of its tier. Upstream's API
 * server fills them in where its admission policies are installed, its client everywhere else; other datastores have nobody who would.
 */
export function completed(kind: ServedKind, object: JsonObject): JsonObject {
  const schema = fieldsOf(schemaOf(kind))["spec"];
  if (schema === undefined || !isJsonObject(object["spec"])) return object;
  const spec = copyJson(object["spec"]);
  dropNulls(schema, spec);
  applyDefaults(schema, spec);
  if (kind.kind === "StagedKubernetesNetworkPolicy" && spec["stagedAction"] !== "Delete")
    spec["policyTypes"] ??= spec["egress"] === undefined ? ["Ingress"] : ["Ingress", "Egress"];
  if (!WITH_TYPES.has(kind.kind)) return { ...object, spec };
  if (spec["stagedAction"] !== "Delete") spec["types"] ??= [...policyTypesOf({ ...spec, types: [] })];
  const metadata = objectAt(object["metadata"]);
  const own = metadata["labels"] ?? {};
  // What is wrong with it is said elsewhere.
  const labels = isJsonObject(own) ? { ...own, [TIER_LABEL]: stringAt(spec["tier"]) } : own;
  return { ...object, metadata: { ...metadata, labels }, spec };
}
