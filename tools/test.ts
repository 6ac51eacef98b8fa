/**
 * test: runs the suites, each in a process of its own, and ends in one line "N passed, N failed, N skipped". The lab's suite runs beside
 * the others, because it waits for most of its time; what it prints comes at its end.
 *
 * Usage: bun tools/test.ts [SUITE…]; without names, all of them in order.
 */
import { existsSync } from "node:fs";
import { conclude, runSuite, type Suite, type Totals } from "./suite.ts";

const SUITES: readonly Suite[] = [
  { name: "architecture", paths: ["test/architecture"], timeoutSeconds: 60 },
  { name: "unit", paths: ["./src", "./lab", "./tools", "test/spec", "test/golden", "test/bench"], timeoutSeconds: 60 },
  { name: "property", paths: ["test/property"], timeoutSeconds: 300 },
  { name: "datastore", paths: ["test/datastore"], timeoutSeconds: 120 },
  { name: "sim", paths: ["test/sim"], timeoutSeconds: 600 },
  { name: "kernel", paths: ["test/kernel"], timeoutSeconds: 120 },
  { name: "scripts", paths: ["test/scripts"], timeoutSeconds: 180 },
  { name: "conformance", paths: ["test/conformance"], timeoutSeconds: 300 },
];

const BESIDE = "conformance";

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!SUITES.some((suite) => suite.name === name)) {
    console.error(`there is no suite ${JSON.stringify(name)}, only ${SUITES.map((suite) => suite.name).join(", ")}`);
    process.exit(2);
  }
}
const sum: Totals = { passed: 0, skipped: 0, failures: [] };

async function run(suite: Suite, quiet: boolean): Promise<void> {
  if (!quiet) console.log(`\n== ${suite.name}`);
  const { passed, skipped, failures, printed } = await runSuite({
    ...suite,
    paths: suite.paths.filter((path) => existsSync(path)),
    quiet,
  });
  if (quiet) console.log(`\n== ${suite.name}, which ran beside the others\n${printed}`);
  sum.passed += passed;
  sum.skipped += skipped;
  sum.failures.push(...failures);
}

const chosen = SUITES.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
const beside = chosen.length > 1 ? chosen.filter(({ name }) => name === BESIDE) : [];
const inTurn = async (): Promise<void> => {
  for (const suite of chosen) if (!beside.includes(suite)) await run(suite, false);
};
await Promise.all([inTurn(), ...beside.map((suite) => run(suite, true))]);
const { text, exitCode } = conclude(sum);
console.log(text);
process.exit(exitCode);
