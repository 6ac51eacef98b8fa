import { expect, test } from "bun:test";

const PROGRAM = `
  import { applyRuntimeSettings } from "${import.meta.dir}/runtime.ts";
  console.log(process.pid);
  applyRuntimeSettings(process.env);
  const { MINE, BUN_JSC_forceRAMSize } = process.env;
  console.log(JSON.stringify({ pid: process.pid, args: process.argv.slice(1), MINE, BUN_JSC_forceRAMSize }));
`;

async function run(environment: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const child = Bun.spawn([process.execPath, "-e", PROGRAM, "--", "node", "", "ä ö"], {
    stdout: "pipe",
    env: { ...process.env, MINE: "a=b c", ...environment },
  });
  return (await new Response(child.stdout).text()).trimEnd().split("\n");
}

test("a process without the settings runs its program once more, as the same process with the same arguments", async () => {
  const [first, second, third = ""] = await run({});
  expect(second).toBe(first ?? "");
  expect(JSON.parse(third)).toEqual({
    pid: Number(first),
    args: ["node", "", "ä ö"],
    MINE: "a=b c",
    BUN_JSC_forceRAMSize: String(512 * 2 ** 20),
  });
});

test("settings that somebody made are kept", async () => {
  const [, , third = ""] = await run({ BUN_JSC_forceRAMSize: "100000000" });
  expect(JSON.parse(third)).toMatchObject({ BUN_JSC_forceRAMSize: "100000000" });
});
