/**
 * test: runs the suites, each in a process of its own, or each of its files in one, and ends in one line "N passed, N failed, N skipped". As many run at a
 * time as there are processors, and two more, because labs wait for much of their time; what one prints comes at its end.
 *
 * Usage: bun tools/test.ts [SUITE…]; without names, all of them.
 */
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { conclude, runSuite, type Suite, type Totals } from "./suite.ts";

interface NamedSuite extends Suite {
  /** Its files are independent of one another, and take long. */
  readonly inFiles?: boolean;
}

const SUITES: readonly NamedSuite[] = [
  { name: "sim", paths: ["test/sim"], timeoutSeconds: 600 },
  { name: "property", paths: ["test/property"], timeoutSeconds: 300, inFiles: true },
  { name: "kernel", paths: ["test/kernel"], timeoutSeconds: 120, inFiles: true },
  { name: "conformance", paths: ["test/conformance"], timeoutSeconds: 300, inFiles: true },
  { name: "scripts", paths: ["test/scripts"], timeoutSeconds: 180, inFiles: true },
  { name: "datastore", paths: ["test/datastore"], timeoutSeconds: 120, inFiles: true },
  {
    name: "unit",
    paths: [
      "./src",
      "./lab",
      "./tools",
      "test/spec",
      "test/golden",
      "test/bench",
      "test/kernels",
      "test/kubernetes/conformance",
    ],
    timeoutSeconds: 60,
  },
  { name: "architecture", paths: ["test/architecture"], timeoutSeconds: 60 },
];

/** What takes longest begins first, so that no processor is idle at the end while one of these is under way. */
const LONGEST: readonly string[] = [
  "./test/conformance/cluster.test.ts",
  "./test/kernel/law.test.ts",
  "test/sim",
  "./test/scripts/calicoctl-datastores.test.ts",
  "./test/conformance/status.test.ts",
  "./test/scripts/calicoctl-verbs.test.ts",
  "./test/conformance/etcd-node.test.ts",
  "./test/kernel/killed.test.ts",
  "./test/conformance/calico-policy.test.ts",
  "./test/kernel/bird.test.ts",
  "./test/conformance/lab.test.ts",
  "./test/conformance/dataplanes.test.ts",
  "./test/scripts/kubectl-contract.test.ts",
  "./test/property/graph.test.ts",
  "./src",
  "./test/kernel/flows.test.ts",
  "./test/conformance/etcd-lab.test.ts",
  "./test/kernel/beside-others.test.ts",
  "./test/conformance/hostport.test.ts",
  "./test/conformance/cni.test.ts",
  "./test/property/law.test.ts",
];

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!SUITES.some((suite) => suite.name === name)) {
    console.error(`there is no suite ${JSON.stringify(name)}, only ${SUITES.map((suite) => suite.name).join(", ")}`);
    process.exit(2);
  }
}
const sum: Totals = { passed: 0, skipped: 0, failures: [] };
const chosen = SUITES.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
const waiting: Suite[] = longestFirst(
  chosen.flatMap(({ inFiles, ...suite }): Suite[] => {
    const paths = suite.paths.filter((path) => existsSync(path));
    if (inFiles !== true) return [{ ...suite, paths }];
    return filesIn(paths).map((file) => ({ ...suite, paths: [file] }));
  }),
);

function longestFirst(suites: readonly Suite[]): Suite[] {
  const gone = LONGEST.find((path) => !existsSync(path));
  if (gone !== undefined) throw new Error(`tools/test.ts names ${gone} among the longest, and it does not exist`);
  const placeOf = ({ paths: [first = ""] }: Suite): number => {
    const place = LONGEST.indexOf(first);
    return place < 0 ? LONGEST.length : place;
  };
  return suites.toSorted((a, b) => placeOf(a) - placeOf(b));
}

function filesIn(paths: readonly string[]): readonly string[] {
  return paths
    .flatMap((path) => [...new Bun.Glob(`${path}/**/*.test.ts`).scanSync()].sort())
    .map((file) => `./${file}`);
}

async function run(suite: Suite): Promise<void> {
  const { passed, skipped, failures, printed, wallSeconds, cpuSeconds } = await runSuite(suite);
  const cost = `${wallSeconds.toFixed(1)} s, ${cpuSeconds.toFixed(1)} s of the processor`;
  console.log(`\n== ${suite.name}: ${suite.paths.join(" ")}: ${cost}\n${printed}`);
  sum.passed += passed;
  sum.skipped += skipped;
  sum.failures.push(...failures);
}

async function work(): Promise<void> {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await run(next);
}

await Promise.all(Array.from({ length: availableParallelism() + 2 }, work));
const { text, exitCode } = conclude(sum);
console.log(text);
process.exit(exitCode);
