/** guest: in the emulated machine: runs each test file in a process of its own and ends in one line that `readEnd` reads. Usage: bun guest.ts FILE… */
import { readFileSync } from "node:fs";
import { conclude, runSuite, type Totals } from "../../tools/suite.ts";
import { endOf } from "./end.ts";

/** Of each test, in the time of the machine. */
const TIMEOUT_SECONDS = 600;

const sum: Totals = { passed: 0, skipped: 0, failures: [] };
console.log(`== ${readFileSync("/proc/version", "utf8").trim()}`);
for (const file of process.argv.slice(2)) {
  console.log(`\n== ${file}`);
  const { passed, skipped, failures, wallSeconds } = await runSuite({
    name: "kernel",
    paths: [`./${file}`],
    timeoutSeconds: TIMEOUT_SECONDS,
    onPrint: (text) => process.stdout.write(text),
  });
  console.log(`== ${file}: ${wallSeconds.toFixed(1)} s of the machine's time`);
  sum.passed += passed;
  sum.skipped += skipped;
  sum.failures.push(...failures);
}
console.log(conclude(sum).text);
console.log(endOf(sum));
