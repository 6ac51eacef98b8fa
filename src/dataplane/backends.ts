/** backends: the ways to program policy into the kernel, each with how to learn whether it can run here and how to take it out again. */
import { parentOf } from "../lib/path.ts";
import type { Clock } from "../host/clock.ts";
import type { Processes } from "../host/processes.ts";
import type { Sys } from "../host/sys.ts";
import type { Files } from "../host/files.ts";
import type { Thread, ThreadEvents } from "../host/threads.ts";
import { KernelError } from "../kernel/errno.ts";
import type { Report } from "../lib/report.ts";
import { IptablesClient, type Variant } from "../kernel/iptables/client.ts";
import { NftablesClient, whyNoTables } from "../kernel/nftables/client.ts";
import type { TableId } from "../kernel/nftables/objects.ts";
import type { Family } from "../net/addr.ts";
import type { DataplaneChoice, Program } from "../program/program.ts";
import type { Counters } from "./counters.ts";
import type { DeniedPackets } from "./denied.ts";
import { awaitSteps, type Driver, finishSteps, type Steps } from "./driver.ts";
import { EbpfDriver } from "./ebpf/driver.ts";
import { pinNames } from "./ebpf/maps.ts";
import { ensurePins, removePins } from "./ebpf/pins.ts";
import { callsAtOnce, ThreadCalls } from "../kernel/bpf/long-calls.ts";
import { liftMemoryLimit, probingEbpf } from "./ebpf/probe.ts";
import { removeUpstreamPins, removeUpstreamPrograms } from "./ebpf/upstream.ts";
import type { FlowSource } from "./flows/source.ts";
import { readCounters as readIptablesCounters } from "./iptables/counters.ts";
import { IptablesDriver } from "./iptables/driver.ts";
import { readCounters as readNftablesCounters } from "./nftables/counters.ts";
import { NftablesDriver } from "./nftables/driver.ts";
import { removingTable } from "./nftables/remove.ts";

export type BackendName = Exclude<DataplaneChoice, "iptables">;

export interface RemovableDriver extends Driver {
  /** Takes all that is its own out of the kernel; the sets not, if another one uses them. */
  removing(keepsSets: boolean): Steps;
  /** Closes a workload's interface that has just been made to all but policy, before it is up. Throws KernelError. */
  guard?(index: number, name: string): void;
  /** Takes all flows out of the flowtable, if it has one, and lets none in until it is called with false. Throws KernelError. */
  suspendOffload?(isSuspended: boolean): void;
  /** Where it keeps the flows that it has let through; without it, the kernel's table of connections has them. */
  readonly flows?: FlowSource | undefined;
  /** Absent: it does not tell of denied packets. Throws KernelError. */
  readonly denied?: DeniedPackets;
}

export interface Backend {
  readonly name: BackendName;
  /** Opens its sockets in the thread's network namespace. Throws KernelError. */
  open(): RemovableDriver;
  /** Why it cannot run here, in words; undefined: it can. */
  probe(): Promise<string | undefined>;
  /** Reads what the rules have counted. Rejects with KernelError. */
  counters(program: Program): Promise<Counters>;
  /** Clears what is left: all files of its own, or while a driver of it runs (`isInUse`) those of other versions; and what upstream's has left. Rejects with KernelError. */
  sweep?(isInUse: boolean): Promise<void>;
}

export interface BackendOptions {
  readonly sys: Sys;
  readonly processes: Processes;
  readonly clock: Clock;
  /** The kernel lets a socket own a table. */
  readonly ownsTable: boolean;
  /** Those that the kernel has. */
  readonly families: ReadonlySet<Family>;
  readonly report: Report;
  /** undefined: there is no object of programs. */
  readonly ebpf: EbpfBackendOptions | undefined;
}

export interface EbpfBackendOptions {
  readonly files: Files;
  /** bpf/path.o. */
  readonly object: () => Uint8Array;
  /** A directory of a bpffs, which is mounted if it is not. */
  readonly pins: string;
  /** Starts a thread for calls that wait for the kernel (`src/call-thread.ts`), which lives as long as a driver; absent: they are made at once. */
  readonly startThread?: ((events: ThreadEvents) => Thread) | undefined;
}

/** In the order in which one stands in for another. */
export function backendsOf(options: BackendOptions): readonly Backend[] {
  const { ebpf: of } = options;
  const others = [nftables(options), iptables(options, "nft"), iptables(options, "legacy")];
  return of === undefined ? others : [...others, ebpf(options, of)];
}

function ebpf(
  { sys, clock, processes, ownsTable, report }: BackendOptions,
  { files, object, pins, startThread: start }: EbpfBackendOptions,
): Backend {
  let opened: EbpfDriver | undefined;
  const calls = start === undefined ? callsAtOnce(sys) : new ThreadCalls({ sys, start, report });
  return {
    name: "ebpf",
    open() {
      liftMemoryLimit(sys);
      return (opened = new EbpfDriver(sys, { object, pins, clock, ownsTable, report, calls }));
    },
    async probe() {
      liftMemoryLimit(sys);
      try {
        await ensurePins(files, processes, pins);
      } catch (error) {
        if (error instanceof KernelError) return error.message;
        throw error;
      }
      const why =
        whyNoTables(sys) ?? (await awaitSteps(probingEbpf({ sys, object: object(), directory: pins, calls }), clock));
      if (why !== undefined) calls.close();
      return why;
    },
    counters: (program) => opened?.counters(program) ?? Promise.resolve({ rules: [], ends: [] }),
    async sweep(isInUse) {
      await removePins(files, pins, isInUse ? pinNames(object()) : new Set());
      await awaitSteps(removeUpstreamPrograms(sys), clock);
      await removeUpstreamPins(files, parentOf(pins));
    },
  };
}

function nftables({ sys, clock, ownsTable }: BackendOptions): Backend {
  return {
    name: "nftables",
    open: () => new NftablesDriver(sys, { ownsTable, clock }),
    probe: () => Promise.resolve(ownsTable ? undefined : whyNoTables(sys)),
    counters: (program) => readNftablesCounters(sys, clock, program),
  };
}

function iptables({ sys, clock, processes, families }: BackendOptions, variant: Variant): Backend {
  const clients = [...families].map((family) => new IptablesClient(processes, clock, variant, family));
  return {
    name: `iptables-${variant}`,
    open: () => new IptablesDriver(sys, { processes, variant, families, clock }),
    async probe() {
      for (const client of clients) {
        const why = await client.probe();
        if (why !== undefined) return why;
      }
      return undefined;
    },
    counters: (program) => readIptablesCounters(clients, clock, program),
  };
}

export async function backendFor(
  choice: DataplaneChoice,
  processes: Processes,
  clock: Pick<Clock, "sleep">,
): Promise<BackendName> {
  return choice === "iptables" ? `iptables-${await variantInUse(processes, clock)}` : choice;
}

/** Of the two variants, the one whose rules others of this node use: kubelet's hint, else whichever has more. Upstream: DetectBackend. */
async function variantInUse(processes: Processes, clock: Pick<Clock, "sleep">): Promise<Variant> {
  const rules = async (variant: Variant): Promise<string> => {
    try {
      return await new IptablesClient(processes, clock, variant, 4).save(false);
    } catch (error) {
      if (error instanceof KernelError) return "";
      throw error;
    }
  };
  const [nft, legacy] = [await rules("nft"), await rules("legacy")];
  const isHinted = (text: string): boolean => /^:KUBE-(IPTABLES-HINT|KUBELET-CANARY) /m.test(text);
  if (isHinted(nft) || isHinted(legacy)) return isHinted(nft) ? "nft" : "legacy";
  return countRules(legacy) > countRules(nft) ? "legacy" : "nft";
}

function countRules(text: string): number {
  return text.split("\n").filter((line) => line.startsWith("-A ")).length;
}

/** Upstream's own tables of nftables. */
const UPSTREAM_TABLES: readonly TableId[] = [
  { family: "ip", name: "calico" },
  { family: "ip6", name: "calico" },
];

/** Takes out what upstream's daemon left in nftables. Throws KernelError. */
export function removeUpstreamTables(sys: Sys): void {
  for (const table of UPSTREAM_TABLES) {
    const client = new NftablesClient(sys, table);
    try {
      finishSteps(removingTable(client));
    } finally {
      client.close();
    }
  }
}
