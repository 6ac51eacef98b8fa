/**
 * Read: get and list, also as they were at an earlier revision, in pages.
 *
 * A `continue` token names the revision of the first page; later pages show the collection as it was then, from the kept changes.
 */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { ApiError, badRequest, expired, invalidOptions } from "../errors.ts";
import { countOf } from "../http/request.ts";
import { type Context } from "./context.ts";
import type { Predicate } from "./selectors.ts";
import type { Storage, Stored } from "./storage.ts";

export interface Page {
  readonly items: readonly Stored[];
  readonly revision: number;
  /** Token for the next page; undefined at the end. */
  readonly next: string | undefined;
  readonly remaining: number | undefined;
}

export interface ListRequest {
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly matches: Predicate | undefined;
  readonly query: URLSearchParams;
}

interface Token {
  readonly revision: number;
  /** The last key of the page before. */
  readonly after: string;
}

export function listObjects(context: Context, request: ListRequest): Page {
  const { storage } = context;
  const { query, resource, namespace, matches } = request;
  checkListOptions(query);
  const limit = countOf(query, "limit") ?? 0;
  const token = parseToken(query.get("continue") ?? "");
  const revision = token?.revision ?? exactRevision(storage, query) ?? storage.revision;
  if (revision < storage.oldestRevision && revision < storage.revision) {
    throw expired(
      token === undefined
        ? "The resourceVersion for the provided list is too old."
        : "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
    );
  }
  const earlier = earlierStates(storage, resource, revision);
  const items: Stored[] = [];
  let lastKey = "";
  let more = false;
  let remaining = 0;
  for (const key of keysWith(storage, resource, earlier)) {
    if (token !== undefined && key <= token.after) continue;
    if (namespace !== undefined && !key.startsWith(`${namespace}/`)) continue;
    if (limit > 0 && items.length >= limit && matches === undefined) {
      more = true;
      if (earlier.size === 0 || stateAt(storage, resource, key, earlier) !== undefined) remaining++;
      continue;
    }
    const stored = stateAt(storage, resource, key, earlier);
    if (stored === undefined || (matches !== undefined && !matches(stored.object))) continue;
    if (limit > 0 && items.length >= limit) {
      more = true;
      break;
    }
    items.push(stored);
    lastKey = key;
  }
  const next = more ? formatToken({ revision, after: lastKey }) : undefined;
  return { items, revision, next, remaining: more && matches === undefined ? remaining : undefined };
}

/** The revision that an exact list asks for. */
function exactRevision(storage: Storage, query: URLSearchParams): number | undefined {
  return query.get("resourceVersionMatch") === "Exact" ? parseRevision(query.get("resourceVersion")) : undefined;
}

/** 422 for parameters of a list that do not go together. Source: apimachinery pkg/apis/meta/internalversion/validation. */
function checkListOptions(query: URLSearchParams): void {
  const match = query.get("resourceVersionMatch") ?? "";
  const revision = query.get("resourceVersion") ?? "";
  const errors: FieldError[] = [];
  const forbid = (field: string, detail: string): void =>
    void errors.push({ field, reason: "Forbidden", value: undefined, detail });
  if (match !== "") {
    if (revision === "")
      forbid("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
    if ((query.get("continue") ?? "") !== "")
      forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
    if (match !== "Exact" && match !== "NotOlderThan")
      errors.push({
        field: "resourceVersionMatch",
        reason: "NotSupported",
        value: match,
        detail: '"Exact", "NotOlderThan", ""',
      });
    if (match === "Exact" && revision === "0")
      forbid("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"');
  }
  if (query.has("sendInitialEvents")) forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
  if (errors.length > 0) throw invalidOptions("ListOptions", errors);
  if ((query.get("continue") ?? "") !== "" && revision !== "" && revision !== "0")
    throw badRequest("specifying resource version is not allowed when using continue");
}

/** A `resourceVersion` parameter as a number; undefined when absent. */
export function parseRevision(text: string | null): number | undefined {
  if (text === null || text === "") return undefined;
  if (!/^\d{1,15}$/.test(text))
    throw badRequest(
      `invalid resource version: resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  return Number(text);
}

/** States at the revision of what has changed since: undefined for what did not exist yet. */
function earlierStates(storage: Storage, resource: string, revision: number): Map<string, Stored | undefined> {
  const states = new Map<string, Stored | undefined>();
  if (revision >= storage.revision) return states;
  for (const change of storage.changesAfter(resource, revision)) {
    const key = `${change.namespace ?? ""}/${change.name}`;
    if (!states.has(key)) states.set(key, change.previous);
  }
  return states;
}

function stateAt(
  storage: Storage,
  resource: string,
  key: string,
  earlier: ReadonlyMap<string, Stored | undefined>,
): Stored | undefined {
  return earlier.has(key) ? earlier.get(key) : storage.at(resource, key);
}

function keysWith(
  storage: Storage,
  resource: string,
  earlier: ReadonlyMap<string, Stored | undefined>,
): readonly string[] {
  const keys = storage.keys(resource);
  return earlier.size === 0 ? keys : [...new Set([...keys, ...earlier.keys()])].sort();
}

function formatToken(token: Token): string {
  return Buffer.from(
    JSON.stringify({ v: "meta.k8s.io/v1", rv: token.revision, start: `${token.after}\u0000` }),
  ).toString("base64url");
}

function parseToken(text: string): Token | undefined {
  if (text === "") return undefined;
  const bad = (): ApiError =>
    badRequest("invalid continue token: continue key is not valid: it must be the value of a list's metadata.continue");
  let token: unknown;
  try {
    token = JSON.parse(Buffer.from(text, "base64url").toString());
  } catch {
    throw bad();
  }
  if (typeof token !== "object" || token === null || !("rv" in token) || !("start" in token)) throw bad();
  const { rv, start } = token;
  if (typeof rv !== "number" || typeof start !== "string") throw bad();
  return { revision: rv, after: start.endsWith("\u0000") ? start.slice(0, -1) : start };
}

const TOO_NEW_WAIT_MS = 3000;

/** Waits until the storage has reached the revision that the request names; 504 after three seconds. */
export async function awaitRevision(storage: Storage, revision: number | undefined): Promise<void> {
  if (revision === undefined || revision <= storage.revision) return;
  const reached = await new Promise<boolean>((resolve) => {
    const finish = (value: boolean): void => {
      clearTimeout(timer);
      unsubscribe();
      resolve(value);
    };
    const timer = setTimeout(() => finish(false), TOO_NEW_WAIT_MS);
    const unsubscribe = storage.subscribe((change) => {
      if (change.revision >= revision) finish(true);
    });
  });
  if (reached) return;
  const message = `Timeout: Too large resource version: ${revision}, current: ${storage.revision}`;
  throw new ApiError(504, "Timeout", message, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
    retryAfterSeconds: 1,
  });
}
