/** Faults: what a world may do to the product, by kinds, so that each can be tried alone; and how much of it at a moment. */

/** `store`: requests and answers are lost, watches break, answers are slow. `kill`: daemons end between two operations. `disk`: full or read-only.
 * `kernel`: requests are refused now and then. `reboot`: machines lose power. `runtime`: DELs are forgotten, left to GC. `others`: somebody
 * else changes our table, on kernels that cannot keep him from it, our routes, host ends and settings. `rows`: the kernel refuses something of a
 * certain policy or pod. `pools`: a pool that is in use is deleted, and comes again. */
export const FAULT_KINDS = ["store", "kill", "disk", "kernel", "reboot", "runtime", "others", "rows", "pools"] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** Percentages, for each request to the datastore. */
export interface StoreTrouble {
  readonly unreached: number;
  readonly answerLost: number;
  readonly slow: number;
  readonly watchBroken: number;
}

export const NO_TROUBLE: StoreTrouble = { unreached: 0, answerLost: 0, slow: 0, watchBroken: 0 };
