/** Key: the identity of a resource: kind, namespace and name. */
import type { Brand } from "../lib/brand.ts";
import { type Kind, KINDS } from "./kind.ts";

export interface Key<K extends Kind = Kind> {
  readonly kind: K;
  /** undefined for kinds of the cluster scope. */
  readonly namespace: string | undefined;
  readonly name: string;
}

/** `Pod/default/web` or `Node/n1`: the text form of a key, unique over all kinds; use it as the key of a Map. */
export type KeyText = Brand<string, "KeyText">;

export function formatKey(key: Key): KeyText {
  return (
    key.namespace === undefined ? `${key.kind}/${key.name}` : `${key.kind}/${key.namespace}/${key.name}`
  ) as KeyText;
}

/** The inverse of `formatKey`, for an object of that kind. */
export function keyOfText<K extends Kind>(kind: K, text: KeyText): Key<K> {
  const path = text.slice(kind.length + 1);
  const slash = KINDS[kind].namespaced ? path.indexOf("/") : -1;
  return slash < 0
    ? { kind, namespace: undefined, name: path }
    : { kind, namespace: path.slice(0, slash), name: path.slice(slash + 1) };
}

/** `default/web` or `n1`: how an operator writes the object when its kind is known. */
export function formatName(key: Key): string {
  return key.namespace === undefined ? key.name : `${key.namespace}/${key.name}`;
}
