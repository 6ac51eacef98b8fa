/**
 * Error status: maps an error answer of the API server to the errors of Store.
 * Source: k8s.io/apimachinery pkg/apis/meta/v1 types.go (StatusReason) and pkg/api/errors.
 */
import { formatKey, type Key } from "../../model/key.ts";
import { StoreError, type StoreReason } from "../store.ts";

/** The fields of a `Status` object that matter, as the server sent them. */
export interface ErrorStatus {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
}

export function reasonOf(status: ErrorStatus): StoreReason {
  switch (status.code) {
    case 400:
    case 413:
    case 415:
    case 422:
      return "invalid";
    case 401:
    case 403:
      return "forbidden";
    case 404:
      // Only the API server's own 404 means that the object does not exist: a proxy or another server in its place answers 404 to any path.
      return status.reason === "NotFound" ? "not-found" : "unavailable";
    case 409:
      return status.reason === "AlreadyExists" ? "exists" : "conflict";
    case 410:
      return "gone";
    default:
      return "unavailable";
  }
}

/** Reads a Status body, or any other body; never fails. */
export function readErrorStatus(code: number, body: string, retryAfter: string | null): ErrorStatus {
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

/** Reads a Status object, also one from an ERROR event of a watch. */
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
export function refusedError(operation: string, kind: string, key: Key | undefined, status: ErrorStatus): StoreError {
  const object = key === undefined ? kind : formatKey(key);
  const cause =
    status.message === ""
      ? `the server answered ${status.code}`
      : `the server answered ${status.code}: ${status.message}`;
  return new StoreError(reasonOf(status), kind, key, `Cannot ${operation} ${object}: ${cause}`, status.retryAfterMs);
}

/** The StoreError for an operation without an answer. */
export function unavailableError(
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
