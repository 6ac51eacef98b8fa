import { expect, test } from "bun:test";

/** A program whose main module waits forever, as a daemon's does, and which hits a bug meanwhile. */
function program(bug: string): string {
  return `import { endOnBug } from "${import.meta.dir}/bug.ts"; endOnBug(); setTimeout(() => process.exit(0), 5000); ${bug}; await new Promise(() => {}); export {};`;
}

for (const [name, bug] of [
  ["an unhandled rejection", "void (async () => { await Bun.sleep(1); throw new Error('a bug'); })()"],
  ["an exception in a timer", "setTimeout(() => { throw new Error('a bug'); }, 1)"],
] as const) {
  test(`${name} ends the process at once, with its message`, async () => {
    const child = Bun.spawn([process.execPath, "-e", program(bug)], { stdout: "ignore", stderr: "pipe" });
    const stderr = await new Response(child.stderr).text();
    expect(await child.exited).toBe(70);
    expect(stderr).toContain("a bug");
  });
}
