/** processes: tells a process from a later one with the same pid, for files that say who owns what. */
import { readdirSync, readFileSync } from "node:fs";

/**
 * When the process started, in clock ticks since boot; undefined once it and all its threads have ended, waited for or not: the first
 * thread may be gone while others still hold sockets open. Source: proc_pid_stat(5), field 22; the name before may contain anything.
 */
export function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" && readdirSync(`/proc/${pid}/task`).length <= 1 ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** `PID TICKS`, what a file says of its owner. */
export function describeProcess(pid: number): string | undefined {
  const ticks = startTicks(pid);
  return ticks === undefined ? undefined : `${pid} ${ticks}`;
}
