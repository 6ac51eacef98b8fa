/**
 * Btf: the type information that clang writes beside a program (`.BTF`, `.BTF.ext`): the definitions of its maps, and what the kernel is
 * given so that its messages and other tools can name functions, lines and fields. Source: linux Documentation/bpf/btf.rst.
 */
import { invariant } from "../../lib/bug.ts";
import { type ElfObject, nameAt, viewOf } from "./elf.ts";
import { joinBytes } from "./call.ts";
import { type MapDefinition, mapTypeOf } from "./map.ts";

const MAGIC = 0xeb9f;
const INT = 1;
const POINTER = 2;
const ARRAY = 3;
const STRUCT = 4;
const UNION = 5;
const ENUM = 6;
const TYPEDEF = 8;
const VOLATILE = 9;
const CONST = 10;
const RESTRICT = 11;
const PROTOTYPE = 13;
const VARIABLE = 14;
const SECTION = 15;

const INSTRUCTION = 8;
const TYPE = 12;
/** Bytes that follow a type of the kind: fixed, and for each of its members. */
const FOLLOWING: ReadonlyMap<number, readonly [number, number]> = new Map([
  [INT, [4, 0]],
  [ARRAY, [12, 0]],
  [STRUCT, [0, 12]],
  [UNION, [0, 12]],
  [ENUM, [0, 8]],
  [PROTOTYPE, [0, 8]],
  [VARIABLE, [4, 0]],
  [SECTION, [0, 12]],
]);

export interface BtfMap extends MapDefinition {
  /** Ids of the types of key and value; undefined where the map has none. */
  readonly types: { readonly key: number; readonly value: number } | undefined;
}

/** Bytes `from`..`to` of a section of code, which are at `at` of the program. */
export interface CodePart {
  readonly section: string;
  readonly from: number;
  readonly to: number;
  readonly at: number;
}

/** Records about instructions, each beginning with the instruction's offset. */
export interface BtfRecords {
  readonly recordBytes: number;
  readonly records: Uint8Array;
}

export class Btf {
  /** As the kernel is given it. */
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  /** Offset of each type; the first, `void`, has none. */
  readonly #types: number[] = [0];
  readonly #names: Uint8Array;

  constructor(elf: ElfObject, bytes: Uint8Array) {
    this.bytes = bytes.slice();
    this.#view = viewOf(this.bytes);
    invariant(this.#view.getUint16(0, true) === MAGIC, "the object's type information has another byte order");
    const header = this.#u32(4);
    const [types, length, names] = [header + this.#u32(8), this.#u32(12), header + this.#u32(16)];
    this.#names = this.bytes.subarray(names);
    for (let at = types; at < types + length;) {
      this.#types.push(at);
      const [fixed, each] = FOLLOWING.get(this.#kindAt(at)) ?? [0, 0];
      at += TYPE + fixed + each * this.#countAt(at);
    }
    this.#completeSections(elf);
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, true);
  }
  #kindAt(at: number): number {
    return (this.#u32(at + 4) >>> 24) & 31;
  }
  #countAt(at: number): number {
    return this.#u32(at + 4) & 0xffff;
  }
  #at(id: number): number {
    const at = this.#types[id];
    invariant(at !== undefined, `the object has no type ${id}`);
    return at;
  }
  #name(id: number): string {
    return nameAt(this.#names, this.#u32(this.#at(id)));
  }
  /** Its size, or the type that it refers to. */
  #size(id: number): number {
    return this.#u32(this.#at(id) + 8);
  }

  /** clang leaves out sizes of sections and places of variables, which only the linker would know. */
  #completeSections({ sections, symbols }: ElfObject): void {
    for (const at of this.#types.slice(1)) {
      if (this.#kindAt(at) !== SECTION) continue;
      const section = sections.find(({ name }) => name === nameAt(this.#names, this.#u32(at)));
      if (section === undefined) continue;
      this.#view.setUint32(at + 8, section.bytes.length, true);
      const first = at + TYPE;
      const variables = Array.from({ length: this.#countAt(at) }, (_, i) => {
        const type = this.#u32(first + i * 12);
        const symbol = symbols.find((each) => each.section === section.index && each.name === this.#name(type));
        return { type, place: symbol?.value ?? 0, size: this.#u32(first + i * 12 + 8) };
      }).sort((a, b) => a.place - b.place);
      for (const [i, { type, place, size }] of variables.entries())
        for (const [k, value] of [type, place, size].entries())
          this.#view.setUint32(first + i * 12 + k * 4, value, true);
    }
  }

  /** The maps of the section `.maps`, whose structures say by the types of their fields what they are. */
  maps(): BtfMap[] {
    const section = this.#types.findIndex(
      (at, id) => id > 0 && this.#kindAt(at) === SECTION && this.#name(id) === ".maps",
    );
    if (section < 0) return [];
    const at = this.#at(section);
    return Array.from({ length: this.#countAt(at) }, (_, i) => this.#map(this.#u32(at + TYPE + i * 12)));
  }

  #map(variable: number): BtfMap {
    const numbers = new Map<string, number>();
    const types = new Map<string, number>();
    const structure = this.#at(this.#size(variable));
    for (let i = 0; i < this.#countAt(structure); i++) {
      const member = structure + TYPE + i * 12;
      const field = nameAt(this.#names, this.#u32(member));
      const pointed = this.#size(this.#u32(member + 4));
      // A number is the length of an array.
      if (field === "key" || field === "value") types.set(field, pointed);
      else numbers.set(field, this.#u32(this.#at(pointed) + TYPE + 8));
    }
    const name = this.#name(variable);
    const type = mapTypeOf(numbers.get("type") ?? 0);
    invariant(type !== undefined, `map ${name} is of an unknown type`);
    const [key, value] = [types.get("key"), types.get("value")];
    return {
      name,
      type,
      keyBytes: key === undefined ? (numbers.get("key_size") ?? 0) : this.#bytesOf(key),
      valueBytes: value === undefined ? (numbers.get("value_size") ?? 0) : this.#bytesOf(value),
      maxEntries: numbers.get("max_entries") ?? 0,
      flags: numbers.get("map_flags") ?? 0,
      types: key === undefined || value === undefined ? undefined : { key, value },
    };
  }

  #bytesOf(id: number): number {
    const kind = this.#kindAt(this.#at(id));
    if (kind === ARRAY) return this.#bytesOf(this.#u32(this.#at(id) + TYPE)) * this.#u32(this.#at(id) + TYPE + 8);
    if (kind === POINTER) return 8;
    return [TYPEDEF, VOLATILE, CONST, RESTRICT].includes(kind) ? this.#bytesOf(this.#size(id)) : this.#size(id);
  }

  /** What `.BTF.ext` says of functions and lines of a program that is put together of these parts. */
  about(
    extension: Uint8Array,
    parts: readonly CodePart[],
  ): { readonly functions: BtfRecords; readonly lines: BtfRecords } {
    const view = viewOf(extension);
    const header = view.getUint32(4, true);
    const read = (field: number): BtfRecords => {
      const start = header + view.getUint32(field, true);
      const end = start + view.getUint32(field + 4, true);
      const recordBytes = view.getUint32(start, true);
      const found: { readonly place: number; readonly record: Uint8Array }[] = [];
      for (let at = start + 4; at < end;) {
        const section = nameAt(this.#names, view.getUint32(at, true));
        const count = view.getUint32(at + 4, true);
        at += 8;
        for (let i = 0; i < count; i++, at += recordBytes) {
          const offset = view.getUint32(at, true);
          const part = parts.find((each) => each.section === section && offset >= each.from && offset < each.to);
          if (part === undefined) continue;
          const record = extension.slice(at, at + recordBytes);
          const place = (part.at + offset - part.from) / INSTRUCTION;
          viewOf(record).setUint32(0, place, true);
          found.push({ place, record });
        }
      }
      found.sort((a, b) => a.place - b.place);
      return { recordBytes, records: joinBytes(found.map(({ record }) => record)) };
    };
    return { functions: read(8), lines: read(16) };
  }
}
