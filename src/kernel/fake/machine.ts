/** Machine: what every part of a fake kernel knows of the whole: its version, the faults asked for, a count of changes. */
import type { KernelFaults } from "./faults.ts";

export interface Machine {
  /** Whether a socket can own a table that stays (Linux 6.9 and later). */
  readonly ownsTables: boolean;
  /** Whether it is built with flowtables. */
  readonly hasFlowtables: boolean;
  readonly faults: KernelFaults;
  /** Grows with every change of nf_tables, and when a link goes up or down, for those who check after each. */
  changes: number;
}
