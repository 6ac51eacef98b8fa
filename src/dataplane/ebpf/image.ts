/**
 * image: what the maps hold: blocks of records, sets with their members, and workloads, each as of one generation.
 *
 * A block never changes: another version of a policy or stage is another block.
 */
import type { MapEntry } from "../../kernel/bpf/map.ts";
import { bytesToHex } from "../../lib/bytes.ts";
import type { Direction } from "../../model/policy.ts";
import type { Addr } from "../../net/addr.ts";
import { type Prefix, prefixRange } from "../../net/prefix.ts";
import type { AddrPort } from "../../program/policy.ts";
import type { DataplaneMaps } from "./maps.ts";
import {
  decodeAddressKey,
  decodeEndpoint,
  decodeLife,
  decodeState,
  type EndpointStages,
  decodeMemberKey,
  decodeNetKey,
  type Life,
  NO_STAGES,
  objectKindOf,
  RECORD_BYTES,
  type StateValue,
  partsOf,
  textOfParts,
  versionOfFailsafe,
  words,
  wordsOf,
} from "./layout.ts";

/** A staged one counts for staged policies, and decides nothing. */
export type BlockKind = `${"" | "staged-"}${"policy" | "stage"}-${Direction}`;

export interface Block {
  readonly kind: BlockKind;
  /** First record. */
  readonly start: number;
  readonly text: string;
  readonly records: Uint8Array;
  /** The generation from which it is known to be there. */
  readonly since: number;
}

/** `sources`: the source prefixes of a workload. */
export type SetType = "address" | "nets" | "address-port" | "sources";

export interface ImageSet {
  /** As the program calls it; of source prefixes the endpoint's. */
  readonly id: string;
  readonly type: SetType;
  readonly number: number;
  readonly members: Set<Addr | AddrPort>;
  readonly nets: ReadonlySet<Prefix>;
}

export interface ImageEndpoint {
  readonly text: string | undefined;
  readonly stages: EndpointStages;
  readonly addresses: Set<Addr>;
}

/** Blocks of records read in one step. */
const OBJECTS_IN_STEP = 256;

/** Of what an interrupted commit left: writes that make the maps hold exactly the image. */
export type Repair = () => void;

export interface Image {
  state: StateValue;
  /** Keys of the failsafe ports in force, as hex. */
  failsafes: ReadonlySet<string>;
  /** By content: an equal block is the same one. */
  readonly blocks: Map<string, Block>;
  readonly sets: Map<number, ImageSet>;
  /** By index of the interface. */
  readonly endpoints: Map<number, ImageEndpoint>;
  readonly repairs: Repair[];
}

export function contentOf(kind: BlockKind, text: string, records: Uint8Array): string {
  return `${kind}\0${text}\0${bytesToHex(records)}`;
}

/** The source prefixes of the endpoint, IPv4 first. */
export function sourcesOf({ sets }: Pick<Image, "sets">, { sources }: EndpointStages): readonly Prefix[] {
  const ranges = [...(sets.get(sources)?.nets ?? [])].map((net) => ({ net, ...prefixRange(net) }));
  ranges.sort((a, b) => a.family - b.family || (a.first < b.first ? -1 : 1));
  return ranges.map(({ net }) => net);
}

export function setText(id: string, type: SetType): string {
  return `${type}\0${id}`;
}

/** Reads all maps, some milliseconds at a time. Throws KernelError. */
export function* readingImage(maps: DataplaneMaps): Generator<undefined, Image> {
  const state = decodeState(maps.state.lookup(ZERO) ?? new Uint8Array(16));
  const { generation } = state;
  const repairs: Repair[] = [];
  const texts = yield* readTexts(maps);
  const blocks = new Map<string, Block>();
  const sets = new Map<number, ImageSet>();
  const names = new Map<number, string>();
  const nets = new Map<number, Set<Prefix>>();
  yield* visiting(maps.nets, ({ key }) => {
    const { set, net } = decodeNetKey(key);
    nets.set(set, (nets.get(set) ?? new Set()).add(net));
  });
  let count = 0;
  for (const { key, value } of yield* entriesOf(maps.objects)) {
    if (++count % OBJECTS_IN_STEP === 0) yield;
    const [kindNumber = 0, number = 0] = wordsOf(key);
    const [blockRecords = 0, length = 0] = wordsOf(value);
    const kind = objectKindOf(kindNumber);
    const parts = texts.get(`${kindNumber} ${number}`) ?? new Map<number, Uint8Array>();
    const text = textOfParts(parts, length);
    // What is left belongs to no object.
    for (let part = 0; part < partsOf(length); part++) parts.delete(part);
    if (kind === undefined || text === undefined) repairs.push(() => void maps.objects.delete(key));
    else if (kind === "endpoint") names.set(number, text);
    else if (kind === "set") {
      const [type, id = ""] = text.split("\0") as [SetType, string];
      sets.set(number, { id, type, number, members: new Set(), nets: nets.get(number) ?? new Set() });
    } else {
      const records = maps.records.values(number, blockRecords);
      const content = contentOf(kind, text, records);
      if (blocks.has(content)) repairs.push(() => void maps.objects.delete(key));
      else blocks.set(content, { kind, start: number, text, records, since: generation });
    }
  }
  for (const [id, parts] of texts) {
    const [kind = 0, number = 0] = id.split(" ").map(Number);
    for (const part of parts.keys()) repairs.push(() => void maps.texts.delete(words(kind, number, part)));
  }
  for (const [number, own] of nets)
    if (!sets.has(number)) repairs.push(() => void own.forEach((net) => maps.removeNet(number, net)));
  yield* visiting(maps.members, ({ key, value }) => {
    const { set, addr, port } = decodeMemberKey(key);
    const found = sets.get(set);
    if (found === undefined) repairs.push(() => void maps.members.delete(key));
    else if (lives(decodeLife(value), generation, repairs, maps.members, key))
      found.members.add(found.type === "address-port" ? port : addr);
  });
  const endpoints = new Map<number, ImageEndpoint>();
  for (const { key, value } of yield* entriesOf(maps.endpoints)) {
    const [index = 0] = wordsOf(key);
    const { since, before, after } = decodeEndpoint(value);
    const stages = generation >= since ? after : before;
    if (generation < since)
      repairs.push(() => maps.writeEndpoint(index, { since: 0, before: NO_STAGES, after: stages }));
    if (stages.kind === "none") repairs.push(() => void maps.endpoints.delete(key));
    else endpoints.set(index, { text: names.get(index), stages, addresses: new Set() });
  }
  yield* visiting(maps.addresses, ({ key, value }) => {
    const { interfaceIndex, addr } = decodeAddressKey(key);
    const found = endpoints.get(interfaceIndex);
    if (found === undefined) repairs.push(() => void maps.addresses.delete(key));
    else if (lives(decodeLife(value), generation, repairs, maps.addresses, key)) found.addresses.add(addr);
  });
  const failsafes = new Set<string>();
  for (const { key } of yield* entriesOf(maps.failsafes))
    if (versionOfFailsafe(key) === state.failsafes) failsafes.add(bytesToHex(key));
    else repairs.push(() => void maps.failsafes.delete(key));
  return { state, failsafes, blocks, sets, endpoints, repairs };
}

export const ZERO = new Uint8Array(4);

/** Elements read, and looked at, in one step. */
const ELEMENTS_IN_STEP = 1024;

function* visiting(map: DataplaneMaps["members"], visit: (entry: MapEntry) => void): Generator<undefined, void> {
  for (const batch of map.batches(ELEMENTS_IN_STEP)) {
    for (const entry of batch) visit(entry);
    yield;
  }
}

function* entriesOf(map: DataplaneMaps["members"]): Generator<undefined, MapEntry[]> {
  const found: MapEntry[] = [];
  yield* visiting(map, (entry) => void found.push(entry));
  return found;
}

function* readTexts(maps: DataplaneMaps): Generator<undefined, Map<string, Map<number, Uint8Array>>> {
  const texts = new Map<string, Map<number, Uint8Array>>();
  yield* visiting(maps.texts, ({ key, value }) => {
    const [kind = 0, number = 0, part = 0] = wordsOf(key);
    const id = `${kind} ${number}`;
    texts.set(id, (texts.get(id) ?? new Map<number, Uint8Array>()).set(part, value));
  });
  return texts;
}

/** Whether the element holds now; one that an interrupted commit would have added or removed later is repaired. */
function lives(
  { born, died }: Life,
  generation: number,
  repairs: Repair[],
  map: DataplaneMaps["members"],
  key: Uint8Array,
): boolean {
  const isAlive = generation >= born && (died === 0 || generation < died);
  if (!isAlive) repairs.push(() => void map.delete(key));
  else if (died !== 0) repairs.push(() => map.update(key, new Uint8Array(8)));
  return isAlive;
}

/** Free ranges of records, in order, as first and end; record 0 is none. */
export function freeRanges(image: Image, records: number): { from: number; readonly to: number }[] {
  const used = [...image.blocks.values()]
    .map(({ start, records: own }) => ({ start, end: start + own.length / RECORD_BYTES }))
    .sort((a, b) => a.start - b.start);
  const free: { from: number; to: number }[] = [];
  let at = 1;
  for (const { start, end } of [...used, { start: records, end: records }]) {
    if (start > at) free.push({ from: at, to: start });
    at = Math.max(at, end);
  }
  return free;
}
