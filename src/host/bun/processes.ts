/** The real Processes: Bun.spawn, with both outputs read to their end. */
import { constants } from "node:os";
import type { Finished, Processes } from "../processes.ts";

export function openProcesses(): Processes {
  return { run };
}

async function run(
  command: readonly string[],
  options: {
    readonly input?: string;
    readonly signal?: AbortSignal;
    readonly environment?: Readonly<Record<string, string>>;
  } = {},
): Promise<Finished> {
  options.signal?.throwIfAborted();
  const child = start(command, options);
  const stop = (): void => child.kill("SIGKILL");
  options.signal?.addEventListener("abort", stop, { once: true });
  try {
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    options.signal?.throwIfAborted();
    return { exitCode: exitCodeOf(child), stdout, stderr };
  } finally {
    options.signal?.removeEventListener("abort", stop);
  }
}

function start(
  command: readonly string[],
  options: { readonly input?: string; readonly environment?: Readonly<Record<string, string>> },
) {
  try {
    return Bun.spawn([...command], {
      stdin: options.input === undefined ? "ignore" : new TextEncoder().encode(options.input),
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...options.environment },
    });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new Error(`Cannot run ${JSON.stringify(command[0] ?? "")}: ${code}`);
  }
}

function exitCodeOf(child: { readonly exitCode: number | null; readonly signalCode: string | number | null }): number {
  if (typeof child.signalCode === "number") return 128 + child.signalCode;
  const signal = Object.entries(constants.signals).find(([name]) => name === child.signalCode);
  if (signal !== undefined) return 128 + signal[1];
  return child.exitCode ?? 1;
}
