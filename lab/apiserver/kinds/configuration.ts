/** Configuration: ServiceAccount, ConfigMap and Secret. */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { arrayAt, fieldAt, jsonEquals, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import { builtIn } from "./built-in.ts";
import { column } from "./columns.ts";

const KEY_WORDS =
  "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const MAX_BYTES = 1024 * 1024;

function keyProblem(key: string): string | undefined {
  if (key.length > 253) return "must be no more than 253 characters";
  if (!/^[-._a-zA-Z0-9]+$/.test(key)) return KEY_WORDS;
  if (key === "." || key === "..") return `must not be '${key}'`;
  return key.startsWith("..") ? "must not start with '..'" : undefined;
}

function validateKeys(object: ApiObject, field: string): FieldError[] {
  return Object.keys(objectAt(object[field])).flatMap((key): FieldError[] => {
    const detail = keyProblem(key);
    return detail === undefined ? [] : [{ field: `${field}[${key}]`, reason: "Invalid", value: key, detail }];
  });
}

/** All values together are at most 1 MiB; `bytes` are the fields whose values are base64. */
function validateSize(
  object: ApiObject,
  text: readonly string[],
  bytes: readonly string[],
  field: string,
): FieldError[] {
  const lengths = (fields: readonly string[], encoding: "utf8" | "base64"): number =>
    fields
      .flatMap((name) => Object.values(objectAt(object[name])))
      .reduce<number>((sum, value) => sum + Buffer.byteLength(stringAt(value), encoding), 0);
  return lengths(text, "utf8") + lengths(bytes, "base64") <= MAX_BYTES
    ? []
    : [{ field, reason: "TooLong", value: "", detail: `may not be more than ${MAX_BYTES} bytes` }];
}

/** An object marked immutable stays as it is, the mark included. */
function validateImmutable(object: ApiObject, current: ApiObject | undefined, fields: readonly string[]): FieldError[] {
  if (current?.["immutable"] !== true) return [];
  const errors: FieldError[] = [];
  if (object["immutable"] !== true)
    errors.push({
      field: "immutable",
      reason: "Forbidden",
      value: undefined,
      detail: "field is immutable when `immutable` is set",
    });
  for (const field of fields) {
    if (!jsonEquals(object[field], current[field]))
      errors.push({
        field,
        reason: "Forbidden",
        value: undefined,
        detail: "field is immutable when `immutable` is set",
      });
  }
  return errors;
}

export const SERVICE_ACCOUNT = builtIn({
  kind: "ServiceAccount",
  plural: "serviceaccounts",
  shape: "core.v1.ServiceAccount",
  namespaced: true,
  shortNames: ["sa"],
  answersDeleted: true,
  middle: [column("Secrets", "Number of its secrets", (object) => arrayAt(object["secrets"]).length)],
});

export const CONFIG_MAP = builtIn({
  kind: "ConfigMap",
  plural: "configmaps",
  shape: "core.v1.ConfigMap",
  namespaced: true,
  shortNames: ["cm"],
  middle: [
    column(
      "Data",
      "Number of keys",
      (object) => Object.keys(objectAt(object["data"])).length + Object.keys(objectAt(object["binaryData"])).length,
    ),
  ],
  validate: (object, current) => [
    ...validateKeys(object, "data"),
    ...validateKeys(object, "binaryData"),
    ...Object.keys(objectAt(object["data"])).flatMap((key): FieldError[] =>
      Object.hasOwn(objectAt(object["binaryData"]), key)
        ? [{ field: `data[${key}]`, reason: "Invalid", value: key, detail: "duplicate of key present in binaryData" }]
        : [],
    ),
    ...validateSize(object, ["data"], ["binaryData"], "[]"),
    ...validateImmutable(object, current, ["data", "binaryData"]),
  ],
});

/** `stringData` is written only: it becomes part of `data`. */
function mergeStringData(secret: ApiObject): void {
  const text = objectAt(secret["stringData"]);
  delete secret["stringData"];
  if (Object.keys(text).length === 0) return;
  const encoded = Object.entries(text).map(([key, value]) => [key, Buffer.from(stringAt(value)).toString("base64")]);
  secret["data"] = { ...objectAt(secret["data"]), ...Object.fromEntries(encoded) };
}

const KEYS_OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
  "kubernetes.io/basic-auth": ["username", "password"],
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
  "kubernetes.io/dockercfg": [".dockercfg"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
};
const ACCOUNT = "kubernetes.io/service-account.name";

/** What a secret of a type known to Kubernetes must hold; of a name and a password one suffices. */
function requiredKeys(secret: ApiObject): FieldError[] {
  const type = stringAt(secret["type"]);
  if (type === "kubernetes.io/service-account-token") {
    return (secret.metadata.annotations?.[ACCOUNT] ?? "") === ""
      ? [{ field: `metadata.annotations[${ACCOUNT}]`, reason: "Required", value: undefined, detail: "" }]
      : [];
  }
  const missing = (KEYS_OF_TYPE[type] ?? []).filter((key) => !Object.hasOwn(objectAt(secret["data"]), key));
  if (type === "kubernetes.io/basic-auth" && missing.length < 2) return [];
  return missing.map((key) => ({ field: `data[${key}]`, reason: "Required", value: undefined, detail: "" }));
}

export const SECRET = builtIn({
  kind: "Secret",
  plural: "secrets",
  shape: "core.v1.Secret",
  namespaced: true,
  selectableFields: { type: (secret) => stringAt(secret["type"]) },
  middle: [
    column("Type", "What the secret is for", (secret) => stringAt(secret["type"])),
    column("Data", "Number of keys", (secret) => Object.keys(objectAt(secret["data"])).length),
  ],
  prepareCreate: mergeStringData,
  prepareUpdate: mergeStringData,
  validate: (secret, current) => [
    ...validateKeys(secret, "data"),
    ...validateSize(secret, [], ["data"], "data"),
    ...requiredKeys(secret),
    ...(current !== undefined && !jsonEquals(fieldAt(current, "type"), secret["type"])
      ? [{ field: "type", reason: "Invalid", value: secret["type"], detail: "field is immutable" } as const]
      : []),
    ...validateImmutable(secret, current, ["data"]),
  ],
});
