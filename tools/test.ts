/**
 * test: runs the suites, each in a process of its own, and ends in one line "N passed, N failed, N skipped".
 *
 * Usage: bun tools/test.ts [SUITE…]; without names, all of them in order.
 */
import { existsSync } from "node:fs";
import { conclude, runSuite, type Suite, type Totals } from "./suite.ts";

const SUITES: readonly Suite[] = [
  { name: "architecture", paths: ["test/architecture"], timeoutSeconds: 60 },
  { name: "unit", paths: ["./src", "./tools", "test/spec", "test/golden"], timeoutSeconds: 60 },
  { name: "property", paths: ["test/property"], timeoutSeconds: 300 },
  { name: "datastore", paths: ["test/datastore"], timeoutSeconds: 120 },
  { name: "kernel", paths: ["test/kernel"], timeoutSeconds: 120 },
  { name: "scripts", paths: ["test/scripts"], timeoutSeconds: 180 },
  { name: "conformance", paths: ["test/conformance"], timeoutSeconds: 300 },
];

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!SUITES.some((suite) => suite.name === name)) {
    console.error(`there is no suite ${JSON.stringify(name)}, only ${SUITES.map((suite) => suite.name).join(", ")}`);
    process.exit(2);
  }
}
const sum: Totals = { passed: 0, skipped: 0, failures: [] };
for (const suite of SUITES) {
  if (wanted.length > 0 && !wanted.includes(suite.name)) continue;
  console.log(`\n== ${suite.name}`);
  const { passed, skipped, failures } = await runSuite({ ...suite, paths: suite.paths.filter((path) => existsSync(path)) });
  sum.passed += passed;
  sum.skipped += skipped;
  sum.failures.push(...failures);
}
const { text, exitCode } = conclude(sum);
console.log(text);
process.exit(exitCode);
