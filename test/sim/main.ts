/**
 * main: runs seeds, each a cluster of its own, and prints of each that fails what was violated, its last lines and how to run it again.
 *
 * Usage: bun test/sim/main.ts [--from N] [--seeds N] [--only SEED] [--faults store,kill,…|none] [--steps N] [--trace] [--first]
 * `--first`: ends with the first seed that fails.
 */
import { parseArgs } from "node:util";
import { Stopped } from "../../src/host/sim/process.ts";
import { FAULT_KINDS, type FaultKind } from "./faults.ts";
import { blame, type Outcome, simulate } from "./simulate.ts";

/** What a stopped process leaves behind never settles or says so; anything else that nobody catches is a mistake of the product. */
process.on("unhandledRejection", (error) => {
  if (!(error instanceof Stopped)) blame(error);
});
process.on("uncaughtException", (error) => {
  if (!(error instanceof Stopped)) blame(error);
});

const { values } = parseArgs({
  options: {
    from: { type: "string", default: "1" },
    seeds: { type: "string", default: "200" },
    only: { type: "string" },
    faults: { type: "string" },
    steps: { type: "string" },
    first: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
  },
});

const LAST_LINES = 40;
const isWorthReading = (line: string): boolean => !line.slice(8).startsWith("   ");

function kindsOf(seed: number): readonly FaultKind[] {
  if (values.faults !== undefined) return FAULT_KINDS.filter((kind) => values.faults?.split(",").includes(kind));
  // Every set of kinds comes by and by, and worlds without any fault.
  return FAULT_KINDS.filter(
    (_kind, i) => (i < 8 ? (seed * 0x9e3779b1) >>> (7 + i * 3) : (seed * 0x85ebca6b) >>> 9) % 5 < 2,
  );
}

/** Short worlds and long ones. */
function stepsOf(seed: number): number {
  return 3 + (((seed * 0x9e3779b1) >>> 3) % 5);
}

function print({ seed, violation, digest, world }: Outcome, taken: number, faults: readonly FaultKind[]): void {
  console.log(`seed ${seed} (${faults.join(",") || "no faults"}): ${violation ?? "all held"}`);
  if (violation === undefined && !values.trace) return;
  const lines = values.trace ? world.history.last(8000) : world.history.last(LAST_LINES, isWorthReading);
  for (const line of lines) console.log(`  ${line}`);
  console.log(`  ${digest}`);
  console.log(
    `  again: bun test/sim/main.ts --only ${seed} --faults ${faults.join(",") || "none"} --steps ${taken} [--trace]`,
  );
}

/** The fewest steps after which the seed still fails: what happens before is the same. */
async function shorten(
  first: Outcome,
  faults: readonly FaultKind[],
  steps: number,
): Promise<readonly [Outcome, number]> {
  for (let fewer = 1; fewer < steps && !values.trace; fewer++) {
    const outcome = await simulate(first.seed, faults, fewer);
    if (outcome.violation !== undefined) return [outcome, fewer];
  }
  return [first, steps];
}

const from = Number(values.only ?? values.from);
const count = values.only === undefined ? Number(values.seeds) : 1;
let failed = 0;
for (let seed = from; seed < from + count; seed++) {
  const faults = kindsOf(seed);
  const steps = values.steps === undefined ? stepsOf(seed) : Number(values.steps);
  const outcome = await simulate(seed, faults, steps);
  if (outcome.violation !== undefined) {
    failed++;
    if (values.first) {
      console.log(`seed ${seed} (${faults.join(",") || "no faults"}): ${outcome.violation}`);
      break;
    }
    print(...(await shorten(outcome, faults, steps)), faults);
  } else if (values.trace || values.only !== undefined) print(outcome, steps, faults);
}
console.log(`${count} seeds, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
