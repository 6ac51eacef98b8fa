/**
 * past: the way past the host stack (bpf/past.h): when it is open, between which interfaces, and what the kernel's connection tracking has to know for
 * that, which does not see those packets.
 *
 * While it is open, the kernel does not check windows of TCP: a later packet that comes by the stack would be invalid, and a rule of others could drop
 * it. Before the path stops deciding, the kernel's entries of the flows are made such that their packets are never invalid.
 */
import { Breath } from "../../host/breath.ts";
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import type { BpfMap, MapEntry } from "../../kernel/bpf/map.ts";
import { countConnections } from "../../kernel/conntrack.ts";
import { KernelError } from "../../kernel/errno.ts";
import { type EstablishedFlow, KeptConnections } from "../../kernel/kept-connections.ts";
import { readSysctl, writeSysctl } from "../../kernel/sysctl.ts";
import { nanosecondsSinceBoot } from "../../kernel/uptime.ts";
import { bytesToHex } from "../../lib/bytes.ts";
import type { Report } from "../../lib/report.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import { familyOf } from "../../net/addr.ts";
import { TCP, UDP } from "../../net/protocol.ts";
import type { PlannedChange, RowStatus, Steps } from "../driver.ts";
import { decodeConnection, decodeConnectionKey, stateOf, wentPast } from "./connections.ts";
import { ZERO } from "./image.ts";
import { decodeState, type DeviceValue, encodeDevice, encodeState, type StateValue, words, wordsOf } from "./layout.ts";
import { type DataplaneMaps, pinnedFlows } from "./maps.ts";

/** Settings of the kernel that are 1 while the way is open, and by which bit it is remembered that one was before. The second came with Linux 5.14. */
const SETTINGS = [
  { name: "net/netfilter/nf_conntrack_tcp_be_liberal", bit: 2 },
  { name: "net/netfilter/nf_conntrack_tcp_ignore_invalid_rst", bit: 4 },
] as const;
/** They are remembered. */
const REMEMBERED = 1;

/** How often the kernel is told that connections live. */
const KEEP_MS = 60_000;
/** Flows in one step. */
const IN_STEP = 512;

export type Devices = ReadonlyMap<number, DeviceValue>;

export interface HostStackWayOptions {
  readonly sys: Sys;
  readonly clock: Clock;
  readonly report: Report;
}

/** What of the maps it needs. */
export type WayMaps = Pick<DataplaneMaps, "state" | "connections" | "devices" | "waiting">;

export class HostStackWay {
  readonly #options: HostStackWayOptions;
  /** In the map, as hex, by index of the interface; undefined: not read yet. */
  #have: Map<number, string> | undefined;
  #fault: RowStatus | undefined;
  /** Requests that wrote. */
  writes = 0;

  constructor(options: HostStackWayOptions) {
    this.#options = options;
  }

  /** Throws KernelError. */
  read({ devices }: Pick<WayMaps, "devices">): void {
    this.#have = new Map(devices.entries().map(({ key, value }) => [wordsOf(key)[0] ?? 0, bytesToHex(value)]));
  }

  /** Why it is closed although it is wanted open. */
  get faults(): readonly RowStatus[] {
    return this.#fault === undefined ? [] : [this.#fault];
  }

  hasDevices(wanted: Devices): boolean {
    const have = this.#have;
    return have?.size === wanted.size && [...wanted].every(([index, device]) => have.get(index) === hexOf(device));
  }

  /** Throws KernelError. */
  putDevices({ devices }: Pick<WayMaps, "devices">, wanted: Devices): void {
    if (this.#have === undefined || this.hasDevices(wanted)) return;
    const have = this.#have;
    this.#have = undefined;
    const gone = [...have.keys()].filter((index) => !wanted.has(index));
    const changed = [...wanted].filter(([index, device]) => have.get(index) !== hexOf(device));
    for (const index of gone) devices.delete(words(index));
    devices.updateAll(changed.map(([index, device]) => ({ key: words(index), value: encodeDevice(device) })));
    this.writes++;
    this.#have = new Map([...wanted].map(([index, device]) => [index, hexOf(device)]));
  }

  /** What `settling` would change. Throws KernelError. */
  plan(state: StateValue, isWanted: boolean, wanted: Devices): PlannedChange[] {
    const isAsWanted = state.goesPast === isWanted && (!isWanted || this.#isSet());
    return [
      ...(this.hasDevices(wanted) ? [] : ["interfaces for the way past the host stack"]),
      ...(isAsWanted || this.#fault !== undefined ? [] : [`way past the host stack: ${isWanted ? "open" : "closed"}`]),
    ].map((what) => ({ sign: "~", what, lines: [] }));
  }

  #isSet(): boolean {
    return SETTINGS.every(({ name }) => (readSysctl(this.#options.sys, name) ?? "1") === "1");
  }

  /** Opens it, or closes it; the state as it is then. A kernel that lets its settings not be changed is told as a fault. Throws KernelError. */
  *settling(maps: WayMaps, state: StateValue, isWanted: boolean): Generator<Promise<void> | undefined, StateValue> {
    if (!isWanted) {
      this.#fault = undefined;
      return state.goesPast || state.settings !== 0 ? yield* this.#closing(maps, state) : state;
    }
    if (state.goesPast && this.#isSet()) return state;
    try {
      const remembered = { ...state, settings: state.settings === 0 ? this.#remember() : state.settings };
      this.#write(maps, remembered);
      for (const { name } of SETTINGS)
        if ((readSysctl(this.#options.sys, name) ?? "1") !== "1") writeSysctl(this.#options.sys, name, "1");
      this.#fault = undefined;
      return this.#write(maps, { ...remembered, goesPast: true });
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#tellFault(error);
      const now = decodeState(maps.state.lookup(ZERO) ?? encodeState(state));
      return now.goesPast ? yield* this.#closing(maps, now) : now;
    }
  }

  #tellFault({ message, errno }: KernelError): void {
    const { clock, report } = this.#options;
    if (this.#fault === undefined)
      report("packets cannot go past the host stack: they go through it", { error: message });
    const since = this.#fault?.since ?? formatTimestamp(clock.wallMs());
    const attempts = (this.#fault?.attempts ?? 0) + 1;
    const row = "way past the host stack";
    this.#fault = { row, object: undefined, state: "failed", error: message, errno, since, attempts };
  }

  #remember(): number {
    return SETTINGS.reduce(
      (bits, { name, bit }) => bits | (readSysctl(this.#options.sys, name) === "1" ? bit : 0),
      REMEMBERED,
    );
  }

  #write({ state }: Pick<WayMaps, "state">, value: StateValue): StateValue {
    state.update(ZERO, encodeState(value));
    this.writes++;
    return value;
  }

  *#closing(maps: WayMaps, state: StateValue): Generator<Promise<void> | undefined, StateValue> {
    yield* closingWay(this.#options.sys, maps, () => maps.waiting());
    this.writes++;
    return { ...state, goesPast: false, settings: 0 };
  }

  /** Tells the kernel every minute that connections live whose packets it does not see, until the signal aborts. */
  async keeping(signal: AbortSignal, maps: () => WayMaps | undefined): Promise<void> {
    const { clock, report } = this.#options;
    let failure: string | undefined;
    while (!signal.aborted) {
      await clock.sleep(KEEP_MS, signal);
      if (signal.aborted) return;
      try {
        await this.keep(maps());
        failure = undefined;
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        if (failure !== error.message)
          report("cannot tell the kernel which connections live: will retry", { error: error.message });
        failure = error.message;
      }
    }
  }

  /** Once. Rejects with KernelError. */
  async keep(maps: WayMaps | undefined): Promise<void> {
    const { sys, clock } = this.#options;
    if (maps === undefined || (countConnections(sys) ?? 0) === 0) return;
    const kept = new KeptConnections(sys);
    const breath = new Breath(clock);
    try {
      for (const batch of maps.connections.batches(IN_STEP)) {
        const now = nanosecondsSinceBoot(sys);
        const past = batch.filter(({ key, value }) => key[1] === TCP && wentPast(value, now, KEEP_MS / 1000));
        kept.keep(
          past.flatMap((entry) => establishedOf(entry, now) ?? []),
          { creates: false },
        );
        await breath.after(1);
      }
    } finally {
      kept.close();
    }
  }
}

function hexOf(device: DeviceValue): string {
  return bytesToHex(encodeDevice(device));
}

/**
 * Closes the way, makes the kernel know all flows, and restores its settings. `waiting`: until no packet is under way that was looked up before. Throws
 * KernelError.
 */
function* closingWay(
  sys: Sys,
  { state, connections }: Pick<WayMaps, "state" | "connections">,
  waiting: () => Steps | undefined,
): Steps {
  const before = decodeState(state.lookup(ZERO) ?? new Uint8Array(16));
  if (!before.goesPast && before.settings === 0) return;
  state.update(ZERO, encodeState({ ...before, goesPast: false }));
  yield* waiting() ?? [];
  if (countConnections(sys) !== undefined) yield* handingOver(sys, connections);
  if ((before.settings & REMEMBERED) !== 0)
    for (const { name, bit } of SETTINGS)
      if ((before.settings & bit) === 0 && readSysctl(sys, name) === "1") writeSysctl(sys, name, "0");
  state.update(ZERO, encodeState({ ...before, goesPast: false, settings: 0 }));
}

/** The same with what is pinned in the directory, if anything is: also of a driver that never read. Throws KernelError. */
export function* leavingWay(sys: Sys, pins: string, waiting: () => Steps | undefined): Steps {
  const pinned = pinnedFlows(sys, pins);
  if (pinned === undefined) return;
  try {
    yield* closingWay(sys, pinned, waiting);
  } finally {
    pinned.state.close();
    pinned.connections.close();
  }
}

function* handingOver(sys: Sys, connections: BpfMap): Steps {
  const kept = new KeptConnections(sys);
  try {
    for (const batch of connections.batches(IN_STEP)) {
      const now = nanosecondsSinceBoot(sys);
      kept.keep(
        batch.flatMap((entry) => establishedOf(entry, now) ?? []),
        { creates: true },
      );
      yield undefined;
    }
  } finally {
    kept.close();
  }
}

/** undefined: its packets do not go past the host stack, for the flow is not in its middle, or is translated, or the node's own. */
function establishedOf(entry: MapEntry, now: bigint): EstablishedFlow | undefined {
  const key = decodeConnectionKey(entry.key);
  if (key.protocol !== TCP && key.protocol !== UDP) return undefined;
  const connection = decodeConnection(entry.value, familyOf(key.source));
  const { original, ends, isAlias } = connection;
  const isPlain =
    original.source === key.source &&
    original.destination === key.destination &&
    original.sourcePort === key.sourcePort &&
    original.destinationPort === key.destinationPort;
  if (!isPlain || isAlias || ends.some(({ kind }) => kind === "node")) return undefined;
  return stateOf(key, connection, now) === "answered" ? key : undefined;
}
