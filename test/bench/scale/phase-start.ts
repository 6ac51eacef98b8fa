/** phase-start: start with an empty kernel and with nothing changed, the memory that it takes, and what a node at rest costs. */
import { cpuMs, memoryOf, wakeUps, wakeUpsSince } from "../processes.ts";
import { addStall, type Bench, type Cost, costIn, isNftables, withCpu } from "./bench.ts";
import type { Commit } from "./notifications.ts";
import { median, type Row, type Table } from "./table.ts";
import { whileProbed } from "./watchers.ts";

const STARTS = 3;
const QUIET_MS = 1_000;
const START_MOST_MS = 180_000;
const REST_MS = 30_000;
/** Until what a start leaves to be collected is gone, and the audit after it is over. */
const SETTLING_MS = 30_000;
/** At rest too, and health asked all the time. */
const PROBED_MS = 10_000;
/** Table of the node, in the namespace of its copy. */
const TABLE = ["table", "inet", "calico"];

/** From exec to the last commit, in milliseconds; undefined for the commit: the kernel agreed already. `empty`: it cannot, and one must come. */
async function start(
  bench: Bench,
  empty = false,
): Promise<{
  readonly inSyncMs: number;
  /** Of the daemon until it was in sync. */
  readonly cpuMs: number;
  readonly committedMs: number | undefined;
  readonly commits: readonly Commit[];
}> {
  const { node, monitor } = bench;
  const execMs = node.spawn();
  const inSync = await node.inSync();
  const cpu = cpuMs(node.pid);
  // The monitor may be behind what the daemon has done.
  if (empty) await monitor.first(node.pid, execMs, START_MOST_MS);
  const last = await monitor.last(node.pid, execMs, QUIET_MS);
  return {
    inSyncMs: inSync - execMs,
    cpuMs: cpu,
    committedMs: last === undefined ? undefined : last.atMs - execMs,
    commits: monitor.all(node.pid, execMs),
  };
}

/** The node's rules as nft reads them: without the flags of their tables, which it cannot read again. */
export function dumpTable({ stage }: Bench): string {
  return stage.in("node", "nft", "list", ...TABLE).replace(/^\tflags.*\n/gm, "");
}

/** Puts the rules into a namespace of their own, which later phases use too; what `nft -f` took. */
export function loadCopy(bench: Bench, rules: string): Cost {
  const { stage } = bench;
  costIn(stage, "copy", ["nft", "-f", "-"], "table inet calico {}\ndelete table inet calico\n");
  return costIn(stage, "copy", ["nft", "-f", "-"], rules);
}

function readAll({ stage, cluster }: Bench): Cost {
  return costIn(stage, "node", [process.execPath, `${import.meta.dir}/reader.ts`, cluster.url], "");
}

/** Medians. */
export interface Baseline {
  /** Reading and parsing the lists. */
  readonly read: Cost;
  /** `nft -f`; undefined: of another dataplane, which has no program that loads all of it at once. */
  readonly load: Cost | undefined;
}

function baseline(bench: Bench): Baseline {
  const rules = isNftables(bench) ? dumpTable(bench) : undefined;
  const reads: Cost[] = [];
  const loads: Cost[] = [];
  for (let i = 0; i < STARTS; i++) {
    reads.push(readAll(bench));
    if (rules !== undefined) loads.push(loadCopy(bench, rules));
  }
  const add = (what: string, costs: readonly Cost[]): Cost => {
    const [clock, cpu] = [costs.map(({ ms }) => ms), costs.map(({ cpuMs }) => cpuMs)];
    bench.table.add({ what, unit: "ms", values: clock });
    bench.table.add({ what: `${what}, CPU`, unit: "ms", values: cpu });
    return { ms: median(clock), cpuMs: median(cpu) };
  };
  return {
    read: add("reading the same lists and parsing them", reads),
    load: rules === undefined ? undefined : add("nft -f of the same rules", loads),
  };
}

async function coldStart(bench: Bench): Promise<Cost> {
  const { node } = bench;
  await node.end("SIGKILL");
  node.clear();
  const { committedMs, cpuMs: cpu } = await start(bench, true);
  if (committedMs === undefined) throw new Error("the daemon committed nothing though the kernel was empty");
  return { ms: committedMs, cpuMs: cpu };
}

function addMemory(
  { table, node, weight }: Bench,
  when: string,
  aims: { readonly peak?: string; readonly rest?: string },
): void {
  const { peak, rss, pss, executable } = memoryOf(node.pid);
  const add = (what: string, value: number, aim?: string): void =>
    table.add({
      what: `memory ${when}, ${weight}: ${what}`,
      unit: "MB",
      values: [value],
      ...(aim === undefined ? {} : { aim }),
    });
  add("peak (VmHWM)", peak, aims.peak);
  add("RSS", rss, aims.rest);
  add("PSS", pss);
  add("of RSS, file pages (the executable)", executable);
}

export async function measureStart(bench: Bench): Promise<Baseline> {
  const { node, table, size } = bench;
  table.heading(`start with an empty kernel, 200 local pods, at ${size.name}`);
  const starts: Cost[] = [];
  for (let i = 0; i < STARTS; i++) starts.push(await coldStart(bench));
  addMemory(bench, "after start", { peak: "350 MB" });
  const base = baseline(bench);
  const add = (what: string, of: (cost: Cost) => number): void => {
    const least = of(base.read) + (base.load === undefined ? 0 : of(base.load));
    const values = starts.map(of);
    const ratio = {
      value: median(values) / least,
      to: `${base.load === undefined ? "lists + parse" : "lists + parse + nft -f"} (${least.toFixed(0)} ms)`,
    };
    table.add({ what, unit: "ms", values, aim: "2x", ratio });
  };
  add("start: exec to last commit", ({ ms }) => ms);
  add("start: CPU until in sync", ({ cpuMs: cpu }) => cpu);
  const { samples } = await whileProbed(bench.stage, () => coldStart(bench));
  addStall(bench, "start", samples);
  await node.idle();
  return base;
}

export async function measureRest(bench: Bench): Promise<void> {
  const { node, table, size, stage } = bench;
  table.heading(`at rest, ${REST_MS / 1000} s, at ${size.name}`);
  await node.idle();
  await Bun.sleep(SETTLING_MS);
  const wakes = wakeUps(node.pid);
  const alone = await withCpu(node.pid, () => Bun.sleep(REST_MS));
  const perSecond = (wakeUpsSince(node.pid, wakes) * 1_000) / alone.wallMs;
  addMemory(bench, "at rest", { rest: "250 MB (2k/20k: 120)" });
  const { result, samples } = await whileProbed(stage, async (idlePid) => {
    const probed = await withCpu(node.pid, () => Bun.sleep(PROBED_MS));
    return { probed, idle: memoryOf(idlePid) };
  });
  const { probed, idle } = result;
  table.add({ what: "memory of the runtime alone, doing nothing: RSS", unit: "MB", values: [idle.rss] });
  table.add({ what: "CPU at rest", unit: "% of a core", values: [alone.percent], aim: "0.5 %" });
  table.add({ what: "CPU at rest, health asked each 2 ms", unit: "% of a core", values: [probed.percent] });
  table.add({ what: "wake-ups at rest", unit: "a second", values: [perSecond] });
  addStall(bench, "at rest", samples);
}

export async function measureRestart(bench: Bench, base: Baseline | undefined): Promise<void> {
  const { node, table, cluster, size } = bench;
  table.heading(`restart with nothing changed, at ${size.name}`);
  const times: number[] = [];
  const cpu: number[] = [];
  const commits: Commit[] = [];
  const before = await cluster.writes();
  for (let i = 0; i < STARTS; i++) {
    await node.end("SIGTERM");
    const started = await start(bench);
    times.push(started.inSyncMs);
    cpu.push(started.cpuMs);
    commits.push(...started.commits);
    await node.idle();
  }
  const after = await cluster.writes();
  const written = Object.entries(after).flatMap(([what, count]) => {
    const more = count - (before[what] ?? 0);
    return more === 0 ? [] : [`${more / STARTS} ${what}`];
  });
  const against = (of: (cost: Cost) => number, values: readonly number[]): Pick<Row, "ratio"> =>
    base === undefined
      ? {}
      : { ratio: { value: median(values) / of(base.read), to: `lists + parse (${of(base.read).toFixed(0)} ms)` } };
  table.add({
    what: "restart: exec to in sync",
    unit: "ms",
    values: times,
    aim: "2 s",
    ...against(({ ms }) => ms, times),
  });
  table.add({
    what: "restart: CPU until in sync",
    unit: "ms",
    values: cpu,
    ...against(({ cpuMs: each }) => each, cpu),
  });
  addCommits(table, commits);
  const { samples } = await whileProbed(bench.stage, async () => {
    await node.end("SIGTERM");
    await start(bench);
  });
  addStall(bench, "restart", samples);
  const total = Object.entries(after).reduce((sum, [what, count]) => sum + count - (before[what] ?? 0), 0);
  table.add({
    what: "writes to the API a restart",
    unit: `(${written.join(", ") || "none"})`,
    values: [total / STARTS],
    aim: "0",
  });
}

/** Of the node's own table: what a daemon asks of the kernel with a table that it removes again changes nothing. */
function addCommits(table: Table, all: readonly Commit[]): void {
  const commits = all.filter(({ tables }) => tables.includes("calico"));
  const sum = (of: (commit: Commit) => number): number => commits.reduce((total, each) => total + of(each), 0) / STARTS;
  const rules = sum((each) => each.rulesAdded + each.rulesDeleted);
  const elements = sum((each) => each.elementsAdded + each.elementsDeleted);
  const content = `${sum(({ messages }) => messages)} objects, of them ${rules} rules, ${elements} elements`;
  table.add({
    what: `commits to table calico a restart`,
    unit: `(${content})`,
    values: [commits.length / STARTS],
    aim: "0",
  });
  const other = all.filter(({ tables }) => !tables.includes("calico")).length / STARTS;
  table.add({ what: "commits that touch other tables alone", unit: "", values: [other] });
}
