/** Bag: a set that usually has one member or none and then allocates nothing, which matters at 100,000 of them. */
export type Bag<T extends object> = T | Set<T> | undefined;

const NONE: readonly never[] = [];

/** The bag with the value in it; the bag passed in must not be used afterwards. Values may not be Sets themselves. */
export function withValue<T extends object>(bag: Bag<T>, value: T): Bag<T> {
  if (bag === undefined || bag === value) return value;
  return bag instanceof Set ? bag.add(value) : new Set([bag, value]);
}

export function withoutValue<T extends object>(bag: Bag<T>, value: T): Bag<T> {
  if (!(bag instanceof Set)) return bag === value ? undefined : bag;
  bag.delete(value);
  return bag.size === 0 ? undefined : bag;
}

export function hasValue<T extends object>(bag: Bag<T>, value: T): boolean {
  return bag instanceof Set ? bag.has(value) : bag === value;
}

export function valuesOf<T extends object>(bag: Bag<T>): Iterable<T> {
  return bag === undefined ? NONE : bag instanceof Set ? bag : [bag];
}

export function sizeOf(bag: Bag<object>): number {
  return bag === undefined ? 0 : bag instanceof Set ? bag.size : 1;
}
