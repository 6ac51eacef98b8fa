/** equal: structural equality of plain data (objects, arrays, primitives, bigint); absent and undefined fields are the same. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => equal(item, b[i]));
  }
  // No copies: audits compare whole tables.
  for (const key of Object.keys(b)) if (!equal(Reflect.get(a, key), Reflect.get(b, key))) return false;
  for (const key of Object.keys(a)) if (!Object.hasOwn(b, key) && Reflect.get(a, key) !== undefined) return false;
  return true;
}
