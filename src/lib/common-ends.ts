/** commonEnds: how many items two lists have in common at either end; what changed lies between. */
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
