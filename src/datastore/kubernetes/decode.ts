/** Decode: response bodies of the API server as resources and list pages; checks only what the store itself needs. */
import { KINDS, type Kind } from "../../model/kind.ts";
import type { Resource } from "../../model/resource.ts";
import { unavailableError } from "./error-status.ts";

/** The object with apiVersion and kind, which lists leave out. Only metadata.name is checked: the rest is left to the readers. */
export function resourceOf<K extends Kind>(kind: K, value: unknown, operation: string): Resource<K> {
  const { apiVersion, apiKind } = KINDS[kind];
  if (typeof value === "object" && value !== null && "metadata" in value && hasName(value.metadata)) {
    const object = value as { apiVersion?: unknown; kind?: unknown };
    object.apiVersion = apiVersion;
    object.kind = apiKind;
    return object as unknown as Resource<K>;
  }
  throw unavailableError(
    operation,
    kind,
    undefined,
    `the server sent ${JSON.stringify(value).slice(0, 100)}, must be a ${apiKind}`,
  );
}

function hasName(metadata: unknown): boolean {
  return typeof metadata === "object" && metadata !== null && "name" in metadata && typeof metadata.name === "string";
}

/** One page of a list; `next` is the server's `continue` token. */
export interface Page {
  readonly items: readonly unknown[];
  readonly revision: string;
  readonly next: string | undefined;
}

export function pageOf(kind: string, value: unknown): Page {
  const list = value as { items?: unknown; metadata?: { resourceVersion?: unknown; continue?: unknown } } | null;
  const revision = list?.metadata?.resourceVersion;
  const items = list?.items ?? [];
  if (typeof revision !== "string" || !Array.isArray(items)) {
    throw unavailableError(
      "list",
      kind,
      undefined,
      `the server sent ${JSON.stringify(value).slice(0, 100)}, must be a list`,
    );
  }
  const next = list?.metadata?.continue;
  return { items, revision, next: typeof next === "string" && next !== "" ? next : undefined };
}
