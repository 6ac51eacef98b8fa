/** Json: untrusted JSON values, and the few accessors that all their readers need. */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;

/** An object of JSON. A field that is absent reads as undefined. */
export interface JsonObject {
  [field: string]: JsonValue;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value if it is an object, else an empty one: for reading optional parts of untrusted objects. */
export function objectAt(value: JsonValue | undefined): JsonObject {
  return isJsonObject(value) ? value : {};
}

/** The value if it is a list, else an empty one. */
export function arrayAt(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? value : [];
}

/** The value if it is a string, else the empty string. */
export function stringAt(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

/** Deep equality; the order of an object's fields does not matter, the order of a list does. */
export function jsonEquals(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!jsonEquals(a[i], b[i])) return false;
    return true;
  }
  if (!isJsonObject(a) || !isJsonObject(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  for (const key of keys) if (!Object.hasOwn(b, key) || !jsonEquals(a[key], b[key])) return false;
  return true;
}

/** A deep copy that shares nothing with the original. */
export function cloneJson<T extends JsonValue>(value: T): T {
  return structuredClone(value);
}

/** The value at the dotted path of object fields, or undefined. */
export function fieldAt(value: JsonValue | undefined, ...path: readonly string[]): JsonValue | undefined {
  let current = value;
  for (const field of path) {
    if (!isJsonObject(current)) return undefined;
    current = Object.hasOwn(current, field) ? current[field] : undefined;
  }
  return current;
}
