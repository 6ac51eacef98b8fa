/** The commands of docs/quickstart.md, run in order as they stand there, on a lab of their own; each must do what the text shows. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { execute, Lab, REPOSITORY, until } from "./fixture.ts";

const lab = new Lab();
beforeAll(() => lab.up(), 180_000);
afterAll(() => lab.down(), 60_000);

interface Step {
  readonly command: string;
  readonly expected: readonly string[];
}

/** In a `console` block: `$ command`, then the output; a line of output that has `…` matches anything there. */
function readSteps(): Step[] {
  const steps: { command: string; expected: string[] }[] = [];
  const text = readFileSync(`${REPOSITORY}/docs/quickstart.md`, "utf8");
  for (const [, block] of text.matchAll(/```console\n([\s\S]*?)```/g)) {
    for (const line of (block ?? "").split("\n")) {
      if (line.startsWith("$ ")) steps.push({ command: line.slice(2), expected: [] });
      else if (line.trim() !== "") steps.at(-1)?.expected.push(line);
    }
  }
  return steps;
}

function pattern(line: string): RegExp {
  const quoted = line
    .trim()
    .split(/\s+/)
    .map((word) =>
      word
        .split("…")
        .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
        .join(".*?"),
    );
  return new RegExp(quoted.join("\\s+"));
}

const steps = readSteps();

test("the quickstart has its commands", () => {
  expect(steps.length).toBeGreaterThan(10);
});

for (const [i, step] of steps.entries()) {
  test(`${i + 1}. ${step.command}`, async () => {
    if (/^(make |export )/.test(step.command)) return;
    const command = step.command
      .replace("bin/calico-lab exec ", `bin/calico-lab exec --name ${lab.name} `)
      .replace("bin/calico-lab node-exec ", `bin/calico-lab node-exec --name ${lab.name} `)
      .replace("bin/calico-lab status", `bin/calico-lab status --name ${lab.name}`);
    let last = "";
    // Typed by a person, a command is repeated until what was started is there; so here.
    await until(
      `${step.command}\nto print\n${step.expected.join("\n")}\nbut it printed\n`,
      async () => {
        const { stdout, stderr } = await execute(["bash", "-c", command], { env: { KUBECONFIG: lab.kubeconfig } });
        last = stdout + stderr;
        return step.expected.every((line) => pattern(line).test(last.replace(/\s+/g, " ")));
      },
      30,
    ).catch((error: Error) => {
      throw new Error(error.message + last);
    });
  });
}
