/**
 * main: `make test-kubernetes`: builds or finds the programs, starts one cluster, runs every test file against it, removes it.
 *
 * Where the machine lacks a Go toolchain or a registry it says so, counts as skipped and ends well; once the cluster's programs
 * are there, whatever fails fails the run. Usage: bun test/kubernetes/main.ts [--keep] [FILE…]
 */
import { dirname } from "node:path";
import { conclude, runSuite, type Totals } from "../../tools/suite.ts";
import { type Binaries, prepareBinaries, Unavailable } from "./build/binaries.ts";
import { residentBytes } from "./cluster/cgroups.ts";
import { removeCluster } from "./cluster/clean.ts";
import { CLUSTER_VARIABLE, newClusterId, startCluster } from "./cluster/cluster.ts";

/** In this order: the last one looks back at what all the others asked of the API. */
const FILES = ["api", "pods", "lives", "policy", "services", "runtime", "boot", "churn", "nodes", "restarts", "troubles", "upstream", "rights", "role"] as const;
/** Beside the others, for they touch neither the cluster's nodes nor what runs on them; what they print comes at their end. */
const BESIDE = ["lab", "contract"] as const;
/** The lab's own tests, with Kubernetes' API in place of the embedded one. */
const LAB_TESTS = "../conformance/cluster.test.ts";
const TEST_TIMEOUT_SECONDS = 300;

const started = performance.now();

function progress(line: string): void {
  const seconds = (performance.now() - started) / 1000;
  console.log(`[${seconds.toFixed(1).padStart(6)} s] ${line}`);
}

function labEnvironment(binaries: Binaries): Readonly<Record<string, string>> {
  return { CALICO_LAB_API: "kubernetes", PATH: [dirname(binaries.etcd), dirname(binaries.apiserver), process.env["PATH"] ?? ""].join(":") };
}

/** A process of its own for each file. */
async function runFile(name: string, id: string, binaries: Binaries, sum: Totals): Promise<void> {
  const beside = BESIDE.some((other) => other === name);
  if (!beside) progress(`== ${name}`);
  const path = new URL(name === "lab" ? LAB_TESTS : `./${name}.test.ts`, import.meta.url).pathname;
  const env = name === "lab" ? labEnvironment(binaries) : { [CLUSTER_VARIABLE]: id };
  const { passed, skipped, failures, printed } = await runSuite({ name, paths: [path], timeoutSeconds: TEST_TIMEOUT_SECONDS, env, quiet: beside });
  if (beside) progress(`== ${name}, beside the others\n${printed}`);
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

/** Holds the cluster for its user; a signal removes it. */
async function untilEnded(id: string): Promise<void> {
  progress(`kept until Ctrl-C: ${CLUSTER_VARIABLE}=${id} bun test --timeout=${TEST_TIMEOUT_SECONDS * 1000} test/kubernetes/NAME.test.ts`);
  await new Promise(() => setInterval(() => undefined, 2 ** 30));
}

async function runAll(binaries: Binaries, files: readonly string[], keep: boolean): Promise<Totals> {
  const id = newClusterId();
  const sum: Totals = { passed: 0, skipped: 0, failures: [] };
  const clean = async (): Promise<void> => {
    progress(`removing the cluster ${id}`);
    await removeCluster(id);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void clean().then(() => process.exit(1)));
  try {
    await startCluster(id, binaries, progress);
    progress(`the cluster ${id} works`);
    printMemory(id);
    const inTurn = async (names: readonly string[]): Promise<void> => {
      for (const name of names) if (files.includes(name)) await runFile(name, id, binaries, sum);
    };
    await Promise.all([inTurn(FILES.slice(0, -1)), inTurn(BESIDE)]);
    // What is looked back at must be over.
    await inTurn(FILES.slice(-1));
    printMemory(id);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    progress(`failed: ${message}`);
    sum.failures.push(`cluster: ${message}`);
  } finally {
    if (keep) await untilEnded(id);
    await clean();
  }
  return sum;
}

async function main(args: readonly string[]): Promise<number> {
  const wanted = args.filter((arg) => !arg.startsWith("--"));
  const known: readonly string[] = [...FILES, ...BESIDE];
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
  const { text, exitCode } = conclude(await runAll(binaries, wanted.length > 0 ? wanted : known, args.includes("--keep")));
  console.log(text);
  return exitCode;
}

process.exit(await main(process.argv.slice(2)));
