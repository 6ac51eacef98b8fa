/** memory: the platform's garbage collection, triggered by growth of the process. */
import type { Memory } from "../memory.ts";

/** Growth since the last collection that is worth another one: several pages of large objects, parsed. */
const GROWTH_BYTES = 64 * 2 ** 20;

export function openMemory(): Memory {
  return trimming({ residentBytes: () => process.memoryUsage.rss(), collect: () => Bun.gc(true) });
}

/** The rule alone, for any process. */
export function trimming(of: { readonly residentBytes: () => number; readonly collect: () => void }): Memory {
  let before = of.residentBytes();
  return {
    trim: () => {
      if (of.residentBytes() - before < GROWTH_BYTES) return;
      of.collect();
      before = of.residentBytes();
    },
  };
}
