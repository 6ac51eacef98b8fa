/** Fields: the first checks of every part of an untrusted object: its type, and whether it has unknown fields. */
import type { FieldError } from "../schema/field-error.ts";
import { isJsonObject } from "../schema/json.ts";

export type Fields = Readonly<Record<string, unknown>>;

export function wrongType(field: string, value: unknown, wanted: string): FieldError {
  return { field, reason: "TypeInvalid", value, detail: `must be ${wanted}` };
}

/** The value as an object, or undefined after adding an error. */
export function checkObject(value: unknown, field: string, errors: FieldError[]): Fields | undefined {
  if (isJsonObject(value)) return value;
  errors.push(wrongType(field, value, "an object"));
  return undefined;
}

/** The items with their paths; none for an absent or null list, and none after adding an error for a value that is not a list. */
export function checkList(
  value: unknown,
  field: string,
  errors: FieldError[],
): readonly (readonly [item: unknown, path: string])[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value.map((item: unknown, index) => [item, `${field}[${index}]`] as const);
  errors.push(wrongType(field, value, "a list"));
  return [];
}

/** Adds an error for every unknown field: silently dropping a misplaced field would make a rule wider than written. */
export function checkFields(object: Fields, path: string, known: readonly string[], errors: FieldError[]): void {
  for (const name of Object.keys(object)) {
    if (known.includes(name)) continue;
    errors.push({
      field: path === "" ? name : `${path}.${name}`,
      reason: "Forbidden",
      value: object[name],
      detail: `unknown field, must be one of ${known.join(", ")}`,
    });
  }
}

/** The objects among the items of a list; none for anything else. */
export function objectsIn(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isJsonObject) : [];
}
