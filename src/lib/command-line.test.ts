import { describe, expect, spyOn, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { newProgram, runProgram, subcommandOf, UsageError } from "./command-line.ts";

/** Runs `tool ARGS` whose action is this; its exit code and what it wrote to standard error. */
async function run(
  action: () => void,
  ...args: readonly string[]
): Promise<{ code: number | undefined; stderr: string; thrown?: unknown }> {
  let stderr = "";
  const write = spyOn(process.stderr, "write").mockImplementation((text) => ((stderr += String(text)), true));
  const log = spyOn(console, "error").mockImplementation((text: unknown) => void (stderr += `${String(text)}\n`));
  const out = spyOn(process.stdout, "write").mockImplementation(() => true);
  try {
    const program = newProgram("tool", "Does things.").option("--size <n>");
    subcommandOf(program, "sub", "Does one.").requiredOption("--needed <x>").action(action);
    program.action(action);
    return { code: await runProgram(program, args, (error) => error instanceof RangeError), stderr };
  } catch (thrown) {
    return { code: undefined, stderr, thrown };
  } finally {
    for (const spy of [write, log, out]) spy.mockRestore();
  }
}

const nothing = (): void => undefined;
const HELP = 'Run "tool --help" for help.\n';
const HELP_SUB = 'Run "tool sub --help" for help.\n';

describe("a command line", () => {
  test.each([
    ["an unknown option", ["--frob"], `tool: unknown option '--frob'\n${HELP}`],
    ["an option without its value", ["--size"], `tool: option '--size <n>' argument missing\n${HELP}`],
    [
      "an unknown option of a subcommand",
      ["sub", "--needed", "1", "--frob"],
      `tool sub: unknown option '--frob'\n${HELP_SUB}`,
    ],
    [
      "a missing option of a subcommand",
      ["sub"],
      `tool sub: required option '--needed <x>' not specified\n${HELP_SUB}`,
    ],
  ] as const)("%s exits 2 and names the program", async (_, args, stderr) => {
    expect(await run(nothing, ...args)).toEqual({ code: 2, stderr });
  });

  test("an invalid value exits 2 with its message", async () => {
    const refuse = (): void => {
      throw new UsageError("--size is 0, must be at least 1");
    };
    expect(await run(refuse)).toEqual({ code: 2, stderr: `tool: --size is 0, must be at least 1\n${HELP}` });
  });

  test("a subcommand's own usage errors are reported with its name", async () => {
    const refuse = (): void => {
      throw new UsageError("x is y");
    };
    expect(await run(refuse, "sub", "--needed", "1")).toEqual({ code: 2, stderr: `tool sub: x is y\n${HELP_SUB}` });
  });

  test("an error of the outside world exits 1 with one line; a bug is thrown", async () => {
    expect(await run(() => void mkdirSync("/proc/none"))).toEqual({
      code: 1,
      stderr: "tool: ENOENT: no such file or directory, mkdir '/proc/none'\n",
    });
    const ranged = (): void => {
      throw new RangeError("the kernel says no");
    };
    expect(await run(ranged)).toEqual({ code: 1, stderr: "tool: the kernel says no\n" });
    const bug = new TypeError("undefined is not a function");
    expect(
      (
        await run(() => {
          throw bug;
        })
      ).thrown,
    ).toBe(bug);
  });

  test("help exits 0 and writes nothing to standard error", async () => {
    expect(await run(nothing, "--help")).toEqual({ code: 0, stderr: "" });
  });
});
