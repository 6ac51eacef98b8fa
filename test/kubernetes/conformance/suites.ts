/**
 * suites: Kubernetes' own tests of a network, run by ginkgo against a cluster, as its documentation says; progress as tests end.
 *
 * Everything that a suite prints and its report stay in a folder; its processes are in the cluster's cgroup, so they end with the cluster.
 */
import { createWriteStream, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { SuiteBinaries } from "../build/conformance.ts";
import { spawnIn } from "../cluster/cgroups.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { inNetns } from "../cluster/layout.ts";
import { registryList } from "./images.ts";
import { type Failure, readVerdicts, type Skipped, type Verdicts } from "./junit.ts";

export const SUITES = ["netpol", "conformance"] as const;
export type SuiteName = (typeof SUITES)[number];

export interface Outcome {
  readonly passed: number;
  readonly failures: readonly Failure[];
  readonly skipped: readonly Skipped[];
  readonly minutes: number;
}

/** Tests of the suite whose name also matches what the user asked for. */
const PATTERNS: { readonly [S in SuiteName]: (focus: string) => string } = {
  netpol: (focus) => `Netpol.*${focus}`,
  conformance: (focus) => `\\[sig-network\\].*${focus}.*\\[Conformance\\]`,
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
  const { cluster, binaries, suite, results } = wanted;
  const { layout } = cluster;
  const pattern = PATTERNS[suite](wanted.focus);
  const unfit = whyUnfit();
  const started = performance.now();
  const temporary = `${layout.directory}/tmp`;
  mkdirSync(temporary, { recursive: true });
  const ginkgo = [
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
  const child = spawnIn(`${layout.cgroup}/daemons/suite`, () =>
    Bun.spawn([...inNetns(layout.fabric, ginkgo)], {
      cwd: layout.directory,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      // Ctrl-C is for whoever removes the cluster, and this with it.
      detached: true,
      env: {
        PATH: `${dirname(binaries.ginkgo)}:${process.env["PATH"] ?? ""}`,
        HOME: temporary,
        TMPDIR: temporary,
        KUBE_TEST_REPO_LIST: registryList(layout.directory),
      },
    }),
  );
  const log = createWriteStream(`${results}/${suite}.log`);
  const follow = follower(progress);
  await Promise.all([
    eachLine(child.stdout, (line) => {
      log.write(`${line}\n`);
      follow(line);
    }),
    eachLine(child.stderr, (line) => log.write(`${line}\n`)),
  ]);
  const exitCode = await child.exited;
  await new Promise<void>((resolve) => log.end(resolve));
  const report = `${results}/${suite}.xml`;
  const verdicts = existsSync(report)
    ? readVerdicts(readFileSync(report, "utf8"), new RegExp(pattern), unfit)
    : undefined;
  return { ...judged(verdicts, exitCode), minutes: (performance.now() - started) / 60_000 };
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
