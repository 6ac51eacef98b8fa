/** options: what the driver of the eBPF path is given. */
import type { Clock } from "../../host/clock.ts";
import type { LongCalls } from "../../kernel/bpf/long-calls.ts";
import type { Report } from "../../lib/report.ts";

export interface EbpfOptions {
  readonly clock: Clock;
  /** bpf/path.o. */
  readonly object: () => Uint8Array;
  /** A directory of a bpffs. */
  readonly pins: string;
  /** The kernel lets nobody else change the guard's table while the driver lives; undefined: the driver only looks. */
  readonly ownsTable: boolean | undefined;
  readonly report: Report;
  /** Makes calls that wait for the kernel; the driver closes it. Absent: they are made at once. */
  readonly calls?: LongCalls;
}
