/** Case: one object of a kind of the policy language, and which of its fields are refused; for tests of validators and of the embedded API. */
import { KINDS } from "../../src/model/kind.ts";
import type { PolicyKind } from "../../src/model/kinds/validation/validators.ts";
import type { JsonObject } from "../../src/model/schema/json.ts";

export interface Case {
  readonly title: string;
  readonly kind: PolicyKind;
  readonly object: JsonObject;
  /** All fields with an error; empty when the object is valid. */
  readonly refused: readonly string[];
  /** In the error of the first field. */
  readonly words: string;
  /** An API server changes the object before it judges it: drops an unknown field. */
  readonly onlyHere: boolean;
}

/** The fields, one or several, below a path that the table gives; undefined: valid. */
export type Refused = string | readonly string[] | undefined;

export function objectOf(kind: PolicyKind, spec: JsonObject, metadata: JsonObject = {}): JsonObject {
  const { apiVersion, apiKind, namespaced } = KINDS[kind];
  const place = namespaced ? { namespace: "default" } : {};
  return { apiVersion, kind: apiKind, metadata: { name: "x", ...place, ...metadata }, spec };
}

export function caseOf(
  title: string,
  kind: PolicyKind,
  object: JsonObject,
  refused?: Refused,
  words = "",
  onlyHere = false,
): Case {
  const fields = refused === undefined ? [] : typeof refused === "string" ? [refused] : refused;
  return { title: `${kind}: ${title}`, kind, object, refused: fields, words, onlyHere };
}

export function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}
