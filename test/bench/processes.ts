/** processes: what the kernel says of a process: its CPU time, its memory, how often it woke. Source: proc(5). */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

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

/** How often its threads gave up the CPU to wait. */
export function wakeUps(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, task) => {
    const status = readFileSync(`/proc/${pid}/task/${task}/status`, "utf8");
    return sum + Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1] ?? "0");
  }, 0);
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
