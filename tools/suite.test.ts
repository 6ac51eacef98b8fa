/** The verdict over real test files run by the real runner: whatever ends badly counts as failed, with a word of what and why. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { conclude, readReport, runSuite } from "./suite.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(`${tmpdir()}/calico-suite-`);
});
afterAll(() => rmSync(directory, { recursive: true }));

async function verdict(body: string): ReturnType<typeof runSuite> {
  const path = `${directory}/some.test.ts`;
  writeFileSync(path, `import { afterAll, expect, test } from "bun:test";\n${body}\n`);
  return runSuite({ name: "some", paths: [path], timeoutSeconds: 5 });
}

test("what passes, is skipped and fails is counted, and a failure says its name and words", async () => {
  const { passed, skipped, failures, printed } = await verdict(`
    test.skip("left out", () => {});
    test("good > />", () => console.log("a word"));
    test("bad <a> & \\"b\\" />", () => expect("</failure></testcase>").toBe("<b>"));
    test("slow", () => new Promise(() => {}), 20);
    afterAll(() => { throw new Error("in the end"); });`);
  expect([passed, skipped, failures.length]).toEqual([1, 1, 3]);
  expect(failures[0]).toMatch(/^some > .*some\.test\.ts > bad <a> & "b" \/>\n/);
  expect(failures[0]).toContain('Expected: "<b>"\nReceived: "</failure></testcase>"');
  expect(failures[1]).toContain("slow\ntest timed out");
  expect(failures[2]).toContain("in the end");
  expect(printed).toContain("a word");
});

test.each([
  [
    "a process that ends in the middle",
    'test("one", () => {}); test("two", () => process.exit(0));',
    "some: ended with exit code 0 and no report",
  ],
  ["a file that cannot be read", "import './nothing.ts';", "some: ended with exit code 1"],
  ["a file without tests", "", "some: ended with exit code 0 and no report"],
  [
    "an exit code that no test accounts for",
    'test("one", () => { process.exitCode = 3; });',
    "some: ended with exit code 3 though no test failed",
  ],
])("%s has failed", async (_, body, words) => {
  const { failures } = await verdict(body);
  expect(failures).toEqual([expect.stringContaining(words)]);
});

test("a report of no tests is none", () => {
  expect(readReport("some", '<testsuites name="bun test" tests="0" failures="0" skipped="0">')).toBeUndefined();
});

test.each([
  [{ passed: 1, skipped: 1, failures: [] }, 0, "\n1 passed, 0 failed, 1 skipped"],
  [{ passed: 0, skipped: 1, failures: [] }, 1, "\n0 passed, 0 failed, 1 skipped"],
  [{ passed: 1, skipped: 0, failures: ["a\nwhy"] }, 1, "\n== failed\na\n    why\n\n1 passed, 1 failed, 0 skipped"],
])("%j ends with %d", (totals, exitCode, text) => expect(conclude(totals)).toEqual({ text, exitCode }));
