/** common-ends: what two lists have in common at either end, as most that change have; what changed lies between. */
export interface CommonEnds {
  readonly head: number;
  /** No item is counted twice. */
  readonly tail: number;
}

export function commonEnds<A, B>(
  before: readonly A[],
  now: readonly B[],
  isSame: (before: A, now: B) => boolean,
): CommonEnds {
  const most = Math.min(before.length, now.length);
  const isSameAt = (i: number, j: number): boolean => isSame(before[i] as A, now[j] as B);
  let head = 0;
  while (head < most && isSameAt(head, head)) head++;
  let tail = 0;
  while (tail < most - head && isSameAt(before.length - 1 - tail, now.length - 1 - tail)) tail++;
  return { head, tail };
}

/** Of two lists without repetitions, which items only one of them has. */
export function differences<T>(
  before: readonly T[],
  now: readonly T[],
): { readonly added: readonly T[]; readonly removed: readonly T[] } {
  if (before.length === 0 || now.length === 0 || before === now)
    return before === now ? { added: [], removed: [] } : { added: now, removed: before };
  const { head, tail } = commonEnds(before, now, (a, b) => a === b);
  const [gone, came] = [before.slice(head, before.length - tail), now.slice(head, now.length - tail)];
  if (gone.length === 0 || came.length === 0) return { added: came, removed: gone };
  const removed = new Set(gone);
  const added = came.filter((each) => !removed.delete(each));
  return { added, removed: [...removed] };
}
