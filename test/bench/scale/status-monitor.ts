/**
 * status-monitor: the daemon's commits by its own count, for dataplanes whose changes the kernel does not tell. It is asked each 3 ms, and only while
 * somebody waits for a commit: so a commit is seen up to 3 ms late, and two in that time as one.
 */
import type { CommitMonitor } from "./commit-monitor.ts";
import { wallMs } from "./clock.ts";
import type { Commit } from "./notifications.ts";
import { NODE_ADDRESS } from "./stage.ts";

const EACH_MS = 3;
const NO_CONTENT = { messages: 0, rulesAdded: 0, rulesDeleted: 0, elementsAdded: 0, elementsDeleted: 0, keys: [] };

export class StatusMonitor implements CommitMonitor {
  readonly tellsKeys = false;
  readonly #pid: () => number;
  readonly #commits: Commit[] = [];
  #seenPid = 0;
  #seen = 0;

  /** `pid` is that of the daemon. */
  constructor(pid: () => number) {
    this.#pid = pid;
  }

  async ready(): Promise<void> {}

  stop(): void {}

  async during<T>(run: () => Promise<T>): Promise<T> {
    const state = { isRunning: true };
    const asking = (async () => {
      while (state.isRunning) await this.#ask();
    })();
    try {
      return await run();
    } finally {
      state.isRunning = false;
      await asking;
    }
  }

  async first(pid: number, afterMs: number, limitMs = 10_000): Promise<Commit> {
    while (wallMs() - afterMs < limitMs) {
      const found = this.since(pid, afterMs)[0];
      if (found !== undefined) return found;
      await this.#ask();
    }
    throw new Error("waited in vain for a commit");
  }

  since(pid: number, afterMs: number): readonly Commit[] {
    let from = this.#commits.length;
    while (from > 0 && (this.#commits[from - 1]?.atMs ?? 0) >= afterMs) from--;
    return this.#commits.slice(from).filter((commit) => commit.pid === pid);
  }

  all(pid: number, afterMs: number): readonly Commit[] {
    return this.since(pid, afterMs);
  }

  async last(pid: number, afterMs: number, quietMs: number): Promise<Commit | undefined> {
    const from = wallMs();
    for (;;) {
      await this.#ask();
      const last = this.since(pid, afterMs).at(-1);
      if (wallMs() - Math.max(from, last?.atMs ?? 0) >= quietMs) return last;
    }
  }

  async #ask(): Promise<void> {
    const pid = this.#pid();
    const atMs = wallMs();
    const commits = await this.#count();
    if (pid !== this.#seenPid) [this.#seenPid, this.#seen] = [pid, 0];
    for (; this.#seen < commits; this.#seen++)
      this.#commits.push({ atMs: wallMs(), pid, tables: ["calico"], ...NO_CONTENT });
    await Bun.sleep(Math.max(0, EACH_MS - (wallMs() - atMs)));
  }

  /** 0 while the daemon does not answer. */
  async #count(): Promise<number> {
    try {
      const response = await fetch(`http://${NODE_ADDRESS}:9099/status`);
      return ((await response.json()) as { readonly commits: number }).commits;
    } catch {
      return 0;
    }
  }
}
