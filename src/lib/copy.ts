/** copy: a plain value of JSON, copied deeply: what one reader does to it is not seen by another. */

/** `structuredClone` for objects, arrays and scalars alone, several times as fast. */
export function copyJson<T>(value: T): T {
  return copyAny(value) as T;
}

function copyAny(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(copyAny);
  const copy: Record<string, unknown> = {};
  for (const [name, each] of Object.entries(value)) {
    // An assignment would set the prototype.
    if (name === "__proto__")
      Object.defineProperty(copy, name, { value: copyAny(each), enumerable: true, writable: true, configurable: true });
    else copy[name] = copyAny(each);
  }
  return copy;
}
