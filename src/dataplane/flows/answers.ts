/**
 * Answers: what was on its way when a flow was cut. The other end's next datagram is the first of a flow in the other direction, which policy may
 * allow, and then what it denies would pass as the answers of that flow. So for a few seconds such flows are cut as well.
 *
 * Only protocols without connections need it: of TCP such packets are invalid, of ICMP none but questions begin a flow. It ends what answers at
 * once. An end that always has something to send begins a new flow that policy allows; that cannot be told from one that it meant to begin.
 */
import type { Answering, EntryView } from "../../kernel/conntrack-entry.ts";
import { ICMP, ICMPV6, TCP } from "../../net/protocol.ts";

/** After the cut: long enough for one that answers slowly, rare enough to cost nothing. */
const LOOKS_MS: readonly number[] = [1, 5, 25, 100, 400, 1_500, 5_000];
/** Of more, those that were cut last. */
const MOST = 2_000;

interface Awaited {
  readonly answering: Answering;
  readonly cutAtMs: number;
  looks: number;
}

export class Answers {
  /** In the order in which they were cut. */
  #awaited: Awaited[] = [];

  await(flows: readonly Answering[], nowMs: number): void {
    for (const answering of flows) this.#awaited.push({ answering, cutAtMs: nowMs, looks: 0 });
    if (this.#awaited.length > MOST) this.#awaited = this.#awaited.slice(-MOST);
  }

  /** When to look next. */
  get dueMs(): number {
    return this.#awaited.reduce((least, awaited) => Math.min(least, dueMs(awaited)), Infinity);
  }

  /** Those to be looked for now. */
  take(nowMs: number): readonly Answering[] {
    const due = this.#awaited.filter((awaited) => dueMs(awaited) <= nowMs);
    for (const awaited of due) while (dueMs(awaited) <= nowMs) awaited.looks++;
    this.#awaited = this.#awaited.filter(({ looks }) => looks < LOOKS_MS.length);
    return due.map(({ answering }) => answering);
  }
}

function dueMs({ cutAtMs, looks }: Awaited): number {
  return cutAtMs + (LOOKS_MS[looks] ?? Infinity);
}

/** undefined: its answers begin no flow. */
export function answeringOf(entry: EntryView): Answering | undefined {
  const { protocol } = entry.original;
  return protocol === TCP || protocol === ICMP || protocol === ICMPV6 ? undefined : entry.answering();
}
