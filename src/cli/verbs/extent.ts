/**
 * Extent: refuses a document that would not fit: aliases of YAML can make a short text stand for billions of values, and a deep one ends the
 * stack of whoever walks it.
 */
import type { JsonValue } from "../../model/schema/json.ts";

/** Values in one document: some hundred thousand objects. */
const MOST_VALUES = 20_000_000;
const MOST_DEPTH = 1_000;

interface Extent {
  readonly values: number;
  readonly depth: number;
}

/** Why the document is refused; undefined for one that fits. */
export function extentError(document: JsonValue): string | undefined {
  const { values, depth } = extentOf(document, new Map(), 0);
  if (depth > MOST_DEPTH) return `values are nested deeper than ${MOST_DEPTH}`;
  return values > MOST_VALUES ? `its aliases stand for more than ${MOST_VALUES} values` : undefined;
}

/** A value that aliases repeat is walked once and counted each time. */
function extentOf(value: JsonValue, known: Map<object, Extent>, above: number): Extent {
  if (typeof value !== "object" || value === null) return { values: 1, depth: above };
  const before = known.get(value);
  if (before !== undefined) return { values: before.values, depth: above + before.depth };
  let values = 1;
  let depth = above;
  // What is below the limit does not matter any more.
  if (above <= MOST_DEPTH)
    for (const item of Array.isArray(value) ? value : Object.values(value)) {
      const below = extentOf(item, known, above + 1);
      values += below.values;
      depth = Math.max(depth, below.depth);
    }
  known.set(value, { values, depth: depth - above });
  return { values, depth };
}
