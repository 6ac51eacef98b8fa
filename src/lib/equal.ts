/** equal: structural equality of plain data (objects, arrays, primitives, bigint); absent and undefined fields are the same. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) return Array.isArray(a) && Array.isArray(b) && equalItems(a, b);
  return isFields(a) && isFields(b) && equalFields(a, b);
}

type Fields = Readonly<Record<string, unknown>>;

/** Always true: it narrows the type, so that fields can be read by name. */
function isFields(value: object): value is Fields {
  return value !== undefined;
}

function equalItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!equal(a[i], b[i])) return false;
  return true;
}

/** Allocates nothing, because audits compare whole tables. Plain data has no inherited enumerable properties. */
function equalFields(a: Fields, b: Fields): boolean {
  for (const key in b) if (!equal(a[key], b[key])) return false;
  for (const key in a) if (b[key] === undefined && a[key] !== undefined) return false;
  return true;
}
