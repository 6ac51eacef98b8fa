/**
 * kept-flows: the established flows of the kernel's connection tracking as flows of the path, so that they go on when the path begins to judge them:
 * when the node changes to it, and when its first host endpoint comes.
 */
import { ConntrackTable, type EntryView, AddressIndex } from "../../kernel/conntrack.ts";
import { EAGAIN, KernelError } from "../../kernel/errno.ts";
import { loadProgram, runProgram } from "../../kernel/bpf/program.ts";
import type { MapEntry } from "../../kernel/bpf/map.ts";
import type { Sys } from "../../host/sys.ts";
import { addrBytes } from "../../net/addr.ts";
import { ICMP, ICMPV6, TCP } from "../../net/protocol.ts";
import type { Program } from "../../program/program.ts";
import type { DataplaneMaps } from "./maps.ts";

const ANSWERED = 1;
const CLOSING = 2;
/** enum tcp_conntrack. */
const TCP_ESTABLISHED = 3;
const TCP_LAST_ACK = 6;

/** `r0 = ktime / 1,000,000,000; exit`: seconds of the clock by which the path measures the age of flows. */
const SECONDS = Uint8Array.from(
  [
    [0x85, 0, 0, 0, 5, 0, 0, 0],
    [0xb7, 1, 0, 0, 0x00, 0xca, 0x9a, 0x3b],
    [0x3f, 0x10, 0, 0, 0, 0, 0, 0],
    [0x95, 0, 0, 0, 0, 0, 0, 0],
  ].flat(),
);
/** The shortest frame that the kernel runs a program on. */
const FRAME_BYTES = 64;

export class KeptFlows {
  readonly #sys: Sys;
  readonly #table: ConntrackTable;

  /** In the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys) {
    this.#sys = sys;
    this.#table = new ConntrackTable(sys);
  }

  close(): void {
    this.#table.close();
  }

  /** Writes those of the program's workloads, or with host endpoints all. Throws KernelError; a kernel that tracks nothing has none. */
  *taking(maps: DataplaneMaps, { endpoints }: Program): Generator<undefined, void> {
    const values = endpoints.values();
    const hasHosts = [...endpoints.values()].some(({ kind }) => kind === "host");
    const own = new AddressIndex<true>();
    for (const { addresses } of values) for (const addr of addresses) own.set(addr, true);
    const seen = this.#seconds();
    let found: MapEntry[] = [];
    const take = (entry: EntryView): void => {
      const concerns = hasHosts || own.get(entry, entry.original.source) || own.get(entry, entry.reply.source);
      const flow = concerns === true ? flowOf(entry, seen) : undefined;
      if (flow !== undefined) found.push(flow);
    };
    try {
      for (const _ of this.#table.reading("this node", take)) {
        maps.writeAll(maps.connections, found);
        found = [];
        yield;
      }
      maps.writeAll(maps.connections, found);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno === EAGAIN) throw error;
    }
  }

  #seconds(): number {
    const fd = loadProgram(this.#sys, { name: "seconds", license: "GPL", instructions: SECONDS });
    try {
      return runProgram(this.#sys, fd, new Uint8Array(FRAME_BYTES)).result >>> 0;
    } finally {
      this.#sys.close(fd);
    }
  }
}

/** As a packet of the one that began it is when it leaves the node: the answer's tuple turned round. undefined: it is not established. */
function flowOf(entry: EntryView, seenSeconds: number): MapEntry | undefined {
  const { reply, family } = entry;
  const { protocol, tcpState } = { protocol: reply.protocol ?? 0, tcpState: entry.tcpState };
  if (!entry.isAnswered || protocol === ICMP || protocol === ICMPV6) return undefined;
  if (protocol === TCP && (tcpState < TCP_ESTABLISHED || tcpState > TCP_LAST_ACK)) return undefined;
  const key = new Uint8Array(40);
  const view = new DataView(key.buffer);
  key[0] = family;
  key[1] = protocol;
  view.setUint16(4, reply.destinationPort ?? 0, true);
  view.setUint16(6, reply.sourcePort ?? 0, true);
  key.set(addrBytes(entry.addr(reply.destination)), 8);
  key.set(addrBytes(entry.addr(reply.source)), 24);
  const value = new DataView(new ArrayBuffer(16));
  value.setBigUint64(0, BigInt(seenSeconds) * 1_000_000_000n, true);
  value.setUint32(8, ANSWERED | (protocol === TCP && tcpState > TCP_ESTABLISHED ? CLOSING : 0), true);
  return { key, value: new Uint8Array(value.buffer) };
}
