/**
 * Object: an object file of clang in the kernel: its maps (new, or those given), its programs with the maps' descriptors in their
 * instructions, and its type information.
 *
 * A program is one function of a section of its own, and, if it calls any, with it all functions of `.text`, which must all be used then.
 */
import type { Sys } from "../../host/sys.ts";
import { invariant } from "../../lib/bug.ts";
import { unwrap } from "../../lib/result.ts";
import { Btf, type CodePart } from "./btf.ts";
import { type ElfObject, type ElfSymbol, parseElf, R_BPF_64_32, R_BPF_64_64, viewOf } from "./elf.ts";
import { joinBytes, textOf } from "./call.ts";
import { BpfMap } from "./map.ts";
import type { LongCalls } from "./long-calls.ts";
import { loadBtf, loadingProgram, PROGRAM_TYPES, type ProgramType } from "./program.ts";

/** Source register that makes the two-instruction load one of a map's address. */
const PSEUDO_MAP_FD = 1;
const INSTRUCTION = 8;

export interface LoadedObject {
  readonly maps: ReadonlyMap<string, BpfMap>;
  /** Descriptors by function. */
  readonly programs: ReadonlyMap<string, number>;
  /** Pins and attachments keep what they hold. */
  close(): void;
}

/** Maps of `given` take the place of the object's own; the caller keeps them. Each step loads one program. Throws KernelError. */
export function* loadingObject(
  sys: Sys,
  file: Uint8Array,
  calls: LongCalls,
  given: ReadonlyMap<string, BpfMap> = new Map(),
): Generator<Promise<void> | undefined, LoadedObject> {
  const elf = unwrap(parseElf(file));
  const bytesOf = (name: string): Uint8Array | undefined => elf.sections.find((each) => each.name === name)?.bytes;
  const types = bytesOf(".BTF");
  invariant(types !== undefined, "the object has no type information: compile it with -g");
  const btf = new Btf(elf, types);
  const opened: number[] = [];
  const close = (): void => {
    for (const fd of opened) sys.close(fd);
  };
  try {
    const btfFd = loadBtf(sys, btf.bytes);
    opened.push(btfFd);
    const maps = new Map<string, BpfMap>();
    for (const { types: of, ...definition } of btf.maps()) {
      const known = given.get(definition.name);
      const map = known ?? BpfMap.create(sys, definition, of === undefined ? {} : { types: { btf: btfFd, ...of } });
      if (known === undefined) opened.push(map.fd);
      maps.set(definition.name, map);
    }
    const license = textOf(bytesOf("license") ?? new Uint8Array());
    const extension = bytesOf(".BTF.ext");
    const programs = new Map<string, number>();
    invariant(extension !== undefined, "the object says nothing of its lines: compile it with -g");
    for (const symbol of programsOf(elf)) {
      const { parts, instructions } = linkProgram(elf, symbol, maps);
      const info = { btf: btfFd, ...btf.about(extension, parts) };
      const code = { name: symbol.name, type: typeOf(elf, symbol), license, instructions, info };
      yield undefined;
      const fd = yield* loadingProgram(sys, code, calls);
      opened.push(fd);
      programs.set(symbol.name, fd);
    }
    return { maps, programs, close };
  } catch (error) {
    close();
    throw error;
  }
}

function programsOf({ sections, symbols }: ElfObject): ElfSymbol[] {
  return symbols.filter(({ isFunction, section }) => {
    const code = sections[section];
    return isFunction && code?.isExecutable === true && code.name !== TEXT;
  });
}

/** Its section is called TYPE/NAME. */
function typeOf({ sections }: ElfObject, { section }: ElfSymbol): ProgramType {
  const type = sections[section]?.name.split("/")[0] ?? "";
  invariant(type in PROGRAM_TYPES, `no program type ${type}`);
  return type as ProgramType;
}

/** Section of the functions that programs call. */
const TEXT = ".text";

/** The program's own instructions, then all of `.text`, with descriptors of maps and distances of calls filled in. */
function linkProgram(
  { sections, relocations }: ElfObject,
  program: ElfSymbol,
  maps: ReadonlyMap<string, BpfMap>,
): { readonly parts: readonly CodePart[]; readonly instructions: Uint8Array } {
  const own = sections[program.section];
  invariant(own !== undefined, `program ${program.name} has no section`);
  const end = program.value + program.size;
  const calls = relocations.some(
    ({ section, offset, type }) =>
      type === R_BPF_64_32 && section === own.index && offset >= program.value && offset < end,
  );
  const text = calls ? sections.find(({ name }) => name === TEXT) : undefined;
  const code = own.bytes.subarray(program.value, end);
  const instructions = joinBytes([code, text?.bytes ?? new Uint8Array()]);
  const parts: (CodePart & { readonly index: number })[] = [
    { section: own.name, index: own.index, from: program.value, to: end, at: 0 },
  ];
  if (text !== undefined)
    parts.push({ section: TEXT, index: text.index, from: 0, to: text.bytes.length, at: code.length });
  const view = viewOf(instructions);
  for (const { section, offset, type, symbol } of relocations) {
    const part = parts.find(({ index, from, to }) => index === section && offset >= from && offset < to);
    if (part === undefined) continue;
    const at = part.at + offset - part.from;
    const map = maps.get(symbol.name);
    if (type === R_BPF_64_64 && map !== undefined) {
      view.setUint8(at + 1, (view.getUint8(at + 1) & 15) | (PSEUDO_MAP_FD << 4));
      view.setInt32(at + 4, map.fd, true);
    } else {
      const isCall = type === R_BPF_64_32 && symbol.isFunction && symbol.section === text?.index;
      invariant(isCall, `program ${program.name} refers to ${symbol.name}, which is neither a map nor in ${TEXT}`);
      view.setInt32(at + 4, (code.length + symbol.value - at) / INSTRUCTION - 1, true);
    }
  }
  return { parts, instructions };
}
