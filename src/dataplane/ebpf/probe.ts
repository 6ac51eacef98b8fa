/** probe: whether the eBPF path can run here, by doing all that it takes: maps and programs are loaded and pinned, and before that a program is attached and detached. */
import type { Sys } from "../../host/sys.ts";
import { Attachments } from "../../kernel/bpf/attach.ts";
import { BpfMap } from "../../kernel/bpf/map.ts";
import { loadProgram } from "../../kernel/bpf/program.ts";
import { EPERM, KernelError } from "../../kernel/errno.ts";
import { RouteClient } from "../../kernel/route/client.ts";
import { PLACE } from "./interfaces.ts";
import { DataplaneMaps, hasPinnedPrograms, type MapsOptions } from "./maps.ts";

/** `r0 = TC_ACT_UNSPEC; exit`: nothing happens to a packet. */
const NOTHING = Uint8Array.from([0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0]);

/** Why not, in words; undefined: it can. Pins stay: they are those that the driver uses next. */
export function* probingEbpf(options: MapsOptions): Generator<Promise<void> | undefined, string | undefined> {
  try {
    tryMap(options.sys);
    // What is pinned came after that; and the kernel takes 10 ms and more to delete an interface.
    if (!hasPinnedPrograms(options)) tryAttaching(options.sys);
    yield undefined;
    const maps = yield* DataplaneMaps.opening(options);
    maps.close();
    return undefined;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const hint =
      error.errno === EPERM
        ? ": it takes CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN), and before Linux 5.11 CAP_SYS_RESOURCE, or an unlimited RLIMIT_MEMLOCK"
        : "";
    return `${error.message}${hint}`;
  }
}

const RLIMIT_MEMLOCK = 8;
const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/**
 * Before Linux 5.11 maps and programs count as locked memory, of which a service may have 64 KiB. Where that may not be changed, they are refused, and
 * the error says why.
 */
export function liftMemoryLimit(sys: Sys): void {
  sys.setLimit(RLIMIT_MEMLOCK, RLIM_INFINITY);
}

function tryMap(sys: Sys): void {
  const map = { name: "probe", type: "hash", keyBytes: 4, valueBytes: 4, maxEntries: 1, flags: 0 } as const;
  BpfMap.create(sys, map).close();
}

const PROBE = "bpf-probe";
const PEER = "bpf-probe-peer";
const MTU_BYTES = 1500;

/** At an interface that is made for it: a clsact more or less makes the kernel drop what an interface that is up sends. */
function tryAttaching(sys: Sys): void {
  const routes = new RouteClient(sys);
  const attachments = new Attachments(sys, PLACE);
  const program = loadProgram(sys, { name: "probe", license: "GPL", type: "tc", instructions: NOTHING });
  try {
    // One may be left of a process that was killed.
    remove(routes);
    const mac = "02:00:00:00:00:01";
    const peer = { peerName: PEER, peerMac: undefined, peerNamespaceFd: undefined };
    routes.createVeth({ name: PROBE, mac, mtuBytes: MTU_BYTES, up: false, ...peer });
    const link = routes.linkByName(PROBE);
    if (link !== undefined) attachments.attach(link.index, "ingress", program, "calico probe");
  } finally {
    sys.close(program);
    attachments.close();
    remove(routes);
    routes.close();
  }
}

function remove(routes: RouteClient): void {
  const link = routes.linkByName(PROBE);
  if (link !== undefined) routes.deleteLink(link.index);
}
