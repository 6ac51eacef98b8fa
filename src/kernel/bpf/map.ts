/**
 * BpfMap: one map of the kernel: elements read, written and deleted, singly and many in a call.
 *
 * A map lives as long as a descriptor, a pin or a program holds it. Every refusal is a KernelError. Source: linux kernel/bpf/syscall.c.
 */
import type { Sys } from "../../host/sys.ts";
import { checkResult, EINVAL, ENOENT, KernelError } from "../errno.ts";
import {
  Attributes,
  BPF_MAP_CREATE,
  BPF_MAP_DELETE_BATCH,
  BPF_MAP_DELETE_ELEM,
  BPF_MAP_GET_NEXT_KEY,
  BPF_MAP_LOOKUP_BATCH,
  BPF_MAP_LOOKUP_ELEM,
  BPF_MAP_UPDATE_BATCH,
  BPF_MAP_UPDATE_ELEM,
  BPF_OBJ_GET,
  BPF_OBJ_GET_INFO_BY_FD,
  BPF_OBJ_PIN,
  joinBytes,
  textOf,
} from "./call.ts";
import type { LongCalls } from "./long-calls.ts";

/** enum bpf_map_type. */
export const MAP_TYPES = {
  hash: 1,
  array: 2,
  "program-array": 3,
  "per-cpu-array": 6,
  "lru-hash": 9,
  "lpm-trie": 11,
  "array-of-maps": 12,
  ring: 27,
} as const;
export type MapType = keyof typeof MAP_TYPES;

export function mapTypeOf(number: number): MapType | undefined {
  for (const [type, own] of Object.entries(MAP_TYPES)) if (own === number) return type as MapType;
  return undefined;
}

export const BPF_F_NO_PREALLOC = 1;

export interface MapDefinition {
  readonly name: string;
  readonly type: MapType;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
}

/** Ids of the types of key and value in a BTF object, for those who look at the map with other tools. */
export interface MapTypes {
  readonly btf: number;
  readonly key: number;
  readonly value: number;
}

export interface MapEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Elements in one call. */
const BATCH = 4096;
/** Room for the kernel's place in a map; of an LPM trie it is a key. */
const TOKEN_BYTES = 64;
const O_RDONLY = 0;
const FDINFO_BYTES = 4096;

export class BpfMap {
  readonly fd: number;
  readonly definition: MapDefinition;
  readonly #sys: Sys;

  private constructor(sys: Sys, fd: number, definition: MapDefinition) {
    this.#sys = sys;
    this.fd = fd;
    this.definition = definition;
  }

  /** `inner`: the map whose kind an array of maps holds. */
  static create(
    sys: Sys,
    definition: MapDefinition,
    { types, inner }: { readonly types?: MapTypes; readonly inner?: BpfMap } = {},
  ): BpfMap {
    const { name, type, keyBytes, valueBytes, maxEntries, flags } = definition;
    const attributes = new Attributes(72)
      .u32(0, MAP_TYPES[type])
      .u32(4, keyBytes)
      .u32(8, valueBytes)
      .u32(12, maxEntries)
      .u32(16, flags)
      .name(28, name);
    if (inner !== undefined) attributes.u32(20, inner.fd);
    if (types !== undefined) attributes.u32(48, types.btf).u32(52, types.key).u32(56, types.value);
    return new BpfMap(sys, checkResult("create map", name, attributes.call(sys, BPF_MAP_CREATE)), definition);
  }

  /** The map that is pinned there; undefined: none. */
  static pinnedAt(sys: Sys, path: string): BpfMap | undefined {
    const fd = new Attributes(24).text(0, path).call(sys, BPF_OBJ_GET);
    if (fd === -ENOENT) return undefined;
    checkResult("open pinned map", path, fd);
    const info = new Uint8Array(80);
    const query = new Attributes(16).u32(0, fd).u32(4, info.length).output(8, info);
    const result = query.call(sys, BPF_OBJ_GET_INFO_BY_FD);
    const view = new DataView(info.buffer);
    const type = mapTypeOf(view.getUint32(0, true));
    if (result < 0 || type === undefined) {
      sys.close(fd);
      throw new KernelError("open pinned map", path, result < 0 ? -result : EINVAL);
    }
    const [keyBytes, valueBytes, maxEntries, flags] = [8, 12, 16, 20].map((at) => view.getUint32(at, true)) as [
      number,
      number,
      number,
      number,
    ];
    return new BpfMap(sys, fd, { name: textOf(info.subarray(24, 40)), type, keyBytes, valueBytes, maxEntries, flags });
  }

  pin(path: string): void {
    pin(this.#sys, this.fd, path);
  }

  /**
   * Bytes of memory that the kernel has given it: since Linux 6.4 those in use, elements that come and go included; before, an estimate as if it were full.
   * Source: bpf_map_show_fdinfo, kernel/bpf/syscall.c. Throws KernelError.
   */
  memoryBytes(): number {
    const path = `/proc/self/fdinfo/${this.fd}`;
    const fd = checkResult("read", path, this.#sys.open(path, O_RDONLY));
    try {
      const buffer = new Uint8Array(FDINFO_BYTES);
      const length = checkResult("read", path, this.#sys.read(fd, buffer));
      const bytes = /^memlock:\s*(\d+)$/m.exec(new TextDecoder().decode(buffer.subarray(0, length)))?.[1];
      if (bytes === undefined) throw new KernelError("read", path, EINVAL, "it says nothing of memlock");
      return Number(bytes);
    } finally {
      this.#sys.close(fd);
    }
  }

  close(): void {
    this.#sys.close(this.fd);
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    const value = new Uint8Array(this.definition.valueBytes);
    const result = this.#element(key).output(16, value).call(this.#sys, BPF_MAP_LOOKUP_ELEM);
    if (result === -ENOENT) return undefined;
    checkResult("look up element of map", this.definition.name, result);
    return value;
  }

  update(key: Uint8Array, value: Uint8Array): void {
    const result = this.#element(key).input(16, value).call(this.#sys, BPF_MAP_UPDATE_ELEM);
    checkResult("update element of map", this.definition.name, result);
  }

  /** The same while somebody else waits for the kernel. Throws KernelError. */
  *updating(key: Uint8Array, value: Uint8Array, calls: LongCalls): Generator<Promise<void> | undefined, void> {
    const result = yield* this.#element(key).input(16, value).calling(calls, BPF_MAP_UPDATE_ELEM);
    checkResult("update element of map", this.definition.name, result);
  }

  /** False: there was none. */
  delete(key: Uint8Array): boolean {
    const result = this.#element(key).call(this.#sys, BPF_MAP_DELETE_ELEM);
    if (result === -ENOENT) return false;
    checkResult("delete element of map", this.definition.name, result);
    return true;
  }

  #element(key: Uint8Array): Attributes {
    return new Attributes(32).u32(0, this.fd).input(8, key);
  }

  /** Overwrites elements of an array from that index on. */
  updateValues(from: number, values: Uint8Array): void {
    const { valueBytes } = this.definition;
    this.updateAll(
      Array.from({ length: values.length / valueBytes }, (_, i) => ({
        key: u32Bytes(from + i),
        value: values.subarray(i * valueBytes, (i + 1) * valueBytes),
      })),
    );
  }

  updateAll(entries: readonly MapEntry[]): void {
    if (!this.#hasBatches) return entries.forEach(({ key, value }) => this.update(key, value));
    for (let from = 0; from < entries.length; from += BATCH) {
      const part = entries.slice(from, from + BATCH);
      const attributes = this.#batch(part.length)
        .input(16, joinBytes(part.map(({ key }) => key)))
        .input(24, joinBytes(part.map(({ value }) => value)));
      checkResult("update map", this.definition.name, attributes.call(this.#sys, BPF_MAP_UPDATE_BATCH));
    }
  }

  /** Keys that it does not have are left out. */
  deleteAll(keys: readonly Uint8Array[]): void {
    for (let from = 0; from < keys.length;) {
      const part = keys.slice(from, from + BATCH);
      const attributes = this.#batch(part.length).input(16, joinBytes(part));
      const result = attributes.call(this.#sys, BPF_MAP_DELETE_BATCH);
      if (result < 0 && result !== -ENOENT) checkResult("delete from map", this.definition.name, result);
      // It stops at a key that is not there.
      from += result === -ENOENT ? attributes.get(32) + 1 : part.length;
    }
  }

  /** Linux 5.10 has none of LPM tries. */
  get #hasBatches(): boolean {
    return this.definition.type !== "lpm-trie";
  }

  #batch(count: number): Attributes {
    return new Attributes(56).u32(32, count).u32(36, this.fd);
  }

  /** All elements. Of a map that changes meanwhile, an element may be missing or be there twice. */
  entries(): MapEntry[] {
    return [...this.batches()].flat();
  }

  /** The same, some at a time. */
  batches(most = BATCH): Generator<MapEntry[]> {
    return this.#hasBatches ? this.#inBatches(most) : this.#oneByOne(most);
  }

  *#inBatches(most: number): Generator<MapEntry[]> {
    const { keyBytes, valueBytes, maxEntries, name } = this.definition;
    let token: Uint8Array | undefined;
    for (let room = Math.min(most, maxEntries); ;) {
      const keys = new Uint8Array(keyBytes * room);
      const values = new Uint8Array(valueBytes * room);
      const next = new Uint8Array(TOKEN_BYTES);
      const attributes = this.#batch(room).output(8, next).output(16, keys).output(24, values);
      if (token !== undefined) attributes.input(0, token);
      const result = attributes.call(this.#sys, BPF_MAP_LOOKUP_BATCH);
      // One bucket has more than there is room for.
      if (result === -ENOSPC) {
        room *= 2;
        continue;
      }
      if (result < 0 && result !== -ENOENT) checkResult("read map", name, result);
      yield Array.from({ length: attributes.get(32) }, (_, i) => ({
        key: keys.slice(i * keyBytes, (i + 1) * keyBytes),
        value: values.slice(i * valueBytes, (i + 1) * valueBytes),
      }));
      if (result === -ENOENT) return;
      token = next;
    }
  }

  /** The values of an array's elements from that index on. */
  values(from: number, count: number): Uint8Array {
    const { valueBytes, name } = this.definition;
    const values = new Uint8Array(valueBytes * count);
    for (let done = 0; done < count;) {
      const room = Math.min(BATCH, count - done);
      const part = new Uint8Array(valueBytes * room);
      const attributes = this.#batch(room)
        .output(8, new Uint8Array(TOKEN_BYTES))
        .output(16, new Uint8Array(room * 4))
        .output(24, part);
      // The kernel goes on after the element that it is told.
      if (from + done > 0) attributes.input(0, u32Bytes(from + done - 1));
      const result = attributes.call(this.#sys, BPF_MAP_LOOKUP_BATCH);
      if (result < 0 && result !== -ENOENT) checkResult("read map", name, result);
      const read = attributes.get(32);
      if (read === 0) throw new KernelError("read map", name, EINVAL, `it has no element ${from + done}`);
      values.set(part.subarray(0, read * valueBytes), done * valueBytes);
      done += read;
    }
    return values;
  }

  *#oneByOne(most: number): Generator<MapEntry[]> {
    let found: MapEntry[] = [];
    for (let key: Uint8Array | undefined; ;) {
      const next = new Uint8Array(this.definition.keyBytes);
      const attributes = new Attributes(32).u32(0, this.fd).output(16, next);
      if (key !== undefined) attributes.input(8, key);
      const result = attributes.call(this.#sys, BPF_MAP_GET_NEXT_KEY);
      if (result === -ENOENT) break;
      checkResult("read map", this.definition.name, result);
      const value = this.lookup(next);
      if (value !== undefined) found.push({ key: next, value });
      if (found.length === most) {
        yield found;
        found = [];
      }
      key = next;
    }
    yield found;
  }
}

const ENOSPC = 28;

function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** Gives a map or program a name in a bpffs, which keeps it. */
export function pin(sys: Sys, fd: number, path: string): void {
  const result = new Attributes(24).text(0, path).u32(8, fd).call(sys, BPF_OBJ_PIN);
  checkResult("pin to", path, result);
}
