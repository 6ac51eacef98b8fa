/**
 * scale: `make bench-scale`: the shipped daemon of one node in clusters of up to 10,000 policies and 100,000 pods, each figure with its
 * aim and beside something real of the same run.
 *
 * Every size and weight of pods is a run of its own on a stage of its own, removed at its end, however it ends.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, release } from "node:os";
import { parseArgs } from "node:util";
import { spawnIn } from "../../../lab/cluster/cgroup.ts";
import { type Dataplane, DATAPLANES } from "../../dataplane.ts";
import { type PodWeight, type PolicyKinds, SIZES, type Size } from "./scenario.ts";
import { makeStage, removeAbandoned, removeStage } from "./stage.ts";
import type { RowSummary } from "./table.ts";

const PHASES = ["pods", "start", "restart", "rest", "packets", "changes", "churn"];
const KINDS: readonly PolicyKinds[] = ["kubernetes", "calico"];
const WEIGHTS: readonly PodWeight[] = ["lean", "fat"];
/** Of these few policies only new connections are of interest, beside those of many. */
const FEW = "10/1k";
const USAGE = `Usage: bun test/bench/scale/main.ts [--size ${SIZES.map(({ name }) => name).join(" | ")}]… [--pods lean | fat]…
         [--phase ${PHASES.join(" | ")}]… [--policies kubernetes | calico] [--dataplane ${DATAPLANES.join(" | ")}] [--churn-seconds 60] [--json FILE]
Without --size: ${FEW} for packets, then the others with lean pods, and the largest with fat ones for start, restart, rest and churn.`;

interface Plan {
  readonly size: Size;
  readonly weight: PodWeight;
  readonly phases: readonly string[];
}

interface Options {
  readonly plans: readonly Plan[];
  readonly churnSeconds: number;
  readonly kinds: PolicyKinds;
  readonly dataplane: Dataplane;
  readonly json: string | undefined;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      size: { type: "string", multiple: true },
      pods: { type: "string", multiple: true },
      phase: { type: "string", multiple: true },
      "churn-seconds": { type: "string", default: "60" },
      policies: { type: "string", default: "kubernetes" },
      dataplane: { type: "string", default: "nftables" },
      json: { type: "string" },
    },
  });
  const phases = values.phase?.map((phase) => chosen("--phase", phase, PHASES));
  const weights = values.pods?.map((weight) => chosen("--pods", weight, WEIGHTS)) ?? ["lean" as const];
  const sizes = values.size?.map((name) =>
    chosen(
      "--size",
      name,
      SIZES.map((size) => size.name),
    ),
  );
  const churnSeconds = Number(values["churn-seconds"]);
  if (!Number.isInteger(churnSeconds) || churnSeconds < 1)
    throw new Error(`--churn-seconds is ${JSON.stringify(values["churn-seconds"])}, must be a whole number from 1`);
  const of = (name: string, weight: PodWeight, which: readonly string[]): readonly Plan[] =>
    SIZES.filter((size) => size.name === name).map((size) => ({ size, weight, phases: which }));
  const plans =
    sizes === undefined && values.pods === undefined
      ? [
          ...of(
            FEW,
            "lean",
            (phases ?? PHASES).filter((phase) => phase === "packets"),
          ),
          ...SIZES.flatMap(({ name }) => (name === FEW ? [] : of(name, "lean", phases ?? PHASES))),
          ...of(
            "10k/100k",
            "fat",
            (phases ?? PHASES).filter((phase) => ["start", "restart", "rest", "churn"].includes(phase)),
          ),
        ]
      : (sizes ?? ["10k/100k"]).flatMap((name) => weights.flatMap((weight) => of(name, weight, phases ?? PHASES)));
  const kinds = chosen("--policies", values.policies, KINDS);
  const dataplane = chosen("--dataplane", values.dataplane, DATAPLANES);
  return { plans: plans.filter((plan) => plan.phases.length > 0), churnSeconds, kinds, dataplane, json: values.json };
}

function chosen<T extends string>(option: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((each) => each === value);
  if (found === undefined)
    throw new Error(`${option} is ${JSON.stringify(value)}, must be one of ${allowed.join(", ")}`);
  return found;
}

/** Load of the last minute: with more than two at work on two cores the figures say little. */
function load(): string {
  return (loadavg()[0] ?? 0).toFixed(2);
}

const BUSY = 2;

let current: string | undefined;

async function perform(
  { size, weight, phases }: Plan,
  { kinds, dataplane, churnSeconds }: Options,
): Promise<readonly RowSummary[]> {
  const stage = makeStage();
  current = stage.id;
  const rows = `${stage.directory}/rows`;
  try {
    const command = [stage.id, size.name, weight, kinds, dataplane, rows, String(churnSeconds), ...phases];
    const child = spawnIn(stage.cgroup, () =>
      Bun.spawn(
        ["nsenter", `--net=${stage.netns("world")}`, "--", process.execPath, `${import.meta.dir}/run.ts`, ...command],
        {
          stdin: "ignore",
          stdout: "inherit",
          stderr: "inherit",
        },
      ),
    );
    if ((await child.exited) !== 0) throw new Error(`the run of ${size.name}, ${weight} pods, failed`);
    return existsSync(rows)
      ? readFileSync(rows, "utf8")
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line) as RowSummary)
      : [];
  } finally {
    await removeStage(stage.id);
    current = undefined;
  }
}

async function main(options: Options): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => {
      const end = (): never => process.exit(130);
      if (current === undefined) end();
      else void removeStage(current).then(end, end);
    });
  await removeAbandoned();
  const { plans, kinds, dataplane, json } = options;
  const runs: object[] = [];
  for (const plan of plans) {
    const before = load();
    if (Number(before) > BUSY)
      console.log(`\nThe load is ${before}: figures are of a machine that is busy with something else.`);
    console.log(
      `\n==== ${plan.size.name}, ${plan.weight} pods, policies of ${kinds === "calico" ? "Calico" : "Kubernetes"}, ${dataplane}: ${plan.phases.join(", ")}; load before it ${before}`,
    );
    const rows = await perform(plan, options);
    runs.push({
      size: plan.size.name,
      weight: plan.weight,
      kinds,
      dataplane,
      loadBefore: before,
      loadAfter: load(),
      rows,
    });
    if (json !== undefined)
      writeFileSync(
        json,
        `${JSON.stringify({ at: new Date().toISOString(), kernel: release(), cpus: availableParallelism(), runs }, undefined, 1)}\n`,
      );
  }
}

let options: Options;
try {
  options = readOptions();
} catch (error) {
  console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  process.exit(2);
}
await main(options);
