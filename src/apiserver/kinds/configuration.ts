/** Configuration: ServiceAccount, ConfigMap and Secret. */
import type { FieldError } from "../../model/schema/field-error.ts";
import { arrayAt, fieldAt, jsonEquals, objectAt, stringAt } from "../../model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import { builtIn } from "./built-in.ts";
import { column } from "./columns.ts";

const KEY_WORDS = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function validateKeys(object: ApiObject, field: string): FieldError[] {
  return Object.keys(objectAt(object[field])).flatMap((key): FieldError[] => {
    if (/^[-._a-zA-Z0-9]+$/.test(key) && key.length <= 253 && key !== "." && key !== "..") return [];
    return [{ field: `${field}[${key}]`, reason: "Invalid", value: key, detail: KEY_WORDS }];
  });
}

function validateBytes(object: ApiObject, field: string): FieldError[] {
  return Object.entries(objectAt(object[field])).flatMap(([key, value]): FieldError[] =>
    BASE64.test(stringAt(value)) ? [] : [{ field: `${field}[${key}]`, reason: "Invalid", value, detail: "must be base64" }],
  );
}

/** An object marked immutable stays as it is, the mark included. */
function validateImmutable(object: ApiObject, current: ApiObject | undefined, fields: readonly string[]): FieldError[] {
  if (current?.["immutable"] !== true) return [];
  const errors: FieldError[] = [];
  if (object["immutable"] !== true) errors.push({ field: "immutable", reason: "Forbidden", value: undefined, detail: "field is immutable when `immutable` is set" });
  for (const field of fields) {
    if (!jsonEquals(object[field], current[field])) errors.push({ field, reason: "Forbidden", value: undefined, detail: "field is immutable when `immutable` is set" });
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
  middle: [column("Secrets", "Number of its secrets", (object) => arrayAt(object["secrets"]).length, "integer")],
});

export const CONFIG_MAP = builtIn({
  kind: "ConfigMap",
  plural: "configmaps",
  shape: "core.v1.ConfigMap",
  namespaced: true,
  shortNames: ["cm"],
  middle: [column("Data", "Number of keys", (object) => Object.keys(objectAt(object["data"])).length + Object.keys(objectAt(object["binaryData"])).length, "integer")],
  validate: (object, current) => [
    ...validateKeys(object, "data"),
    ...validateKeys(object, "binaryData"),
    ...validateBytes(object, "binaryData"),
    ...Object.keys(objectAt(object["data"])).flatMap((key): FieldError[] =>
      Object.hasOwn(objectAt(object["binaryData"]), key) ? [{ field: `data[${key}]`, reason: "Invalid", value: key, detail: "duplicate of key present in binaryData" }] : [],
    ),
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

export const SECRET = builtIn({
  kind: "Secret",
  plural: "secrets",
  shape: "core.v1.Secret",
  namespaced: true,
  selectableFields: { type: (secret) => stringAt(secret["type"]) },
  middle: [
    column("Type", "What the secret is for", (secret) => stringAt(secret["type"])),
    column("Data", "Number of keys", (secret) => Object.keys(objectAt(secret["data"])).length, "integer"),
  ],
  prepareCreate: mergeStringData,
  prepareUpdate: mergeStringData,
  validate: (secret, current) => [
    ...validateKeys(secret, "data"),
    ...validateBytes(secret, "data"),
    ...(current !== undefined && !jsonEquals(fieldAt(current, "type"), secret["type"]) ? [{ field: "type", reason: "Invalid", value: secret["type"], detail: "field is immutable" } as const] : []),
    ...validateImmutable(secret, current, ["data"]),
  ],
});
