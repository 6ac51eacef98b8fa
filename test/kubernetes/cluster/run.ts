/** run: commands to their end with their words in the error, and waiting for conditions. */

/** A command of the fixture failed, or something did not come about in time. */
export class ClusterError extends Error {
  override readonly name = "ClusterError";
}

export interface Output {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command; never rejects for its exit code. The event loop goes on meanwhile. */
export async function tryRun(command: readonly string[], input?: string): Promise<Output> {
  const child = Bun.spawn([...command], {
    stdin: input === undefined ? "ignore" : Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

/** Standard output of a command that must succeed. */
export async function run(command: readonly string[], input?: string): Promise<string> {
  const { exitCode, stdout, stderr } = await tryRun(command, input);
  if (exitCode !== 0)
    throw new ClusterError(`"${command.join(" ")}" failed with exit code ${exitCode}: ${(stderr + stdout).trim()}`);
  return stdout;
}

const POLL_MS = 50;

/** Polls until the condition holds; rejects naming what was waited for and what it looked like last. */
export async function waitFor(
  what: string,
  seconds: number,
  condition: () => boolean | Promise<boolean>,
  describe?: () => Promise<string>,
): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await condition())) {
    if (performance.now() > end)
      throw new ClusterError(
        `waited ${seconds} s in vain for ${what}${describe === undefined ? "" : `: ${await describe()}`}`,
      );
    await Bun.sleep(POLL_MS);
  }
}
