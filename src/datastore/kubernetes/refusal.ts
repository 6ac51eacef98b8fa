/**
 * Refusal: what an error answer of the API server means in the terms of Store.
 * Source: k8s.io/apimachinery pkg/apis/meta/v1 types.go (StatusReason) and pkg/api/errors.
 */
import { formatKey, type Key } from "../../model/key.ts";
import { StoreError, type StoreReason } from "../store.ts";

/** The fields of a `Status` object that matter; everything is the server's word. */
export interface Refusal {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
}

export function reasonOf(refusal: Refusal): StoreReason {
  switch (refusal.code) {
    case 400:
    case 413:
    case 415:
    case 422:
      return "invalid";
    case 401:
    case 403:
      return "forbidden";
    case 404:
      // Only the server's own word says that the object is not there: whatever else stands in its place knows no path at all.
      return refusal.reason === "NotFound" ? "not-found" : "unavailable";
    case 409:
      return refusal.reason === "AlreadyExists" ? "exists" : "conflict";
    case 410:
      return "gone";
    default:
      return "unavailable";
  }
}

/** Reads a Status body (or whatever else came); never fails. */
export function readRefusal(code: number, body: string, retryAfter: string | null): Refusal {
  const seconds = retryAfter === null ? Number.NaN : Number(retryAfter);
  const retryAfterMs = Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
  let status: unknown;
  try {
    status = JSON.parse(body);
  } catch {
    return { code, reason: "", message: body.trim().slice(0, 200), retryAfterMs };
  }
  return { ...statusFields(status), code, retryAfterMs };
}

/** `reason` and `message` of a Status object, also as an ERROR event of a watch holds it. */
export function statusFields(status: unknown): {
  readonly code?: number;
  readonly reason: string;
  readonly message: string;
} {
  const fields: Readonly<Record<string, unknown>> = typeof status === "object" && status !== null ? { ...status } : {};
  const text = (field: string): string => (typeof fields[field] === "string" ? fields[field] : "");
  return {
    ...(typeof fields["code"] === "number" ? { code: fields["code"] } : {}),
    reason: text("reason"),
    message: text("message"),
  };
}

/** The StoreError for an operation that the server refused. */
export function refusedError(operation: string, kind: string, key: Key | undefined, refusal: Refusal): StoreError {
  const object = key === undefined ? kind : formatKey(key);
  const cause =
    refusal.message === ""
      ? `the server answered ${refusal.code}`
      : `the server answered ${refusal.code}: ${refusal.message}`;
  return new StoreError(reasonOf(refusal), kind, key, `Cannot ${operation} ${object}: ${cause}`, refusal.retryAfterMs);
}

/** The StoreError for an operation without an answer. */
export function unansweredError(
  operation: string,
  kind: string,
  key: Key | undefined,
  cause: string,
  retryAfterMs?: number,
): StoreError {
  return new StoreError(
    "unavailable",
    kind,
    key,
    `Cannot ${operation} ${key === undefined ? kind : formatKey(key)}: ${cause}`,
    retryAfterMs,
  );
}
