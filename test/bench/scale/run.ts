/**
 * run: one size and one weight of pods, inside a stage that main made and removes: it runs in the network namespace of the world.
 * Usage: bun run.ts STAGE SIZE lean|fat kubernetes|calico DATAPLANE ROWS-FILE CHURN-SECONDS PHASE…
 */
import { DATAPLANES } from "../../dataplane.ts";
import { type Bench, isNftables } from "./bench.ts";
import { API_PORT, Cluster, Node } from "./node.ts";
import { measureChanges } from "./phase-changes.ts";
import { measureChurn } from "./phase-churn.ts";
import { measurePackets } from "./phase-packets.ts";
import { attachPods, makePodNamespaces, measureAdds, measureDeletes } from "./phase-pods.ts";
import { type Baseline, dumpTable, loadCopy, measureRest, measureRestart, measureStart } from "./phase-start.ts";
import { type PodWeight, type PolicyKinds, type Size, SIZES } from "./scenario.ts";
import { Stage, WORLD_ADDRESS } from "./stage.ts";
import { StatusMonitor } from "./status-monitor.ts";
import { Table } from "./table.ts";
import { KernelMonitor } from "./watchers.ts";

/** Its process; resolves when it serves: all objects are made then. */
async function startApi(size: Size, weight: PodWeight, kinds: PolicyKinds): Promise<number> {
  const child = Bun.spawn(
    [process.execPath, `${import.meta.dir}/server.ts`, size.name, weight, kinds, WORLD_ADDRESS, String(API_PORT)],
    {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  const { value } = await child.stdout.getReader().read();
  if (value === undefined) throw new Error("the API did not start");
  return child.pid;
}

async function main(): Promise<void> {
  const [id = "", name = "", weight = "", kinds = "", dataplane = "", file = "", seconds = "", ...phases] =
    process.argv.slice(2);
  const size = SIZES.find((each) => each.name === name);
  if (size === undefined || (weight !== "lean" && weight !== "fat")) throw new Error(`no size ${name}, ${weight}`);
  if (kinds !== "kubernetes" && kinds !== "calico") throw new Error(`no policies of ${kinds}`);
  const chosen = DATAPLANES.find((each) => each === dataplane);
  if (chosen === undefined) throw new Error(`no dataplane ${dataplane}`);
  const stage = new Stage(id);
  const node = new Node(stage, chosen);
  const apiPid = await startApi(size, weight, kinds);
  const bench: Bench = {
    stage,
    size,
    weight,
    kinds,
    dataplane: chosen,
    node,
    cluster: new Cluster(),
    apiPid,
    monitor: chosen === "nftables" ? new KernelMonitor(stage) : new StatusMonitor(() => node.pid),
    table: new Table(file),
  };
  await bench.monitor.ready();
  stage.addNamespaces(["copy"]);
  makePodNamespaces(bench, phases.includes("pods"));
  bench.node.spawn();
  await bench.node.inSync();
  await bench.node.startBird();
  await runPhases(bench, new Set(phases), Number(seconds));
  bench.monitor.stop();
}

async function runPhases(bench: Bench, phases: ReadonlySet<string>, churnSeconds: number): Promise<void> {
  const pod = phases.has("pods") ? await measureAdds(bench) : await attachPods(bench);
  let base: Baseline | undefined;
  if (phases.has("start")) base = await measureStart(bench);
  else if (isNftables(bench)) loadCopy(bench, dumpTable(bench));
  if (phases.has("restart")) await measureRestart(bench, base);
  if (phases.has("rest")) await measureRest(bench);
  if (phases.has("packets")) await measurePackets(bench, pod);
  if (phases.has("changes")) await measureChanges(bench);
  if (phases.has("churn")) await measureChurn(bench, churnSeconds);
  if (phases.has("pods")) await measureDeletes(bench);
}

await main();
process.exit(0);
