/**
 * Distort: makes a syncer's events as adverse as the syncer contract allows, to test consumers.
 *
 * Before some updates the consumer receives an older state of the key, a false deletion, or the same update twice, and batches are
 * split. After each original event, the consumer has received the current state of every key in it.
 */
import { formatKey, type KeyText } from "../model/key.ts";
import type { SyncEvent, Update } from "../model/update.ts";

/** Wraps a sink. `fraction` is uniform in [0, 1). */
export function distortSink(
  sink: (event: SyncEvent) => Promise<void> | void,
  fraction: () => number,
): (event: SyncEvent) => Promise<void> {
  const history = new Map<KeyText, Update[]>();
  return async (event) => {
    if (event.type === "status") return sink(event);
    const distortions: Update[] = [];
    for (const update of event.updates) {
      const past = history.get(formatKey(update.key)) ?? [];
      history.set(formatKey(update.key), [...past.slice(-4), update]);
      distortions.push(...distortionsOf(update, past, fraction));
    }
    const all = [...shuffled(distortions, fraction), ...event.updates];
    while (all.length > 0)
      await sink({ type: "updates", updates: all.splice(0, 1 + Math.floor(fraction() * all.length)) });
  };
}

function distortionsOf(update: Update, past: readonly Update[], fraction: () => number): Update[] {
  const stale = past[Math.floor(fraction() * past.length)];
  const dice = fraction();
  if (dice < 0.2 && stale !== undefined) return [stale];
  if (dice < 0.4) return [{ ...update, value: undefined }];
  return dice < 0.5 ? [update] : [];
}

function shuffled<T>(items: readonly T[], fraction: () => number): T[] {
  const copy = [...items];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(fraction() * (i + 1));
    const [a, b] = [copy[i], copy[j]];
    if (a !== undefined && b !== undefined) [copy[i], copy[j]] = [b, a];
  }
  return copy;
}
