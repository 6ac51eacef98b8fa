/**
 * Documents: the objects in the bytes of a file, as kubectl reads them: JSON if the text begins with a brace, else YAML; a byte order mark
 * says which Unicode it is.
 */
import type { JsonValue } from "../model/schema/json.ts";
import { looksLikeJson, readJsonStream } from "./json-stream.ts";
import { type Document, readYaml, SyntaxFault } from "./yaml.ts";

/** Throws SyntaxFault. */
export function readDocuments(bytes: Uint8Array): Document[] {
  const text = decode(bytes);
  if (!looksLikeJson(text)) return readYaml(text);
  try {
    return readJsonStream(text);
  } catch (error) {
    // A flow mapping of YAML begins with a brace as well.
    const documents = error instanceof SyntaxFault ? attemptYaml(text) : undefined;
    if (documents === undefined) throw error;
    return documents;
  }
}

function attemptYaml(text: string): Document[] | undefined {
  try {
    return readYaml(text);
  } catch (error) {
    if (error instanceof SyntaxFault) return undefined;
    throw error;
  }
}

function decode(bytes: Uint8Array): string {
  const [first, second] = bytes;
  const encoding =
    first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
  return new TextDecoder(encoding).decode(bytes);
}

/** An object of a list of any depth, or the document itself, with its place in the list: `items[3]`. */
export interface Item {
  readonly value: JsonValue;
  readonly path: string;
}

/**
 * The objects of a document: itself, or what it lists. Items of a typed list (`PodList`, as `kubectl get --raw` prints it) have no kind of
 * their own: the list gives it.
 */
export function itemsOf(value: JsonValue, path = ""): Item[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [{ value, path }];
  const { kind, apiVersion, items } = value;
  if (typeof kind !== "string" || !kind.endsWith("List") || !(Array.isArray(items) || items === null))
    return [{ value, path }];
  const itemKind = kind.slice(0, -"List".length);
  return (items ?? []).flatMap((item, index) => {
    const isTyped =
      itemKind !== "" &&
      typeof item === "object" &&
      item !== null &&
      !Array.isArray(item) &&
      item["kind"] === undefined;
    const named = isTyped ? { ...item, kind: itemKind, apiVersion: item["apiVersion"] ?? apiVersion ?? null } : item;
    return itemsOf(named, `${path}${path === "" ? "" : "."}items[${index}]`);
  });
}
