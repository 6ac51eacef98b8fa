/** equal: structural equality of plain data (objects, arrays, primitives, bigint); absent and undefined fields are the same. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => equal(item, b[i]));
  }
  const left: Record<string, unknown> = { ...a };
  const right: Record<string, unknown> = { ...b };
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
    if (!equal(left[key], right[key])) return false;
  }
  return true;
}
