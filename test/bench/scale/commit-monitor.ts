/** commit-monitor: what a phase asks of whoever sees the daemon's commits. */
import type { Commit } from "./notifications.ts";

export interface CommitMonitor {
  /** Each commit tells the keys of the elements that it changed. */
  readonly tellsKeys: boolean;
  ready(): Promise<void>;
  stop(): void;
  /** Sees all commits while it runs. */
  during<T>(run: () => Promise<T>): Promise<T>;
  /** The process's first commit after the moment. Rejects after `limitMs`. */
  first(pid: number, afterMs: number, limitMs?: number): Promise<Commit>;
  /** The process's commits of policy since then. */
  since(pid: number, afterMs: number): readonly Commit[];
  /** Those of a table that it asks the kernel something with, too. */
  all(pid: number, afterMs: number): readonly Commit[];
  /** The process's last commit after the moment, once there was none for so long from now on. undefined: there was none at all. */
  last(pid: number, afterMs: number, quietMs: number): Promise<Commit | undefined>;
}
