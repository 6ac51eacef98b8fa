/** maps: the maps and programs of the data path, pinned so that they outlive the daemon, opened again by the next one. */
import type { Sys } from "../../host/sys.ts";
import { BpfMap, type MapEntry, pin } from "../../kernel/bpf/map.ts";
import { BpfRing } from "../../kernel/bpf/ring.ts";
import { callsAtOnce, type LongCalls } from "../../kernel/bpf/long-calls.ts";
import { type LoadedObject, loadingObject } from "../../kernel/bpf/object.ts";
import { openProgram, programId } from "../../kernel/bpf/program.ts";
import { invariant } from "../../lib/bug.ts";
import { fingerprint } from "../../lib/fingerprint.ts";
import type { Prefix } from "../../net/prefix.ts";
import type { Steps } from "../driver.ts";
import {
  COUNT_BYTES,
  encodeEndpoint,
  encodeNetKey,
  type EndpointValue,
  OBJECT_KINDS,
  type ObjectKind,
  RECORD_BYTES,
  textBytes,
  textParts,
  words,
} from "./layout.ts";

/** Of the programs in bpf/path.c. */
export const PROGRAMS = ["from_workload", "to_workload", "from_network", "to_network", "to_node"] as const;
export type ProgramName = (typeof PROGRAMS)[number];

const SHARED = [
  "state",
  "records",
  "counters",
  "drops",
  "endpoints",
  "addresses",
  "members",
  "nets",
  "failsafes",
  "connections",
  "fragments",
  "origins",
  "gate",
  "devices",
  "past",
  "events",
  "missed",
  "objects",
  "texts",
] as const;
type MapName = (typeof SHARED)[number];

/** Raised when maps of an older layout must not be used. */
const LAYOUT = 4;

/** Names under which the object is pinned. */
export function pinNames(object: Uint8Array): ReadonlySet<string> {
  const digest = fingerprint(object);
  return new Set([...SHARED.map((name) => mapPin(name)), ...PROGRAMS.map((name) => programPin(digest, name))]);
}

/** Whether all programs of the object are pinned in the directory. Throws KernelError. */
export function hasPinnedPrograms({ sys, object, directory }: MapsOptions): boolean {
  const digest = fingerprint(object);
  return PROGRAMS.every((name) => {
    const fd = openProgram(sys, `${directory}/${programPin(digest, name)}`);
    if (fd !== undefined) sys.close(fd);
    return fd !== undefined;
  });
}

/** Why what is pinned cannot be looked at; `pinned`: names in the directory. undefined: it can. */
export function whyNoMaps(pinned: readonly string[]): string | undefined {
  const layouts = new Set(pinned.flatMap((name) => /^calico-(\d+)-state$/.exec(name)?.[1] ?? []));
  if (layouts.size === 0)
    return "no maps of the eBPF dataplane are pinned there: it does not run on this node (calico node --status names the one that does)";
  if (!layouts.has(String(LAYOUT)))
    return `the maps there have layout ${[...layouts].join(", ")}, and this version reads layout ${LAYOUT}: use the calico of the daemon that made them`;
  const missing = SHARED.filter((name) => !pinned.includes(mapPin(name)));
  if (missing.length === 0) return undefined;
  return `the maps ${missing.join(", ")} are not pinned: a daemon is making them, or was ended while it did; start it`;
}

/** Those of this layout that are pinned in the directory; undefined: not all of them are. Throws KernelError. */
export function pinnedFlows(
  sys: Sys,
  directory: string,
): { readonly state: BpfMap; readonly connections: BpfMap } | undefined {
  const state = BpfMap.pinnedAt(sys, `${directory}/${mapPin("state")}`);
  if (state === undefined) return undefined;
  const connections = BpfMap.pinnedAt(sys, `${directory}/${mapPin("connections")}`);
  if (connections !== undefined) return { state, connections };
  state.close();
  return undefined;
}

function isShared(name: string): boolean {
  return SHARED.some((each) => each === name);
}

function mapPin(name: string): string {
  return `calico-${LAYOUT}-${name}`;
}

function programPin(digest: string, name: string): string {
  return `calico-${digest}-${name}`;
}

export interface MapsOptions {
  readonly sys: Sys;
  /** bpf/path.o. */
  readonly object: Uint8Array;
  /** Of a bpffs. */
  readonly directory: string;
  /** Absent: they are made at once. */
  readonly calls?: LongCalls | undefined;
  /** What is not pinned is made for this process alone. */
  readonly onlyLooks?: boolean;
}

/** What is open, and what of it came from the object because it was not pinned yet. */
interface Opened {
  readonly maps: ReadonlyMap<string, BpfMap>;
  readonly pinned: readonly BpfMap[];
  readonly programs: ReadonlyMap<string, number>;
  readonly object: LoadedObject | undefined;
}

export class DataplaneMaps {
  readonly programs: ReadonlyMap<ProgramName, { readonly fd: number; readonly id: number }>;
  /** By which a program that came from another object is known. */
  readonly digest: string;
  readonly #sys: Sys;
  readonly #calls: LongCalls;
  readonly #directory: string;
  readonly #opened: Opened;
  /** Mapped when it is first read. */
  #events: BpfRing | undefined;
  readonly #outer: BpfMap;
  readonly #inner: BpfMap;
  /** Calls that wrote. */
  writes = 0;

  private constructor(
    { sys, object, directory, calls = callsAtOnce(sys), onlyLooks = false }: MapsOptions,
    opened: Opened,
  ) {
    this.#sys = sys;
    this.#calls = calls;
    this.#directory = directory;
    this.#opened = opened;
    this.digest = fingerprint(object);
    if (opened.object !== undefined && !onlyLooks) this.writes++;
    this.programs = new Map(
      PROGRAMS.map((name) => {
        const fd = opened.programs.get(name);
        invariant(fd !== undefined, `the object has no program ${name}`);
        return [name, { fd, id: programId(sys, fd) }];
      }),
    );
    const barrier = { name: "barrier", keyBytes: 4, valueBytes: 4, maxEntries: 1, flags: 0 };
    this.#inner = BpfMap.create(sys, { ...barrier, type: "array" });
    this.#outer = BpfMap.create(sys, { ...barrier, type: "array-of-maps" }, { inner: this.#inner });
  }

  /** Opens what is pinned in the directory, and makes and pins what is not, a program at a time. Throws KernelError. */
  static *opening(options: MapsOptions): Generator<Promise<void> | undefined, DataplaneMaps> {
    const { sys, object, directory, calls = callsAtOnce(sys), onlyLooks = false } = options;
    const digest = fingerprint(object);
    const mapPath = (name: string): string => `${directory}/${mapPin(name)}`;
    const programPath = (name: string): string => `${directory}/${programPin(digest, name)}`;
    const maps = new Map<string, BpfMap>();
    for (const name of SHARED) {
      const map = BpfMap.pinnedAt(sys, mapPath(name));
      if (map !== undefined) maps.set(name, map);
    }
    const programs = new Map<string, number>();
    for (const name of PROGRAMS) {
      const fd = openProgram(sys, programPath(name));
      if (fd !== undefined) programs.set(name, fd);
    }
    const pinned = [...maps.values()];
    if (maps.size === SHARED.length && programs.size === PROGRAMS.length)
      return new DataplaneMaps(options, { maps, pinned, programs, object: undefined });
    for (const fd of programs.values()) sys.close(fd);
    const loaded = yield* loadingObject(sys, object, calls, maps);
    if (!onlyLooks) {
      for (const [name, map] of loaded.maps) if (isShared(name) && !maps.has(name)) map.pin(mapPath(name));
      for (const [name, fd] of loaded.programs) if (!programs.has(name)) pin(sys, fd, programPath(name));
    }
    return new DataplaneMaps(options, { maps: loaded.maps, pinned, programs: loaded.programs, object: loaded });
  }

  close(): void {
    this.#events?.close();
    this.#events = undefined;
    const { pinned, object } = this.#opened;
    for (const map of [...pinned, this.#outer, this.#inner]) map.close();
    if (object === undefined) for (const { fd } of this.programs.values()) this.#sys.close(fd);
    else object.close();
  }

  /** Where the program is pinned. */
  pathOf(name: ProgramName): string {
    return `${this.#directory}/${programPin(this.digest, name)}`;
  }

  #map(name: MapName): BpfMap {
    const map = this.#opened.maps.get(name);
    invariant(map !== undefined, `the object has no map ${name}`);
    return map;
  }

  /** All that are pinned. */
  get all(): readonly BpfMap[] {
    return SHARED.map((name) => this.#map(name));
  }

  get state(): BpfMap {
    return this.#map("state");
  }
  get records(): BpfMap {
    return this.#map("records");
  }
  get counters(): BpfMap {
    return this.#map("counters");
  }
  get drops(): BpfMap {
    return this.#map("drops");
  }
  get endpoints(): BpfMap {
    return this.#map("endpoints");
  }
  get addresses(): BpfMap {
    return this.#map("addresses");
  }
  get members(): BpfMap {
    return this.#map("members");
  }
  get nets(): BpfMap {
    return this.#map("nets");
  }
  get failsafes(): BpfMap {
    return this.#map("failsafes");
  }
  get connections(): BpfMap {
    return this.#map("connections");
  }
  get fragments(): BpfMap {
    return this.#map("fragments");
  }
  get gate(): BpfMap {
    return this.#map("gate");
  }
  get devices(): BpfMap {
    return this.#map("devices");
  }
  get past(): BpfMap {
    return this.#map("past");
  }
  /** What the path tells. Throws KernelError. */
  get events(): BpfRing {
    return (this.#events ??= new BpfRing(this.#sys, this.#map("events")));
  }
  /** Another descriptor of it, for who waits until there is something; undefined: it is not pinned. Throws KernelError. */
  openEvents(): number | undefined {
    return BpfMap.pinnedAt(this.#sys, `${this.#directory}/${mapPin("events")}`)?.fd;
  }
  get missed(): BpfMap {
    return this.#map("missed");
  }
  get objects(): BpfMap {
    return this.#map("objects");
  }
  get texts(): BpfMap {
    return this.#map("texts");
  }

  /** Steps that end when every packet has been judged that is being judged now: the kernel waits so whenever such a map changes. Throws KernelError. */
  waiting(): Steps {
    return this.#outer.updating(words(0), words(this.#inner.fd), this.#calls);
  }

  /** Waiting holds nobody up. */
  get waitsBeside(): boolean {
    return this.#calls.isBeside;
  }

  writeAll(map: BpfMap, entries: readonly MapEntry[]): void {
    if (entries.length === 0) return;
    this.writes++;
    map.updateAll(entries);
  }

  removeAll(map: BpfMap, keys: readonly Uint8Array[]): void {
    if (keys.length === 0) return;
    this.writes++;
    // LPM tries and Linux 5.10's hash maps without preallocation are deleted from one by one alike.
    for (const key of keys) map.delete(key);
  }

  removeNet(set: number, net: Prefix): void {
    this.removeAll(this.nets, [encodeNetKey(set, net)]);
  }

  writeEndpoint(index: number, value: EndpointValue): void {
    this.writeAll(this.endpoints, [{ key: words(index), value: encodeEndpoint(value) }]);
  }

  /** The records and counters first: an object that is there is whole. */
  writeObject(kind: ObjectKind, number: number, text: string, count: number): void {
    const of = OBJECT_KINDS[kind];
    this.writeAll(
      this.texts,
      textParts(text).map((value, part) => ({ key: words(of, number, part), value })),
    );
    this.writeAll(this.objects, [{ key: words(of, number), value: words(count, textBytes(text)) }]);
  }

  writeRecords(start: number, records: Uint8Array): void {
    this.writes++;
    this.counters.updateValues(start, new Uint8Array((records.length / RECORD_BYTES) * COUNT_BYTES));
    this.records.updateValues(start, records);
  }

  removeObject(kind: ObjectKind, number: number, text: string): void {
    const of = OBJECT_KINDS[kind];
    this.removeAll(this.objects, [words(of, number)]);
    this.removeAll(
      this.texts,
      textParts(text).map((_, part) => words(of, number, part)),
    );
  }
}
