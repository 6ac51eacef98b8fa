/**
 * Revision: a resourceVersion as it is kept: a number where it is one, as in practice, which takes no text and compares; otherwise the text,
 * which does not compare.
 */
export type Revision = number | string;

/** Injective; a revision as it is kept is itself. */
export function revisionOf(text: Revision): Revision {
  return typeof text === "string" && /^[1-9]\d{0,14}$/.test(text) ? Number(text) : text;
}

/** Whether the revision is at or beyond the other. False when that is not known. */
export function hasReached(revision: Revision | undefined, other: Revision): boolean {
  return revision === other || (typeof revision === "number" && typeof other === "number" && revision >= other);
}
