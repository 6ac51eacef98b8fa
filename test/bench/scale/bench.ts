/** bench: what every phase has: the stage, the node, the cluster, the kernel's transactions, and the table of rows. */
import { spawnSync } from "node:child_process";
import { cpuMs } from "../processes.ts";
import { wallMs } from "./clock.ts";
import type { Cluster, Node } from "./node.ts";
import type { PodWeight, Size } from "./scenario.ts";
import type { Stage } from "./stage.ts";
import type { Table } from "./table.ts";
import type { HealthSamples, KernelMonitor } from "./watchers.ts";
import { longest } from "./watchers.ts";

export interface Bench {
  readonly stage: Stage;
  readonly size: Size;
  readonly weight: PodWeight;
  readonly node: Node;
  readonly cluster: Cluster;
  /** The process of the API. */
  readonly apiPid: number;
  readonly monitor: KernelMonitor;
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

/** A command in the network namespace with the rules of the node, and how long it took, in milliseconds. */
export function timedIn(stage: Stage, purpose: string, command: readonly string[], input: string): number {
  const start = performance.now();
  const [program = "", ...rest] = ["nsenter", `--net=${stage.netns(purpose)}`, "--", ...command];
  const { status, stderr } = spawnSync(program, rest, { input, maxBuffer: 1 << 30 });
  if (status !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString().slice(0, 500)}`);
  return performance.now() - start;
}
