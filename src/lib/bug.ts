/** BugError: a mistake of this program, not of its input. Nobody catches it: the process logs, exits and restarts. */
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
