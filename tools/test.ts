/**
 * test: runs the suites, each in a process of its own, and ends in one line "N passed, N failed, N skipped".
 *
 * A process that dies, or reports nothing, counts as a failure: no test may end a run early with a good exit code.
 * Usage: bun tools/test.ts [SUITE…]; without names, all of them in order.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";

interface Suite {
  readonly name: string;
  readonly paths: readonly string[];
  readonly timeoutSeconds: number;
}

const SUITES: readonly Suite[] = [
  { name: "architecture", paths: ["test/architecture"], timeoutSeconds: 60 },
  { name: "unit", paths: ["./src", "test/spec", "test/golden"], timeoutSeconds: 60 },
  { name: "property", paths: ["test/property"], timeoutSeconds: 300 },
  { name: "datastore", paths: ["test/datastore"], timeoutSeconds: 120 },
  { name: "kernel", paths: ["test/kernel"], timeoutSeconds: 120 },
  { name: "scripts", paths: ["test/scripts"], timeoutSeconds: 180 },
  { name: "conformance", paths: ["test/conformance"], timeoutSeconds: 300 },
];

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

async function runSuite(suite: Suite): Promise<Totals> {
  const paths = suite.paths.filter((path) => existsSync(path));
  if (paths.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  console.log(`\n== ${suite.name}`);
  const directory = mkdtempSync(`${tmpdir()}/calico-test-`);
  const report = `${directory}/junit.xml`;
  const command = [process.execPath, "test", `--timeout=${suite.timeoutSeconds * 1000}`, "--reporter=junit", `--reporter-outfile=${report}`, ...paths];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "inherit", stderr: "inherit" });
  const exitCode = await child.exited;
  const totals = existsSync(report) ? readTotals(readFileSync(report, "utf8")) : undefined;
  rmSync(directory, { recursive: true, force: true });
  if (totals === undefined || totals.passed + totals.failed + totals.skipped === 0) {
    console.error(`suite ${suite.name} ended with exit code ${exitCode} and no report`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  if (exitCode !== 0 && totals.failed === 0) {
    console.error(`suite ${suite.name} ended with exit code ${exitCode} though no test failed`);
    totals.failed = 1;
  }
  return totals;
}

function readTotals(xml: string): Totals | undefined {
  const head = /<testsuites\b[^>]*>/.exec(xml)?.[0];
  if (head === undefined) return undefined;
  const read = (name: string): number => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? "0");
  const failed = read("failures") + read("errors");
  const skipped = read("skipped");
  return { passed: read("tests") - failed - skipped, failed, skipped };
}

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!SUITES.some((suite) => suite.name === name)) {
    console.error(`there is no suite ${JSON.stringify(name)}, only ${SUITES.map((suite) => suite.name).join(", ")}`);
    process.exit(2);
  }
}
const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
for (const suite of SUITES) {
  if (wanted.length > 0 && !wanted.includes(suite.name)) continue;
  const totals = await runSuite(suite);
  sum.passed += totals.passed;
  sum.failed += totals.failed;
  sum.skipped += totals.skipped;
}
console.log(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exit(sum.failed === 0 && sum.passed > 0 ? 0 : 1);
