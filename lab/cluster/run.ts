/** run: runs one command to its end; the error of a failed one contains its output. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

export interface Output {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function tryRun(command: readonly string[], input?: string): Output {
  const [program = ""] = command;
  if (Bun.which(program) === null)
    throw new CommandError(`${program} is not installed; "make setup" installs what the lab needs`);
  const result = Bun.spawnSync([...command], {
    stdin: input === undefined ? "ignore" : Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
  });
  return { exitCode: result.exitCode, stdout: result.stdout.toString(), stderr: result.stderr.toString() };
}

export function run(command: readonly string[], input?: string): string {
  const { exitCode, stdout, stderr } = tryRun(command, input);
  if (exitCode !== 0)
    throw new CommandError(`"${command.join(" ")}" failed with exit code ${exitCode}: ${(stderr + stdout).trim()}`);
  return stdout;
}

/** Polls until the condition holds; on timeout rejects with what was waited for. */
export async function waitFor(
  what: string,
  seconds: number,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await condition())) {
    if (performance.now() > end) throw new CommandError(`waited ${seconds} s in vain for ${what}`);
    await Bun.sleep(25);
  }
}
