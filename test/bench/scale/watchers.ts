/** watchers: the processes that look at the node from outside: the kernel's transactions, and how long the health endpoint takes. */
import type { CommitMonitor } from "./commit-monitor.ts";
import { Stage, NODE_ADDRESS } from "./stage.ts";
import type { Commit } from "./notifications.ts";
import { wallMs } from "./clock.ts";

const TABLE = "calico";

async function eachLine(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  }
}

/** All transactions of nf_tables on the node since it was started. */
export class KernelMonitor implements CommitMonitor {
  readonly tellsKeys = true;
  readonly commits: Commit[] = [];
  readonly #child: ReturnType<typeof Bun.spawn>;
  #wake: () => void = () => {};
  #listening = false;

  constructor(stage: Stage) {
    const child = Bun.spawn([process.execPath, `${import.meta.dir}/monitor.ts`, stage.netns("node")], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#child = child;
    void eachLine(child.stdout, (line) => {
      const value = JSON.parse(line) as Commit | "listening";
      if (value === "listening") this.#listening = true;
      else this.commits.push(value);
      this.#wake();
    });
  }

  async ready(): Promise<void> {
    while (!this.#listening) await this.#next(5_000, "the monitor to listen");
  }

  stop(): void {
    this.#child.kill();
  }

  during<T>(run: () => Promise<T>): Promise<T> {
    return run();
  }

  async first(pid: number, afterMs: number, limitMs = 10_000): Promise<Commit> {
    for (;;) {
      const found = this.since(pid, afterMs)[0];
      if (found !== undefined) return found;
      await this.#next(limitMs - (wallMs() - afterMs), "a commit");
    }
  }

  since(pid: number, afterMs: number): readonly Commit[] {
    return this.all(pid, afterMs).filter(({ tables }) => tables.includes(TABLE));
  }

  all(pid: number, afterMs: number): readonly Commit[] {
    let from = this.commits.length;
    while (from > 0 && (this.commits[from - 1]?.atMs ?? 0) >= afterMs) from--;
    return this.commits.slice(from).filter((commit) => commit.pid === pid);
  }

  async last(pid: number, afterMs: number, quietMs: number): Promise<Commit | undefined> {
    const from = wallMs();
    for (;;) {
      const last = this.since(pid, afterMs).at(-1);
      const left = quietMs - (wallMs() - Math.max(from, last?.atMs ?? 0));
      if (left <= 0) return last;
      await Bun.sleep(left);
    }
  }

  async #next(limitMs: number, what: string): Promise<void> {
    const woken = new Promise<boolean>((resolve) => (this.#wake = () => resolve(true)));
    if (!(await Promise.race([woken, Bun.sleep(Math.max(0, limitMs)).then(() => false)])))
      throw new Error(`waited in vain for ${what}`);
  }
}

export interface Sample {
  readonly atMs: number;
  readonly ms: number;
}

export interface HealthSamples {
  readonly daemon: readonly Sample[];
  /** Of a server that does nothing: what the machine itself delays. */
  readonly idle: readonly Sample[];
}

/** Runs while the health endpoint is asked all the time. `idlePid` is the process that does nothing. */
export async function whileProbed<T>(
  stage: Stage,
  run: (idlePid: number) => Promise<T>,
): Promise<{ readonly result: T; readonly samples: HealthSamples }> {
  const daemon: Sample[] = [];
  const idle: Sample[] = [];
  const child = Bun.spawn(
    [
      "nsenter",
      `--net=${stage.netns("node")}`,
      "--",
      process.execPath,
      `${import.meta.dir}/probe.ts`,
      NODE_ADDRESS,
      "9099",
    ],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  let listening: (pid: number) => void = () => {};
  const idlePid = new Promise<number>((resolve) => (listening = resolve));
  const read = eachLine(child.stdout, (line) => {
    const [which, at, ms] = line.split(" ");
    if (which === "listening") listening(Number(at));
    else (which === "idle" ? idle : daemon).push({ atMs: Number(at), ms: Number(ms) });
  });
  try {
    const result = await run(await idlePid);
    // An answer that is still out is the longest.
    await Bun.sleep(50);
    return { result, samples: { daemon, idle } };
  } finally {
    child.kill();
    await read;
  }
}

/**
 * The times as someone sees them who asks at that interval whatever happens: the probe asks nothing while an answer is out, so a long
 * answer stands for all those that would have been asked for meanwhile.
 */
export function asSeen(samples: readonly Sample[], intervalMs: number): readonly number[] {
  return samples.flatMap(({ ms }) => {
    const seen = [ms];
    for (let left = ms - intervalMs; left > intervalMs; left -= intervalMs) seen.push(left);
    return seen;
  });
}

export function longest(samples: readonly Sample[]): number {
  return samples.reduce((most, { ms }) => Math.max(most, ms), 0);
}
