/** bpf: what the eBPF path's pinned maps hold (`calico node --bpf`), for people or as JSON, whether a daemon runs or not. */
import { parentOf } from "../lib/path.ts";
import { awaitSteps } from "../dataplane/driver.ts";
import { dropsOf, pastOf } from "../dataplane/ebpf/counters.ts";
import { dumpPath, interfaceNames, readImageAtOnce } from "../dataplane/ebpf/dump.ts";
import { dumpFlows } from "../dataplane/ebpf/dump-flows.ts";
import { fillOf } from "../dataplane/ebpf/fill.ts";
import { missedEvents } from "../dataplane/ebpf/log.ts";
import { DataplaneMaps, whyNoMaps } from "../dataplane/ebpf/maps.ts";
import { isBpfFs } from "../dataplane/ebpf/pins.ts";
import { FileError } from "../host/files.ts";
import type { Host } from "../host/host.ts";
import { EACCES, EPERM, KernelError } from "../kernel/errno.ts";
import {
  formatEndpoints,
  formatFlows,
  formatPathCounters,
  formatPolicies,
  formatSets,
  type PathCounters,
} from "./bpf-format.ts";

/** What can be looked at in the maps. */
export const BPF_SUBJECTS = ["conntrack", "policy", "sets", "endpoints", "counters"] as const;
export type BpfSubject = (typeof BPF_SUBJECTS)[number];

/** The maps cannot be read; the message says why and what to do. */
export class BpfError extends Error {
  override readonly name = "BpfError";
}

export interface BpfOptions {
  readonly host: Pick<Host, "sys" | "files" | "clock">;
  /** Directory of a bpffs. */
  readonly pins: string;
  /** bpf/path.o. */
  readonly object: () => Uint8Array;
}

/** With a line end. Rejects with BpfError. */
export async function dumpBpf(subject: BpfSubject, options: BpfOptions, asJson: boolean): Promise<string> {
  const { host, pins, object } = options;
  try {
    await checkPins(options);
    const of = { sys: host.sys, object: object(), directory: pins, onlyLooks: true };
    const maps = await awaitSteps(DataplaneMaps.opening(of));
    try {
      const [value, text] = await dump(subject, maps, host);
      return asJson ? `${JSON.stringify(value, null, 2)}\n` : text();
    } finally {
      maps.close();
    }
  } catch (error) {
    if (!(error instanceof KernelError || error instanceof FileError)) throw error;
    const isForbidden =
      error instanceof KernelError
        ? error.errno === EPERM || error.errno === EACCES
        : error.code === "EPERM" || error.code === "EACCES";
    throw new BpfError(
      isForbidden ? `${error.message}: run it as root, or with CAP_BPF and CAP_NET_ADMIN` : error.message,
    );
  }
}

async function checkPins({ host: { files }, pins }: BpfOptions): Promise<void> {
  if (!(await isBpfFs(files, pins))) {
    const parent = parentOf(pins);
    throw new BpfError(
      `no bpffs is mounted at ${parent}, so nothing can be pinned there: the eBPF dataplane does not run on this node, or this is a container without the host's ${parent}`,
    );
  }
  const why = whyNoMaps(await files.list(pins));
  if (why !== undefined) throw new BpfError(`${pins}: ${why}`);
}

async function dump(
  subject: BpfSubject,
  maps: DataplaneMaps,
  { sys, clock }: BpfOptions["host"],
): Promise<readonly [value: unknown, text: () => string]> {
  if (subject === "conntrack") {
    const flows = dumpFlows(sys, maps, interfaceNames(sys));
    return [{ flows }, () => formatFlows(flows)];
  }
  const { generation, policies, sets, endpoints } = dumpPath(sys, maps);
  switch (subject) {
    case "policy":
      return [{ generation, policies }, () => formatPolicies(policies)];
    case "sets":
      return [{ generation, sets }, () => formatSets(sets)];
    case "endpoints":
      return [{ generation, endpoints }, () => formatEndpoints(endpoints)];
    default: {
      const counters: PathCounters = {
        policies,
        endpoints,
        drops: dropsOf(maps.drops),
        past: pastOf(maps.past),
        maps: await fillOf(readImageAtOnce(maps), maps, clock),
        missed: Number(missedEvents(maps)),
      };
      return [{ generation, ...countersOnly(counters) }, () => formatPathCounters(counters)];
    }
  }
}

/** Without what the other subjects say. */
function countersOnly({ policies, endpoints, ...rest }: PathCounters): object {
  return {
    rules: policies.flatMap(({ policy, tier, direction, isStaged, rules }) =>
      rules.map(({ rule, action, packets, bytes }) => ({
        policy,
        tier,
        direction,
        isStaged,
        rule,
        action,
        packets,
        bytes,
      })),
    ),
    ends: endpoints.flatMap(({ interface: name, endpoint, stages }) =>
      stages.flatMap(({ hook, direction, isStaged, ends, sharedBy }) =>
        ends.map((end) => ({ interface: name, endpoint, hook, direction, isStaged, sharedBy, ...end })),
      ),
    ),
    ...rest,
  };
}
