/**
 * main: `make conformance`: Kubernetes' own tests of a network against the product, one dataplane after another, each on a cluster of its own
 * in which all nodes have it.
 *
 * Usage: bun test/kubernetes/conformance/main.ts [--dataplane NAME[,NAME]] [--suite NAME[,NAME]] [--focus REGEX] [--report FILE] [--keep]
 */
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Dataplane, DATAPLANES } from "../../dataplane.ts";
import { type Binaries, prepareBinaries, Unavailable } from "../build/binaries.ts";
import { prepareSuite, type SuiteBinaries } from "../build/conformance.ts";
import { removeAbandoned, removeCluster } from "../cluster/clean.ts";
import { newClusterId, startCluster } from "../cluster/cluster.ts";
import { inNetns } from "../cluster/layout.ts";
import { formatMarkdown, formatTable, type Row } from "./report.ts";
import { runSuite, type SuiteName, SUITES, USUAL_SUITES } from "./suites.ts";
import { NAME_SERVER, prepareSurroundings } from "./surroundings.ts";

/** Reports and output of the suites, and the logs of a cluster in which one failed. */
const RESULTS = new URL("../../../build/conformance", import.meta.url).pathname;

interface Wanted {
  readonly dataplanes: readonly Dataplane[];
  readonly suites: readonly SuiteName[];
  readonly focus: string;
  readonly report: string | undefined;
  readonly keep: boolean;
}

class UsageError extends Error {
  override readonly name = "UsageError";
}

const started = performance.now();

function progress(line: string): void {
  const minutes = (performance.now() - started) / 60_000;
  console.log(`[${minutes.toFixed(1).padStart(5)} min] ${line}`);
}

/** The words of an option that is a list, in the order of `all`; without the option, the usual ones. */
function chosen<T extends string>(
  option: string,
  given: string | undefined,
  all: readonly T[],
  usual: readonly T[],
): readonly T[] {
  if (given === undefined) return usual;
  const words = given.split(",");
  const unknown = words.find((word) => !all.some((known) => known === word));
  if (unknown !== undefined)
    throw new UsageError(`--${option}: ${JSON.stringify(unknown)} is none of ${all.join(", ")}`);
  return all.filter((known) => words.includes(known));
}

function readArguments(args: readonly string[]): Wanted {
  const string = { type: "string" } as const;
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { dataplane: string, suite: string, focus: string, report: string, keep: { type: "boolean" } },
    });
    return {
      dataplanes: chosen("dataplane", values.dataplane, DATAPLANES, DATAPLANES),
      suites: chosen("suite", values.suite, SUITES, USUAL_SUITES),
      focus: new RegExp(values.focus ?? "").source.replace(/^\(\?:\)$/, ""),
      report: values.report,
      keep: values.keep ?? false,
    };
  } catch (error) {
    if (error instanceof Error) throw new UsageError(error.message);
    throw error;
  }
}

/** Set by a signal: the cluster is being removed, and nothing may be started on it. */
let interrupted = false;

interface Programs {
  readonly cluster: Binaries;
  readonly suite: SuiteBinaries;
}

/** One cluster and every suite on it. A cluster that does not come about is a failure of each. */
async function runDataplane(
  id: string,
  dataplane: Dataplane,
  programs: Programs,
  { suites, focus, keep }: Wanted,
): Promise<readonly Row[]> {
  const results = `${RESULTS}/${dataplane}`;
  mkdirSync(results, { recursive: true });
  for (const suite of suites)
    for (const file of [`${suite}.xml`, `${suite}.log`, `${suite}-logs`])
      rmSync(`${results}/${file}`, { recursive: true, force: true });
  const rows: Row[] = [];
  const say = (line: string): void => progress(`${dataplane}: ${line}`);
  try {
    const wishes = { dataplane, nameServer: NAME_SERVER };
    const cluster = await startCluster(id, programs.cluster, say, wishes);
    await prepareSurroundings(cluster, programs.suite);
    for (const suite of suites) {
      if (interrupted) break;
      say(`== ${suite}`);
      const run = { cluster, binaries: programs.suite, suite, focus, results };
      const outcome = await runSuite(run, (line) => say(`${suite}: ${line}`));
      rows.push({ suite, dataplane, outcome });
      if (outcome.failures.length > 0) cpSync(cluster.layout.logs, `${results}/${suite}-logs`, { recursive: true });
    }
    if (keep) {
      const { fabric, adminKubeconfig } = cluster.layout;
      say(`kept until Ctrl-C: ${inNetns(fabric, ["kubectl", `--kubeconfig=${adminKubeconfig}`]).join(" ")}`);
      await new Promise(() => setInterval(() => undefined, 2 ** 30));
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    say(`failed: ${reason}`);
    for (const suite of suites.filter((name) => !rows.some((row) => row.suite === name)))
      rows.push({
        suite,
        dataplane,
        outcome: { passed: 0, failures: [{ test: "the cluster", reason }], skipped: [], minutes: 0 },
      });
  } finally {
    // Whoever was interrupted removes the cluster and ends the process.
    if (interrupted) await new Promise(() => undefined);
    await removeCluster(id);
  }
  return rows;
}

async function main(args: readonly string[]): Promise<number> {
  const wanted = readArguments(args);
  const programs = {
    cluster: await prepareBinaries(progress),
    suite: await prepareSuite(progress, wanted.suites.includes("cyclonus")),
  };
  let current = "";
  const interrupt = async (): Promise<void> => {
    interrupted = true;
    progress("interrupted: removing the cluster");
    // Twice: what was being started meanwhile finds no folders, and what had just been started goes.
    for (let i = 0; i < 2 && current !== ""; i++) await removeCluster(current);
    process.exit(130);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => void interrupt());
  await removeAbandoned(progress);
  const rows: Row[] = [];
  for (const dataplane of wanted.dataplanes) {
    current = newClusterId();
    rows.push(...(await runDataplane(current, dataplane, programs, wanted)));
  }
  console.log(`\n${formatTable(rows)}\n\nreports and output: ${RESULTS}`);
  if (wanted.report !== undefined) writeFileSync(wanted.report, formatMarkdown(rows, wanted.focus, new Date()));
  return rows.some(({ outcome }) => outcome.failures.length > 0) ? 1 : 0;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof UsageError) && !(error instanceof Unavailable)) throw error;
  console.error(`conformance: ${error.message}`);
  process.exit(error instanceof UsageError ? 2 : 1);
}
