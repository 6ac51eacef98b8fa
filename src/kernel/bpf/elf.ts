/** elf: the sections, symbols and relocations of an object file for the BPF machine, little-endian. Source: elf(5), linux Documentation/bpf/llvm_reloc.rst. */
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";

export interface ElfSection {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly isExecutable: boolean;
  readonly bytes: Uint8Array;
  /** Of relocations: the section that they change. */
  readonly info: number;
}

export interface ElfSymbol {
  readonly name: string;
  readonly isFunction: boolean;
  readonly section: number;
  /** Offset in its section. */
  readonly value: number;
  readonly size: number;
}

export interface ElfRelocation {
  readonly section: number;
  readonly offset: number;
  readonly type: number;
  readonly symbol: ElfSymbol;
}

export interface ElfObject {
  readonly sections: readonly ElfSection[];
  readonly symbols: readonly ElfSymbol[];
  readonly relocations: readonly ElfRelocation[];
}

/** The 64-bit address of a map, in two instructions. */
export const R_BPF_64_64 = 1;
/** The distance to a function, in the instruction that calls it. */
export const R_BPF_64_32 = 10;

const MAGIC = 0x7f454c46;
const EM_BPF = 247;
const HEADER = 64;
const SECTION_HEADER = 64;
const SYMBOL = 24;
const RELOCATION = 16;
const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const SHT_REL = 9;
const SHF_EXECINSTR = 4;
const STT_FUNC = 2;

export function parseElf(file: Uint8Array): Result<ElfObject, ParseError> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const refuse = (wanted: string) => fail({ what: "BPF object", found: `${file.length} bytes`, wanted });
  if (file.length < HEADER || view.getUint32(0) !== MAGIC) return refuse("must be an ELF file");
  if (view.getUint16(4) !== 0x0201) return refuse("must be of 64 bits, little-endian");
  if (view.getUint16(18, true) !== EM_BPF) return refuse("must be for the BPF machine");
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const [table, count, namesIndex] = [u64(40), view.getUint16(60, true), view.getUint16(62, true)];
  if (table + count * SECTION_HEADER > file.length) return refuse("is cut off before the end of its section headers");
  const headers = Array.from({ length: count }, (_, i) => table + i * SECTION_HEADER);
  const bytesAt = (header: number): Uint8Array =>
    view.getUint32(header + 4, true) === SHT_NOBITS
      ? new Uint8Array(u64(header + 32))
      : file.slice(u64(header + 24), u64(header + 24) + u64(header + 32));
  const names = bytesAt(headers[namesIndex] ?? 0);
  const sections = headers.map((header, index) => ({
    index,
    name: nameAt(names, view.getUint32(header, true)),
    type: view.getUint32(header + 4, true),
    isExecutable: (view.getUint32(header + 8, true) & SHF_EXECINSTR) !== 0,
    bytes: bytesAt(header),
    info: view.getUint32(header + 44, true),
    link: view.getUint32(header + 40, true),
  }));
  const symbolTable = sections.find(({ type }) => type === SHT_SYMTAB);
  const symbols =
    symbolTable === undefined
      ? []
      : symbolsOf(symbolTable.bytes, sections[symbolTable.link]?.bytes ?? new Uint8Array(), sections);
  const relocations: ElfRelocation[] = [];
  for (const section of sections.filter(({ type }) => type === SHT_REL)) {
    const entries = viewOf(section.bytes);
    for (let at = 0; at + RELOCATION <= section.bytes.length; at += RELOCATION) {
      const symbol = symbols[entries.getUint32(at + 12, true)];
      if (symbol === undefined) return refuse("has a relocation without a symbol");
      const offset = Number(entries.getBigUint64(at, true));
      relocations.push({ section: section.info, offset, type: entries.getUint32(at + 8, true), symbol });
    }
  }
  return ok({ sections, symbols, relocations });
}

/** A symbol of a section has its section's name. */
function symbolsOf(bytes: Uint8Array, names: Uint8Array, sections: readonly ElfSection[]): ElfSymbol[] {
  const view = viewOf(bytes);
  const symbols: ElfSymbol[] = [];
  for (let at = 0; at + SYMBOL <= bytes.length; at += SYMBOL) {
    const section = view.getUint16(at + 6, true);
    const name = nameAt(names, view.getUint32(at, true));
    symbols.push({
      name: name === "" ? (sections[section]?.name ?? "") : name,
      isFunction: (view.getUint8(at + 4) & 15) === STT_FUNC,
      section,
      value: Number(view.getBigUint64(at + 8, true)),
      size: Number(view.getBigUint64(at + 16, true)),
    });
  }
  return symbols;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The text at the offset, up to its NUL. */
export function nameAt(names: Uint8Array, offset: number): string {
  const end = names.indexOf(0, offset);
  return new TextDecoder().decode(names.subarray(offset, end < 0 ? names.length : end));
}
