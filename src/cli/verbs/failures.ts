/** Failures: why an operation on an object did not happen, in upstream's terms, with what to do next. */
import { isUnserved, StoreError } from "../../datastore/store.ts";

/** The object cannot be handled as asked; other objects may. The message is for the operator. */
export class Refusal extends Error {
  override readonly name = "Refusal";
}

export type Verb = "get" | "create" | "apply" | "replace" | "patch" | "delete" | "label" | "validate";

export const PAST: Readonly<Record<Verb, string>> = {
  get: "got",
  create: "created",
  apply: "applied",
  replace: "replaced",
  patch: "patched",
  delete: "deleted",
  label: "labelled",
  validate: "validated",
};

/** Whether the error concerns one object or request; anything else is a bug. */
export function isFailure(error: unknown): error is Refusal | StoreError {
  return error instanceof Refusal || error instanceof StoreError;
}

/** `object` is `NetworkPolicy(shop/web)`. */
export function failureText(error: Refusal | StoreError, object: string, verb: Verb): string {
  if (error instanceof Refusal) return error.message;
  switch (error.reason) {
    case "not-found":
      // What a write misses is the namespace, which the server names.
      if (verb === "create" || verb === "apply") return `${object}: ${error.message}: create the namespace first`;
      return `resource does not exist: ${object}${MISSING[verb] ?? ""}`;
    case "exists":
      return `resource already exists: ${object}: use apply or replace to change it, or --skip-exists to leave it as it is`;
    case "conflict":
      return `update conflict: ${object}: it changed in the meantime; get it again and repeat the change`;
    case "forbidden":
      return `connection is unauthorized: ${object}: ${error.message}`;
    default:
      return `${object}: ${storeText(error)}`;
  }
}

const MISSING: Partial<Readonly<Record<Verb, string>>> = {
  replace: ": use create or apply to make it",
  delete: ": --skip-not-exists skips such objects",
};

/** What the datastore said, and what it may mean. */
export function storeText(error: StoreError): string {
  return `${error.message}${isUnserved(error) ? ": the server does not know this kind; are Calico's CRDs installed?" : ""}`;
}
