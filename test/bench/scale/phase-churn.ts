/** phase-churn: remote pods that come to other addresses, 100 a second with their IPAMBlocks, and what the node does meanwhile. */
import { memoryOf, resetPeak } from "../processes.ts";
import { addStall, type Bench, isNftables, timedIn, withCpu } from "./bench.ts";
import { wallMs } from "./clock.ts";
import type { Commit } from "./notifications.ts";
import { median, type Row } from "./table.ts";
import { asSeen, whileProbed } from "./watchers.ts";
import type { MemberChange } from "./world.ts";

const RATE = 100;
const CATCH_UP_MS = 20_000;

/** How long after each change the daemon committed an element with its address, in milliseconds. What never came counts as Infinity. */
export function delaysOf(changes: readonly MemberChange[], commits: readonly Commit[]): readonly number[] {
  const byKey = new Map<string, number[]>();
  for (const { atMs, keys } of commits)
    for (const key of keys) {
      const times = byKey.get(key);
      if (times === undefined) byKey.set(key, [atMs]);
      else times.push(atMs);
    }
  return changes.map(({ atMs, key }) => (byKey.get(key)?.find((time) => time >= atMs) ?? Infinity) - atMs);
}

/** The changes' delays, once the daemon has caught up or its time for that is over; where commits tell no keys, until the next commit, whatever was in it. */
export async function followMembers(
  { monitor, node }: Bench,
  change: () => Promise<readonly MemberChange[]>,
): Promise<readonly number[]> {
  return monitor.during(async () => {
    const changes = await change();
    const first = changes[0]?.atMs ?? 0;
    for (const end = wallMs() + CATCH_UP_MS; ;) {
      const commits = monitor.since(node.pid, first);
      const delays = monitor.tellsKeys
        ? delaysOf(changes, commits)
        : changes.map(({ atMs }) => (commits.find((commit) => commit.atMs >= atMs)?.atMs ?? Infinity) - atMs);
      if (delays.every(Number.isFinite) || wallMs() > end) return delays;
      await Bun.sleep(100);
    }
  });
}

function againstNft(bench: Bench, delays: readonly number[]): Pick<Row, "ratio"> {
  const byNft = addElementByNft(bench);
  return { ratio: { value: median(delays) / median(byNft), to: `nft add element (${median(byNft).toFixed(1)} ms)` } };
}

/** `nft add element` of one address in a set of the same table, in a namespace of its own. */
function addElementByNft({ stage }: Bench): readonly number[] {
  const listed = stage.in("copy", "nft", "list", "table", "inet", "calico");
  const set = [...listed.matchAll(/set (\S+) \{\s+(?:comment "[^"]*"\s+)?type ipv4_addr\n/g)][0]?.[1];
  if (set === undefined) throw new Error("the node's table has no set of IPv4 addresses");
  return Array.from({ length: 20 }, (_, i) =>
    timedIn(stage, "copy", ["nft", "-f", "-"], `add element inet calico ${set} { 10.127.0.${i + 1} }\n`),
  );
}

export async function measureChurn(bench: Bench, seconds: number): Promise<void> {
  const { node, table, size, cluster, stage, apiPid } = bench;
  table.heading(
    `churn: ${RATE} addresses a second with their IPAMBlocks for ${seconds} s, a BIRD that answers, at ${size.name}`,
  );
  await node.idle();
  resetPeak(node.pid);
  const { result, samples } = await whileProbed(stage, async () => {
    const measured = () =>
      withCpu(apiPid, () =>
        withCpu(node.birdPid, () => withCpu(node.pid, () => cluster.changes("addresses", RATE, RATE * seconds, true))),
      );
    let api: Awaited<ReturnType<typeof measured>> | undefined;
    const delays = await followMembers(bench, async () => (api = await measured()).result.result.result);
    if (api === undefined) throw new Error("nothing was measured");
    return { api, bird: api.result, daemon: api.result.result, delays };
  });
  const { api, bird, daemon, delays } = result;
  const came = delays.filter(Number.isFinite);
  table.add({
    what: `a member, ${RATE} a second: API to commit`,
    unit: "ms",
    values: came,
    aim: "p99 2 ms, max 10",
    ...(isNftables(bench) ? againstNft(bench, came) : {}),
  });
  table.add({
    what: "changes that were not committed 20 s later",
    unit: "",
    values: [delays.length - came.length],
    aim: "0",
  });
  table.add({ what: "CPU of the daemon", unit: "% of a core", values: [daemon.percent] });
  table.add({ what: "CPU of the bench's API", unit: "% of a core", values: [api.percent] });
  table.add({ what: "CPU of BIRD", unit: "% of a core", values: [bird.percent] });
  const [asked, idle] = [asSeen(samples.daemon, 2), asSeen(samples.idle, 20)];
  table.add({
    what: "health endpoint, asked each 2 ms",
    unit: "ms",
    values: asked,
    ratio: { value: median(asked) / median(idle), to: `a server that does nothing (${median(idle).toFixed(2)} ms)` },
  });
  table.add({ what: "a server that does nothing", unit: "ms", values: idle });
  addStall(bench, "churn", samples);
  const { peak, rss, pss } = memoryOf(node.pid);
  table.add({ what: "memory after churn: peak (VmHWM)", unit: "MB", values: [peak], aim: "350 MB" });
  table.add({ what: "memory after churn: RSS", unit: "MB", values: [rss], aim: "250 MB" });
  table.add({ what: "memory after churn: PSS", unit: "MB", values: [pss] });
  await measureLabels(bench);
}

async function measureLabels(bench: Bench): Promise<void> {
  const { cluster, table } = bench;
  await bench.node.idle();
  const delays = await followMembers(bench, () => cluster.changes("labels", 20, 200));
  const came = delays.filter(Number.isFinite);
  table.add({
    what: "a label of one pod, 20 a second: API to commit",
    unit: "ms",
    values: came,
    aim: "p99 2 ms, max 10",
  });
  if (came.length < delays.length)
    table.add({
      what: "label changes that were not committed",
      unit: "",
      values: [delays.length - came.length],
      aim: "0",
    });
}
