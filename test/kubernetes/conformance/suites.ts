/**
 * suites: Kubernetes' own tests of a network, run by ginkgo against a cluster, as its documentation says; progress as tests end.
 *
 * Everything that a suite prints and its report stay in a folder; its processes are in the cluster's cgroup, so they end with the cluster.
 */
import { createWriteStream, existsSync, mkdirSync, readFileSync } from "node:fs";
import type { SuiteBinaries } from "../build/conformance.ts";
import { spawnIn } from "../cluster/cgroups.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { inNetns } from "../cluster/layout.ts";
import { ClusterError } from "../cluster/run.ts";
import { CYCLONUS_REGISTRY, registryList } from "./images.ts";
import { type Failure, readVerdicts, type Skipped, type Verdicts } from "./junit.ts";

export const SUITES = ["netpol", "conformance", "cyclonus"] as const;
export type SuiteName = (typeof SUITES)[number];
/** Without the option. */
export const USUAL_SUITES: readonly SuiteName[] = ["netpol", "conformance"];

export interface Outcome {
  readonly passed: number;
  readonly failures: readonly Failure[];
  readonly skipped: readonly Skipped[];
  readonly minutes: number;
}

type GinkgoSuite = Exclude<SuiteName, "cyclonus">;

/** Tests of the suite whose name also matches what the user asked for. */
export const PATTERNS: { readonly [S in GinkgoSuite]: (focus: string) => string } = {
  netpol: (focus) => `Netpol.*(?:${focus})`,
  conformance: (focus) => `\\[sig-network\\].*(?:${focus}).*\\[Conformance\\]`,
};

/** The kernel may have it as a module. */
function kernelHasSctp(): boolean {
  Bun.spawnSync(["modprobe", "-q", "sctp"]);
  return /^SCTP\s/m.test(readFileSync("/proc/net/protocols", "utf8"));
}

/** Tests that send SCTP; others speak of it and send TCP. */
const SCTP = "Feature:SCTPConnectivity";

/** Why a test cannot run here, whatever the product does. */
function whyUnfit(): (test: string) => string | undefined {
  const sctp = kernelHasSctp();
  return (test) => (!sctp && test.includes(SCTP) ? "the kernel has no SCTP" : undefined);
}

/** As many tests at a time; more only wait for one another on two cores. */
const PROCESSES = 3;

export interface Run {
  readonly cluster: Cluster;
  readonly binaries: SuiteBinaries;
  readonly suite: SuiteName;
  /** A regular expression, empty: all. */
  readonly focus: string;
  /** Where report and output go: `<suite>.xml`, `<suite>.log`. */
  readonly results: string;
}

/** Runs it to its end. */
export async function runSuite(wanted: Run, progress: (line: string) => void): Promise<Outcome> {
  const started = performance.now();
  const { suite } = wanted;
  const verdicts = await (suite === "cyclonus" ? runCyclonus(wanted, progress) : runGinkgo(wanted, suite, progress));
  return { ...verdicts, minutes: (performance.now() - started) / 60_000 };
}

async function runGinkgo(wanted: Run, suite: GinkgoSuite, progress: (line: string) => void): Promise<Verdicts> {
  const { cluster, binaries, results } = wanted;
  const { layout } = cluster;
  const pattern = PATTERNS[suite](wanted.focus);
  const unfit = whyUnfit();
  const command = [
    binaries.ginkgo,
    `--procs=${PROCESSES}`,
    "-v",
    "--no-color",
    "--silence-skips",
    "--timeout=3h",
    `--focus=${pattern}`,
    ...(unfit(SCTP) === undefined ? [] : [`--skip=${SCTP}`]),
    `--output-dir=${results}`,
    `--junit-report=${suite}.xml`,
    binaries.e2e,
    "--",
    "--provider=local",
    `--kubeconfig=${layout.adminKubeconfig}`,
    "--dns-domain=cluster.local",
    `--num-nodes=${layout.nodes.length}`,
    "--allowed-not-ready-nodes=0",
    "--minStartupPods=0",
  ];
  const exitCode = await follow(wanted, command, follower(progress));
  const report = `${results}/${suite}.xml`;
  if (!existsSync(report)) return judged(undefined, exitCode);
  return judged(readVerdicts(readFileSync(report, "utf8"), new RegExp(pattern), unfit), exitCode);
}

/** Runs a program of the suite beside the API server, what it prints into the log, its standard output also line by line; its exit code. */
async function follow(
  { cluster: { layout }, suite, results }: Run,
  command: readonly string[],
  take: (line: string) => void,
): Promise<number> {
  const temporary = `${layout.directory}/tmp`;
  mkdirSync(temporary, { recursive: true });
  const child = spawnIn(`${layout.cgroup}/daemons/suite`, () =>
    Bun.spawn([...inNetns(layout.fabric, command)], {
      cwd: layout.directory,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      // Ctrl-C is for whoever removes the cluster, and this with it.
      detached: true,
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: temporary,
        TMPDIR: temporary,
        KUBE_TEST_REPO_LIST: registryList(layout.directory),
      },
    }),
  );
  const log = createWriteStream(`${results}/${suite}.log`);
  await Promise.all([
    eachLine(child.stdout, (line) => {
      log.write(`${line}\n`);
      take(line);
    }),
    eachLine(child.stderr, (line) => log.write(`${line}\n`)),
  ]);
  const exitCode = await child.exited;
  await new Promise<void>((resolve) => log.end(resolve));
  return exitCode;
}

/** One line of what the driver prints. */
interface CyclonusLine {
  readonly cases?: number;
  readonly case?: string;
  readonly passed?: boolean;
  readonly error?: string;
}

async function runCyclonus(wanted: Run, progress: (line: string) => void): Promise<Verdicts> {
  const { cluster, binaries, focus } = wanted;
  if (binaries.cyclonus === undefined) throw new ClusterError("cyclonus was not built");
  const failures: Failure[] = [];
  let total = "?";
  let ended = 0;
  const command = [binaries.cyclonus.driver, cluster.layout.adminKubeconfig, CYCLONUS_REGISTRY, focus];
  const exitCode = await follow(wanted, command, (text) => {
    const line = JSON.parse(text) as CyclonusLine;
    if (line.cases !== undefined) total = String(line.cases);
    if (line.case === undefined) return;
    const reason = line.error ?? "the kernel and cyclonus disagree: the log says about which pods";
    if (line.passed !== true) failures.push({ test: line.case, reason });
    progress(`${++ended} of ${total} ${line.passed === true ? "passed" : "failed"}: ${line.case}`);
  });
  return judged({ passed: ended - failures.length, failures, skipped: [] }, exitCode);
}

/** A suite that says nothing, or nothing bad with a bad exit code, has failed. */
function judged(verdicts: Verdicts | undefined, exitCode: number): Verdicts {
  const failed = (reason: string): Failure => ({ test: "the suite itself", reason });
  if (verdicts === undefined)
    return { passed: 0, skipped: [], failures: [failed(`ended with exit code ${exitCode} and no report`)] };
  if (verdicts.failures.length > 0) return verdicts;
  if (exitCode !== 0)
    return { ...verdicts, failures: [failed(`ended with exit code ${exitCode} though no test failed`)] };
  if (verdicts.passed === 0) return { ...verdicts, failures: [failed("no test of that name can run")] };
  return verdicts;
}

/** Reads a stream by lines, the last one also without its end. */
async function eachLine(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(take);
  }
  if (rest !== "") take(rest);
}

/** From ginkgo's output: a line for each test that ended, with its number. Source: ginkgo, reporters/default_reporter.go. */
export function follower(progress: (line: string) => void): (line: string) => void {
  let total = "?";
  let ended = 0;
  let state: string | undefined;
  return (line) => {
    const begins = /^Will run (\d+) of \d+ specs/.exec(line);
    if (begins !== null) total = begins[1] ?? "?";
    if (state !== undefined) {
      progress(`${++ended} of ${total} ${state}: ${line}`);
      state = undefined;
      return;
    }
    const header = /^(?:•|S) (?:\[([A-Z ]+)\] )?\[(\d+)\.\d+ seconds\]/.exec(line);
    if (header !== null) state = `${header[1]?.toLowerCase() ?? "passed"} in ${header[2]} s`;
  };
}
