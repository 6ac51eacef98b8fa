/** processes: what the kernel says of a process: its CPU time, its memory, how often it woke. Source: proc(5). */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

const TICK_MS = 10;

/** Run time of all its threads so far, those that ended included. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** Run time of a process of one thread so far. */
export function cpuNanoseconds(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]);
}

/** How often each of its threads gave up the CPU to wait, by thread. */
export function wakeUps(pid: number): ReadonlyMap<string, number> {
  return new Map(
    readdirSync(`/proc/${pid}/task`).flatMap((task) => {
      const file = `/proc/${pid}/task/${task}/status`;
      // One that ends just now.
      const status = existsSync(file) ? readFileSync(file, "utf8") : "";
      const count = /^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1];
      return count === undefined ? [] : [[task, Number(count)] as const];
    }),
  );
}

/** How often they did since: those that ended meanwhile take nothing of what the others did. */
export function wakeUpsSince(pid: number, before: ReadonlyMap<string, number>): number {
  return [...wakeUps(pid)].reduce((sum, [task, count]) => sum + count - (before.get(task) ?? 0), 0);
}

/** Megabytes. */
export interface Memory {
  readonly peak: number;
  readonly rss: number;
  readonly pss: number;
  /** Of `rss`, the pages of its executable: shared with every other process of it. */
  readonly executable: number;
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const of = (text: string, field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? "0") / 1024;
  return {
    peak: of(status, "VmHWM"),
    rss: of(status, "VmRSS"),
    pss: of(rollup, "Pss"),
    executable: of(status, "RssFile"),
  };
}

/** The peak begins anew at what it has now. */
export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}
