import { expect, test } from "bun:test";

/** A program whose main module waits for ever, as a daemon's does, and which makes a mistake meanwhile. */
function program(mistake: string): string {
  return `import { endOnBug } from "${import.meta.dir}/bug.ts"; endOnBug(); setTimeout(() => process.exit(0), 5000); ${mistake}; await new Promise(() => {}); export {};`;
}

for (const [name, mistake] of [
  ["a rejection that nobody handles", "void (async () => { await Bun.sleep(1); throw new Error('a mistake'); })()"],
  ["an exception in a timer", "setTimeout(() => { throw new Error('a mistake'); }, 1)"],
] as const) {
  test(`${name} ends the process at once, with its words`, async () => {
    const child = Bun.spawn([process.execPath, "-e", program(mistake)], { stdout: "ignore", stderr: "pipe" });
    const stderr = await new Response(child.stderr).text();
    expect(await child.exited).toBe(70);
    expect(stderr).toContain("a mistake");
  });
}
