/**
 * Bag: a set that is small as a rule, which matters at 100,000 of them: one member takes nothing, a few an array, and only many a Set, whose
 * table alone has some 400 bytes. Members may not be arrays or Sets themselves.
 */
export type Bag<T extends object | string> = T | T[] | Set<T> | undefined;

/** In an array a member is looked for one after the other. */
const FEW = 16;
const NONE: readonly never[] = [];

/** The bag with the value in it; the bag passed in must not be used afterwards. */
export function withValue<T extends object | string>(bag: Bag<T>, value: T): Bag<T> {
  if (bag === undefined || bag === value) return value;
  if (bag instanceof Set) return bag.add(value);
  if (!Array.isArray(bag)) return [bag, value];
  if (bag.includes(value)) return bag;
  if (bag.length === FEW) return new Set(bag).add(value);
  bag.push(value);
  return bag;
}

/** The bag without the value; the bag passed in must not be used afterwards. */
export function withoutValue<T extends object | string>(bag: Bag<T>, value: T): Bag<T> {
  if (bag instanceof Set) {
    bag.delete(value);
    return bag.size === 0 ? undefined : bag;
  }
  if (!Array.isArray(bag)) return bag === value ? undefined : bag;
  const at = bag.indexOf(value);
  if (at < 0) return bag;
  if (bag.length === 2) return bag[1 - at];
  bag.splice(at, 1);
  return bag;
}

export function hasValue<T extends object | string>(bag: Bag<T>, value: T): boolean {
  if (bag instanceof Set) return bag.has(value);
  return Array.isArray(bag) ? bag.includes(value) : bag === value;
}

export function valuesOf<T extends object | string>(bag: Bag<T>): Iterable<T> {
  if (bag === undefined) return NONE;
  return bag instanceof Set || Array.isArray(bag) ? bag : [bag];
}

export function sizeOf(bag: Bag<object | string>): number {
  if (bag === undefined) return 0;
  if (bag instanceof Set) return bag.size;
  return Array.isArray(bag) ? bag.length : 1;
}

/** Adds the value to the bag of the key. */
export function addTo<K, T extends object | string>(bags: Map<K, Bag<T>>, key: K, value: T): void {
  const before = bags.get(key);
  const now = withValue(before, value);
  if (now !== before) bags.set(key, now);
}

/** Removes the value from the bag of the key, and the bag if it was the last. */
export function removeFrom<K, T extends object | string>(bags: Map<K, Bag<T>>, key: K, value: T): void {
  const before = bags.get(key);
  const now = withoutValue(before, value);
  if (now === undefined) bags.delete(key);
  else if (now !== before) bags.set(key, now);
}
