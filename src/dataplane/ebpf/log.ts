/**
 * PacketLog: what the eBPF path tells of packets: rules that log, and first packets that a stage denies, each with what decided.
 *
 * The path puts events into a ring and never waits: what finds no room is counted, as are denied packets beyond a hundred in a second and
 * processor. They are read when there are some, and then four times a second. Rules that log write to the kernel's log, with the prefix and the words of the other dataplanes.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import type { Watcher } from "../../host/watcher.ts";
import { checkResult, KernelError } from "../../kernel/errno.ts";
import { RouteClient } from "../../kernel/route/client.ts";
import { nanosecondsSinceBoot } from "../../kernel/uptime.ts";
import type { Report } from "../../lib/report.ts";
import { keyOfText, type KeyText } from "../../model/key.ts";
import { type Kind, KINDS } from "../../model/kind.ts";
import type { Direction } from "../../model/policy.ts";
import { addrFromBytes } from "../../net/addr.ts";
import type { FlowPacket } from "../../net/flow.ts";
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP, UDPLITE } from "../../net/protocol.ts";
import type { RuleId } from "../../program/policy.ts";
import { logPrefixOf } from "../nftables/policy-chains.ts";
import type { Block, Image } from "./image.ts";
import { decodeRecords, HAS_ICMP, HAS_PORTS, RECORD_KINDS, viewOf, wordsOf } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";
import { ZERO } from "./image.ts";

/** What decided: a rule of a policy, or the end of a tier or stage. */
export type Decider =
  | { readonly is: "rule"; readonly rule: RuleId; readonly tier: string }
  | { readonly is: "tier-end"; readonly tier: string; readonly direction: Direction }
  | { readonly is: "end"; readonly direction: Direction };

export interface PacketEvent {
  readonly kind: "log" | "denied";
  /** Nanoseconds since boot. */
  readonly time: bigint;
  /** undefined: it has changed since. */
  readonly by: Decider | undefined;
  /** As policy saw it. */
  readonly packet: FlowPacket;
  /** Indexes of the interfaces that it came from and would leave by; 0: the node itself. */
  readonly from: number;
  readonly to: number;
}

export interface PacketLogOptions {
  readonly sys: Sys;
  /** undefined: they are not open yet. */
  readonly maps: () => Pick<DataplaneMaps, "events" | "openEvents" | "missed"> | undefined;
  readonly watcher: Pick<Watcher, "awaitReadable">;
  /** What the maps hold; undefined: that is not known at the moment. */
  readonly image: () => Image | undefined;
  readonly logPrefix: () => string;
  readonly clock: Clock;
  readonly report: Report;
  /** Is told of denied packets; `now`: nanoseconds since boot. */
  readonly denied: (events: readonly PacketEvent[], now: bigint) => void;
}

const EVENT_LOG = 1;
/** In one call: more than the ring holds. */
const MOST = 4096;
const INTERVAL_MS = 250;
/** Passes that find nothing, after which it waits: in the second of a denied packet others may be missed without an event. */
const QUIET_PASSES = 5;
const KERNEL_LOG = "/dev/kmsg";
const O_WRONLY = 1;
/** The kernel passes over more from one opening. */
const LINES = 10;
const WARNING = "<4>";

/** Takes what is in the ring. Throws KernelError. */
export function takeEvents(maps: Pick<DataplaneMaps, "events">, image: Image | undefined): PacketEvent[] {
  const events: PacketEvent[] = [];
  // Most of the time nothing has happened, and there are thousands.
  let blocks: readonly Block[] | undefined;
  for (let bytes = maps.events.take(); bytes !== undefined; bytes = maps.events.take()) {
    blocks ??= [...(image?.blocks.values() ?? [])].sort((a, b) => a.start - b.start);
    events.push(decodeEvent(bytes, blocks));
    if (events.length === MOST) break;
  }
  return events;
}

/** How many events found no room, since the maps were made. Throws KernelError. */
export function missedEvents(maps: Pick<DataplaneMaps, "missed">): bigint {
  return viewOf(maps.missed.lookup(ZERO) ?? new Uint8Array(8)).getBigUint64(0, true);
}

/** struct event of bpf/layout.h. */
function decodeEvent(bytes: Uint8Array, blocks: readonly Block[]): PacketEvent {
  const view = viewOf(bytes);
  const [record = 0, generation = 0, from = 0, to = 0] = wordsOf(bytes.subarray(8, 24));
  const isOld = view.getUint8(25) === 4;
  const shape = view.getUint16(34, true);
  const hasPorts = (shape & HAS_PORTS) !== 0;
  const port = (at: number): number | undefined => (hasPorts ? view.getUint16(at, true) : undefined);
  const icmp = (shape & HAS_ICMP) === 0 ? {} : { icmp: { type: view.getUint8(32), code: view.getUint8(33) } };
  return {
    kind: view.getUint8(24) === EVENT_LOG ? "log" : "denied",
    time: view.getBigUint64(0, true),
    by: deciderAt(record, generation, blocks),
    packet: {
      source: addrFromBytes(bytes.subarray(40, isOld ? 44 : 56)),
      destination: addrFromBytes(bytes.subarray(56, isOld ? 60 : 72)),
      protocol: view.getUint8(26) as Protocol,
      sourcePort: port(28),
      destinationPort: port(30),
      ...icmp,
    },
    from,
    to,
  };
}

function deciderAt(record: number, generation: number, blocks: readonly Block[]): Decider | undefined {
  let [low, high] = [0, blocks.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((blocks[middle]?.start ?? 0) <= record) low = middle + 1;
    else high = middle;
  }
  const block = blocks[low - 1];
  // Another one may have been there before.
  if (block === undefined || block.since > generation) return undefined;
  const records = decodeRecords(block.records);
  const at = record - block.start;
  const found = records[at];
  if (found === undefined) return undefined;
  const [first = "", second = ""] = block.text.split("\0");
  const direction = block.kind.endsWith("ingress") ? "ingress" : "egress";
  if (found.kind === RECORD_KINDS.end) return { is: "end", direction };
  if (found.kind === RECORD_KINDS["tier-end"]) {
    const before = records.slice(0, at).filter(({ kind }) => kind === RECORD_KINDS["tier-end"]).length;
    return { is: "tier-end", tier: block.text.split("\0")[before] ?? "", direction };
  }
  const kind = first.slice(0, first.indexOf("/"));
  if (found.kind !== RECORD_KINDS.action || !(kind in KINDS)) return undefined;
  const source = keyOfText(kind as Kind, first as KeyText);
  return { is: "rule", rule: { source, direction, index: found.target }, tier: second };
}

const PROTOCOL_WORDS: ReadonlyMap<Protocol, string> = new Map([
  [TCP, "TCP"],
  [UDP, "UDP"],
  [SCTP, "SCTP"],
  [UDPLITE, "UDPLITE"],
  [ICMP, "ICMP"],
  [ICMPV6, "ICMPv6"],
]);

/** The words in which nf_log tells of a packet. */
export function lineOf(event: PacketEvent, format: string, nameOf: (index: number) => string): string {
  const { packet, by, from, to } = event;
  const { source, destination, protocol, sourcePort, destinationPort, icmp } = packet;
  const policy = by?.is === "rule" ? { source: by.rule.source, tier: by.tier } : undefined;
  const ports = sourcePort === undefined ? [] : [`SPT=${sourcePort}`, `DPT=${destinationPort}`];
  const words = [
    `IN=${nameOf(from)}`,
    `OUT=${nameOf(to)}`,
    `SRC=${source}`,
    `DST=${destination}`,
    `PROTO=${PROTOCOL_WORDS.get(protocol) ?? protocol}`,
    ...ports,
    ...(icmp === undefined ? [] : [`TYPE=${icmp.type}`, `CODE=${icmp.code}`]),
  ];
  return `${policy === undefined ? "calico-packet: " : logPrefixOf(policy, format)}${words.join(" ")}`;
}

export class PacketLog {
  readonly #options: PacketLogOptions;
  #error: string | undefined;
  #missed: bigint | undefined;

  constructor(options: PacketLogOptions) {
    this.#options = options;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    for (let quiet = 0; !signal.aborted;) {
      quiet = this.pass() ? 0 : quiet + 1;
      await this.#options.clock.sleep(INTERVAL_MS, signal);
      if (quiet >= QUIET_PASSES && !signal.aborted) await this.#readable(signal);
    }
  }

  /** Until there is an event, or none can be waited for. */
  async #readable(signal: AbortSignal): Promise<void> {
    const fd = this.#openEvents();
    if (fd === undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const watch = this.#options.watcher.awaitReadable(fd, resolve);
    const abort = (): void => (watch.close(), resolve());
    signal.addEventListener("abort", abort, { once: true });
    await promise;
    signal.removeEventListener("abort", abort);
  }

  #openEvents(): number | undefined {
    try {
      return this.#options.maps()?.openEvents();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      // It goes on as if there always were some.
      return undefined;
    }
  }

  /** Takes what there is, and writes it. A refusal is reported once. False: nothing has happened. */
  pass(): boolean {
    const maps = this.#options.maps();
    if (maps === undefined) return true;
    try {
      const events = takeEvents(maps, this.#options.image());
      this.#write(events);
      const hasMissed = this.#countMissed(maps);
      this.#error = undefined;
      return events.length > 0 || hasMissed;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (this.#error !== error.message)
        this.#options.report("cannot log packets: will retry", { error: error.message });
      this.#error = error.message;
      return true;
    }
  }

  /** False: there are no more than before. */
  #countMissed(maps: Pick<DataplaneMaps, "missed">): boolean {
    const missed = missedEvents(maps);
    const hasMissed = this.#missed !== undefined && missed > this.#missed;
    if (hasMissed)
      this.#options.report("some logged or denied packets are not told of: there were too many", {
        packets: Number(missed - (this.#missed ?? 0n)),
      });
    this.#missed = missed;
    return hasMissed;
  }

  #write(events: readonly PacketEvent[]): void {
    const { sys, logPrefix } = this.#options;
    const denied = events.filter(({ kind }) => kind === "denied");
    if (denied.length > 0) this.#options.denied(denied, nanosecondsSinceBoot(sys));
    const logged = events.filter(({ kind }) => kind === "log");
    if (logged.length === 0) return;
    const routes = new RouteClient(sys);
    const names = new Map<number, string>(routes.links().map(({ index, name }) => [index, name]));
    routes.close();
    const format = logPrefix();
    const lines = logged.map((event) => lineOf(event, format, (index) => names.get(index) ?? ""));
    for (let i = 0; i < lines.length; i += LINES) writeKernelLog(sys, lines.slice(i, i + LINES));
  }
}

function writeKernelLog(sys: Sys, lines: readonly string[]): void {
  const fd = checkResult("open", KERNEL_LOG, sys.open(KERNEL_LOG, O_WRONLY));
  try {
    for (const line of lines)
      checkResult("write to", KERNEL_LOG, sys.write(fd, new TextEncoder().encode(`${WARNING}${line}\n`)));
  } finally {
    sys.close(fd);
  }
}
