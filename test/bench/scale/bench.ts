/** bench: what every phase has: the stage, the node, the cluster, the kernel's transactions, and the table of rows. */
import { cpuMs } from "../processes.ts";
import { wallMs } from "./clock.ts";
import type { Dataplane } from "../../dataplane.ts";
import type { CommitMonitor } from "./commit-monitor.ts";
import type { Cluster, Node } from "./node.ts";
import type { PodWeight, PolicyKinds, Size } from "./scenario.ts";
import type { Stage } from "./stage.ts";
import type { Table } from "./table.ts";
import type { HealthSamples } from "./watchers.ts";
import { longest } from "./watchers.ts";

/** Where two of nft's transactions stand beside the daemon's. */
export function isNftables({ dataplane }: Bench): boolean {
  return dataplane === "nftables";
}

export interface Bench {
  readonly stage: Stage;
  readonly size: Size;
  readonly weight: PodWeight;
  readonly kinds: PolicyKinds;
  readonly dataplane: Dataplane;
  readonly node: Node;
  readonly cluster: Cluster;
  /** The process of the API. */
  readonly apiPid: number;
  readonly monitor: CommitMonitor;
  readonly table: Table;
}

/** Percent of a core that a process took while it ran, and how long that was. */
export async function withCpu<T>(
  pid: number,
  run: () => Promise<T>,
): Promise<{ readonly result: T; readonly percent: number; readonly ms: number; readonly wallMs: number }> {
  const [cpu, wall] = [cpuMs(pid), wallMs()];
  const result = await run();
  const [ms, took] = [cpuMs(pid) - cpu, wallMs() - wall];
  return { result, percent: (100 * ms) / took, ms, wallMs: took };
}

/** The longest that the health endpoint took, beside the server that does nothing. */
export function addStall({ table }: Bench, phase: string, { daemon, idle }: HealthSamples): void {
  const [worst, machine] = [longest(daemon), longest(idle)];
  table.add({
    what: `worst stall of the thread: ${phase}`,
    unit: "ms",
    values: [worst],
    aim: "10 ms",
    ratio: { value: worst / machine, to: `a server that does nothing (${machine.toFixed(1)} ms)` },
  });
}

/** What a command took, in milliseconds: of the clock, and of CPU, which a busy machine changes less. */
export interface Cost {
  readonly ms: number;
  readonly cpuMs: number;
}

/** A command in a network namespace of the stage. Throws when it fails. */
export function costIn(stage: Stage, purpose: string, command: readonly string[], input: string): Cost {
  const start = performance.now();
  const result = Bun.spawnSync(["nsenter", `--net=${stage.netns(purpose)}`, "--", ...command], {
    stdin: Buffer.from(input),
    stdout: "ignore",
    stderr: "pipe",
  });
  const ms = performance.now() - start;
  if (result.exitCode !== 0) throw new Error(`${command.join(" ")}: ${result.stderr.toString().slice(0, 500)}`);
  return { ms, cpuMs: Number(result.resourceUsage.cpuTime.total) / 1e3 };
}

/** Milliseconds of the clock alone. */
export function timedIn(stage: Stage, purpose: string, command: readonly string[], input: string): number {
  return costIn(stage, purpose, command, input).ms;
}
