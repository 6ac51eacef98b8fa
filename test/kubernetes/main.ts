/**
 * main: `make test-kubernetes`: builds or finds the programs, starts two clusters, runs every test file against one of them, removes both.
 *
 * Where the machine lacks a Go toolchain or a registry it says so, counts as skipped and ends well; once the cluster's programs
 * are there, whatever fails fails the run. Usage: bun test/kubernetes/main.ts [--keep] [FILE…]
 */
import { dirname } from "node:path";
import { conclude, runSuite, type Totals } from "../../tools/suite.ts";
import { type Binaries, prepareBinaries, Unavailable } from "./build/binaries.ts";
import { residentBytes } from "./cluster/cgroups.ts";
import { removeAbandoned, removeCluster } from "./cluster/clean.ts";
import { CLUSTER_VARIABLE, CLUSTERS_VARIABLE, newClusterId, startCluster } from "./cluster/cluster.ts";

/** Those that take longest come first, so that the clusters end at about the same time. */
const FILES = [
  "lives",
  "faults",
  "nodes",
  "rights",
  "runtime",
  "churn",
  "boot",
  "pods",
  "services",
  "restarts",
  "upstream",
  "upstream-calicoctl",
  "clients",
  "hostport",
  "api",
  "policy",
  "contract",
  "webhooks",
  "status",
] as const;
/** Needs no cluster: beside the others; what it prints comes at its end. */
const LAB = "lab";
/** Looks back at what all others asked of the API, in every cluster. */
const LAST = "role";
/** One cluster leaves a machine of two cores idle for half of the time. */
const CLUSTERS = 2;
/** The lab's own tests, with Kubernetes' API in place of the embedded one. */
const LAB_TESTS = "../conformance/cluster.test.ts";
const TEST_TIMEOUT_SECONDS = 300;

const started = performance.now();

function progress(line: string): void {
  const seconds = (performance.now() - started) / 1000;
  console.log(`[${seconds.toFixed(1).padStart(6)} s] ${line}`);
}

function labEnvironment(binaries: Binaries): Readonly<Record<string, string>> {
  return {
    CALICO_LAB_API: "kubernetes",
    PATH: [dirname(binaries.etcd), dirname(binaries.apiserver), process.env["PATH"] ?? ""].join(":"),
  };
}

/** A process of its own for each file. */
async function runFile(name: string, env: Readonly<Record<string, string>>, sum: Totals): Promise<void> {
  progress(`== ${name}`);
  const path = new URL(name === LAB ? LAB_TESTS : `./${name}.test.ts`, import.meta.url).pathname;
  const { passed, skipped, failures, printed } = await runSuite({
    name,
    paths: [path],
    timeoutSeconds: TEST_TIMEOUT_SECONDS,
    env,
  });
  progress(`== ${name} ended: ${passed} passed, ${failures.length} failed, ${skipped} skipped\n${printed}`);
  sum.passed += passed;
  sum.skipped += skipped;
  sum.failures.push(...failures);
}

function printMemory(id: string): void {
  const sizes = [...residentBytes(id)].sort(([, a], [, b]) => b - a);
  const total = sizes.reduce((sum, [, bytes]) => sum + bytes, 0);
  const words = sizes.map(([program, bytes]) => `${program} ${Math.round(bytes / 2 ** 20)}`);
  progress(`resident memory ${Math.round(total / 2 ** 20)} MiB: ${words.join(", ")}`);
}

/** Holds the clusters for their user; a signal removes it. */
async function untilEnded(ids: readonly string[]): Promise<void> {
  progress(
    `kept until Ctrl-C: ${CLUSTERS_VARIABLE}=${ids.join(",")} ${CLUSTER_VARIABLE}=${ids[0]} bun test --timeout=${TEST_TIMEOUT_SECONDS * 1000} test/kubernetes/NAME.test.ts`,
  );
  await new Promise(() => setInterval(() => undefined, 2 ** 30));
}

async function runAll(binaries: Binaries, files: readonly string[], keep: boolean): Promise<Totals> {
  const queue: string[] = FILES.filter((name) => files.includes(name));
  const ids = Array.from({ length: Math.min(CLUSTERS, Math.max(1, queue.length)) }, newClusterId);
  const sum: Totals = { passed: 0, skipped: 0, failures: [] };
  const clean = async (): Promise<void> => {
    progress(`removing ${ids.join(", ")}`);
    for (const id of ids) await removeCluster(id);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => void clean().then(() => process.exit(1)));
  const environment = (id: string): Readonly<Record<string, string>> => ({
    [CLUSTER_VARIABLE]: id,
    [CLUSTERS_VARIABLE]: ids.join(","),
  });
  /** One cluster and the files that it takes from the queue, one after another. */
  const lane = async (id: string): Promise<void> => {
    await startCluster(id, binaries, (line) => progress(`${id}: ${line}`));
    progress(`the cluster ${id} works`);
    printMemory(id);
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) await runFile(name, environment(id), sum);
  };
  try {
    await removeAbandoned(progress);
    const lab = files.includes(LAB) ? runFile(LAB, labEnvironment(binaries), sum) : undefined;
    const ended = await Promise.allSettled([...ids.map(lane), lab]);
    for (const outcome of ended) if (outcome.status === "rejected") throw outcome.reason;
    const [first = ""] = ids;
    if (files.includes(LAST)) await runFile(LAST, environment(first), sum);
    for (const id of ids) printMemory(id);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    progress(`failed: ${message}`);
    sum.failures.push(`cluster: ${message}`);
  } finally {
    if (keep) await untilEnded(ids);
    await clean();
  }
  return sum;
}

async function main(args: readonly string[]): Promise<number> {
  const wanted = args.filter((arg) => !arg.startsWith("--"));
  const known: readonly string[] = [...FILES, LAB, LAST];
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    console.error(`there are no tests ${JSON.stringify(unknown)}, only ${known.join(", ")}`);
    return 2;
  }
  let binaries: Binaries;
  try {
    binaries = await prepareBinaries(progress);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`no Kubernetes to test against: ${error.message}\n\n0 passed, 0 failed, 1 skipped`);
    return 0;
  }
  const { text, exitCode } = conclude(
    await runAll(binaries, wanted.length > 0 ? wanted : known, args.includes("--keep")),
  );
  console.log(text);
  return exitCode;
}

process.exit(await main(process.argv.slice(2)));
