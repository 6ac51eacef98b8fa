/** BugError: a bug of this program, not an error in its input. It is not caught: the process logs it, exits and is restarted. */
export class BugError extends Error {
  override readonly name = "BugError";
}

export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new BugError(message);
}

/** Ends a `switch` over a union: the compiler proves that no case is missing. */
export function assertNever(value: never): never {
  throw new BugError(`unexpected value: ${JSON.stringify(value)}`);
}
