/** Read request: what of a driver's objects is to be read anew, when, and on whose account. */
import type { Touched } from "./driver.ts";

export interface ReadRequest {
  readonly atMs: number;
  /** undefined: everything. */
  readonly only: Touched | undefined;
  /** Who is known to have changed it. */
  readonly by: string | undefined;
}

/** Both at once, at the earlier time. */
export function merged(a: ReadRequest, b: ReadRequest): ReadRequest {
  const only = a.only === undefined || b.only === undefined ? undefined : new Set([...a.only, ...b.only]);
  return { atMs: Math.min(a.atMs, b.atMs), only, by: a.by ?? b.by };
}
