/**
 * daemon: keeps a process running: starts it detached in its cgroup with its own log, restarts it with backoff when it ends, and adopts it
 * (by pid and start time) after a restart of the supervisor.
 */
import { mkdirSync, openSync, closeSync, readFileSync, rmSync } from "node:fs";
import { spawnIn } from "./cgroup.ts";
import { readJson, replaceFile } from "./files.ts";

export interface DaemonSpec {
  readonly name: string;
  readonly command: readonly string[];
  readonly cgroup: string;
  /** Started only while this holds: BIRD waits for its configuration file. */
  readonly ready?: () => boolean;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat: distinguishes a process from a later one with the same pid. */
  readonly startTicks: string;
}

export function identify(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z") return undefined;
    return { pid, startTicks: fields[19] ?? "" };
  } catch {
    return undefined;
  }
}

export function isAlive(id: ProcessId): boolean {
  return identify(id.pid)?.startTicks === id.startTicks;
}

const BACKOFF_FIRST_MS = 100;
const BACKOFF_MOST_MS = 5_000;
/** A process that lived this long is restarted without delay. */
const STABLE_MS = 10_000;

export class Daemon {
  readonly spec: DaemonSpec;
  readonly #pidFile: string;
  readonly #log: string;
  #process: ProcessId | undefined;
  #startedAt = 0;
  #notBefore = 0;
  #failures = 0;
  restarts = 0;

  constructor(spec: DaemonSpec, directories: { readonly pids: string; readonly logs: string }) {
    this.spec = spec;
    this.#pidFile = `${directories.pids}/${spec.name}.json`;
    this.#log = `${directories.logs}/${spec.name}.log`;
    const saved = readJson<{ process: ProcessId; restarts: number }>(this.#pidFile);
    if (saved !== undefined) {
      this.restarts = saved.restarts;
      if (isAlive(saved.process)) this.#process = saved.process;
      else this.restarts++;
    }
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Starts the process if it should be running and is not. */
  step(): void {
    const now = performance.now();
    if (this.#process !== undefined) {
      if (isAlive(this.#process)) return;
      this.#process = undefined;
      this.restarts++;
      this.#failures = now - this.#startedAt > STABLE_MS ? 0 : this.#failures + 1;
      this.#notBefore =
        this.#failures === 0
          ? 0
          : now + Math.min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS * 2 ** Math.min(this.#failures - 1, 10));
    }
    if (now < this.#notBefore || this.spec.ready?.() === false) return;
    this.#start(now);
  }

  #start(now: number): void {
    const log = openSync(this.#log, "a", 0o644);
    try {
      const child = spawnIn(this.spec.cgroup, () =>
        Bun.spawn([...this.spec.command], {
          stdin: "ignore",
          stdout: log,
          stderr: log,
          detached: true,
          env: { PATH: process.env["PATH"] ?? "", HOME: "/root", ...this.spec.environment },
        }),
      );
      child.unref();
      this.#process = identify(child.pid);
      this.#startedAt = now;
    } finally {
      closeSync(log);
    }
    this.#save();
  }

  #save(): void {
    if (this.#process === undefined) {
      rmSync(this.#pidFile, { force: true });
      return;
    }
    replaceFile(this.#pidFile, JSON.stringify({ process: this.#process, restarts: this.restarts }));
  }
}

export function prepareDirectories(...paths: readonly string[]): void {
  for (const path of paths) mkdirSync(path, { recursive: true, mode: 0o755 });
}
