/**
 * Result: a computed outcome that may be an expected failure.
 *
 * Bad data (text, packets, attributes, resources) is a value, handled by the caller at once; it is never thrown.
 * What the outside world refused (errno, HTTP) is a rejection; our own bug is a `BugError`.
 */
export type Result<T, E> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: E };

export function ok<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

export function fail<E>(error: E): { readonly ok: false; readonly error: E } {
  return { ok: false, error };
}

/** What could not be read: `what` was being parsed, `found` is the input (quoted in messages), `wanted` says what is allowed. */
export interface ParseError {
  readonly what: string;
  readonly found: string;
  readonly wanted: string;
}

/** `Cannot parse prefix "10.0.0.0/33": length must be 0 to 32` */
export function formatParseError(error: ParseError): string {
  return `Cannot parse ${error.what} ${JSON.stringify(error.found)}: ${error.wanted}`;
}

/** The value, or an exception for input that the program itself wrote (constants, tests). */
export function unwrap<T>(result: Result<T, ParseError>): T {
  if (result.ok) return result.value;
  throw new Error(formatParseError(result.error));
}
