import { expect, test } from "bun:test";
import { openProcesses } from "./processes.ts";

const processes = openProcesses();

test("input, both outputs and the exit code", async () => {
  const finished = await processes.run(["sh", "-c", "cat; echo problem >&2; exit 3"], { input: "ü\n" });
  expect(finished).toEqual({ exitCode: 3, stdout: "ü\n", stderr: "problem\n" });
});

test("outputs larger than a pipe", async () => {
  const input = "x".repeat(1 << 20);
  expect((await processes.run(["cat"], { input })).stdout).toBe(input);
});

test("without input standard input is empty; the environment is added to ours", async () => {
  const finished = await processes.run(["sh", "-c", 'cat; echo $EXTRA; test -n "$PATH"'], {
    environment: { EXTRA: "yes" },
  });
  expect(finished).toEqual({ exitCode: 0, stdout: "yes\n", stderr: "" });
});

test("the exit code after a signal is 128 plus its number", async () => {
  expect((await processes.run(["sh", "-c", "kill -TERM $$"])).exitCode).toBe(143);
});

test("the error names a program that does not exist", async () => {
  await expect(processes.run(["calico-no-such-program"])).rejects.toThrow(
    'Cannot run "calico-no-such-program": ENOENT',
  );
});

test("aborting ends the program and rejects", async () => {
  const controller = new AbortController();
  const running = processes.run(["sleep", "1000"], { signal: controller.signal });
  controller.abort(new Error("enough"));
  await expect(running).rejects.toThrow("enough");
  await expect(processes.run(["true"], { signal: controller.signal })).rejects.toThrow("enough");
});
