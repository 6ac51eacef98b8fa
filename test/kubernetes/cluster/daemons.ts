/**
 * daemons: the long-running programs of the cluster: started in their cgroup with a log of their own, ended by signal.
 *
 * Nothing starts a daemon again by itself: tests end and start them. What runs is known by files, so that the test process can
 * end what the fixture started.
 */
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { startTicks } from "../../processes.ts";
import { spawnIn } from "./cgroups.ts";
import { type Layout } from "./layout.ts";
import { ClusterError, waitFor } from "./run.ts";

export interface DaemonSpec {
  readonly name: string;
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

interface Running {
  readonly pid: number;
  readonly startTicks: string;
}

export class Daemons {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  logFile(name: string): string {
    return `${this.#layout.logs}/${name}.log`;
  }

  /** The pid while the process lives. */
  pid(name: string): number | undefined {
    const file = `${this.#layout.pids}/${name}.json`;
    if (!existsSync(file)) return undefined;
    const running: unknown = JSON.parse(readFileSync(file, "utf8"));
    const { pid, startTicks: ticks } = running as Running;
    return startTicks(pid) === ticks ? pid : undefined;
  }

  start(spec: DaemonSpec): void {
    if (this.pid(spec.name) !== undefined) throw new ClusterError(`${spec.name} runs already`);
    const log = openSync(this.logFile(spec.name), "a", 0o644);
    try {
      const child = spawnIn(`${this.#layout.cgroup}/daemons/${spec.name}`, () =>
        Bun.spawn([...spec.command], {
          cwd: "/",
          stdin: "ignore",
          stdout: log,
          stderr: log,
          detached: true,
          env: { PATH: process.env["PATH"] ?? "", HOME: "/root", ...spec.environment },
        }),
      );
      child.unref();
      writeFileSync(
        `${this.#layout.pids}/${spec.name}.json`,
        JSON.stringify({ pid: child.pid, startTicks: startTicks(child.pid) }),
      );
    } finally {
      closeSync(log);
    }
  }

  /** Sends the signal and waits until the process has ended; its children live on. */
  async stop(name: string, signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const pid = this.pid(name);
    if (pid !== undefined) {
      process.kill(pid, signal);
      await waitFor(`${name} to end`, 30, () => this.pid(name) === undefined);
    }
    rmSync(`${this.#layout.pids}/${name}.json`, { force: true });
  }

  /** The end of a daemon's log, for an error message. */
  tail(name: string, lines = 15): string {
    const file = this.logFile(name);
    return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").slice(-lines).join("\n") : "";
  }
}
