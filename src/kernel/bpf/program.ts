/** Program: one program given to the kernel, which verifies it; and run on packets without any device. Source: linux kernel/bpf/syscall.c. */
import type { Sys } from "../../host/sys.ts";
import { checkResult, ENOENT, KernelError } from "../errno.ts";
import type { BtfRecords } from "./btf.ts";
import type { LongCalls } from "./long-calls.ts";
import {
  Attributes,
  BPF_BTF_LOAD,
  BPF_OBJ_GET,
  BPF_OBJ_GET_INFO_BY_FD,
  BPF_PROG_LOAD,
  BPF_PROG_TEST_RUN,
  textOf,
} from "./call.ts";

/** enum bpf_prog_type. */
export const PROGRAM_TYPES = { socket: 1, tc: 3 } as const;
export type ProgramType = keyof typeof PROGRAM_TYPES;

const LOG_BYTES = 1 << 20;
/** Of a verifier's log, what is shown: its end says why. */
const LOG_SHOWN = 4000;
const INSTRUCTION = 8;

export interface ProgramCode {
  readonly name: string;
  readonly type: ProgramType;
  readonly license: string;
  readonly instructions: Uint8Array;
  readonly info?: { readonly btf: number; readonly functions: BtfRecords; readonly lines: BtfRecords } | undefined;
}

/** Descriptor of the loaded program. Throws KernelError with the end of what the verifier says. */
export function loadProgram(sys: Sys, code: ProgramCode): number {
  const result = attributesOf(code).call(sys, BPF_PROG_LOAD);
  return result < 0 ? refuse(sys, code, result) : result;
}

/** The same while somebody else waits for the verifier. Throws KernelError. */
export function* loadingProgram(
  sys: Sys,
  code: ProgramCode,
  calls: LongCalls,
): Generator<Promise<void> | undefined, number> {
  const result = yield* attributesOf(code).calling(calls, BPF_PROG_LOAD);
  return result < 0 ? refuse(sys, code, result) : result;
}

/** The log costs time: it is asked for only when the kernel refuses. */
function refuse(sys: Sys, code: ProgramCode, result: number): number {
  const log = new Uint8Array(LOG_BYTES);
  const second = attributesOf(code, log).call(sys, BPF_PROG_LOAD);
  if (second >= 0) return second;
  throw new KernelError("load program", code.name, -result, textOf(log).slice(-LOG_SHOWN));
}

function attributesOf(code: ProgramCode, log?: Uint8Array): Attributes {
  const attributes = new Attributes(120)
    .u32(0, PROGRAM_TYPES[code.type])
    .u32(4, code.instructions.length / INSTRUCTION)
    .input(8, code.instructions)
    .text(16, code.license)
    .name(48, code.name);
  if (log !== undefined) attributes.u32(24, 1).u32(28, log.length).output(32, log);
  if (code.info !== undefined) {
    const { btf, functions, lines } = code.info;
    attributes.u32(72, btf);
    attributes.u32(76, functions.recordBytes).input(80, functions.records);
    attributes.u32(88, functions.records.length / functions.recordBytes);
    attributes.u32(92, lines.recordBytes).input(96, lines.records);
    attributes.u32(104, lines.records.length / lines.recordBytes);
  }
  return attributes;
}

/** Descriptor of the type information in the kernel. */
export function loadBtf(sys: Sys, bytes: Uint8Array): number {
  const log = new Uint8Array(LOG_BYTES);
  const attributes = new Attributes(32).input(0, bytes).output(8, log).u32(16, bytes.length).u32(20, log.length);
  const result = attributes.u32(24, 1).call(sys, BPF_BTF_LOAD);
  if (result < 0) throw new KernelError("load type information", "", -result, textOf(log).slice(-LOG_SHOWN));
  return result;
}

/** Descriptor of the program that is pinned there; undefined: none. */
export function openProgram(sys: Sys, path: string): number | undefined {
  const fd = new Attributes(24).text(0, path).call(sys, BPF_OBJ_GET);
  return fd === -ENOENT ? undefined : checkResult("open pinned program", path, fd);
}

/** Number by which the kernel names it. */
export function programId(sys: Sys, fd: number): number {
  const info = new Uint8Array(16);
  const attributes = new Attributes(16).u32(0, fd).u32(4, info.length).output(8, info);
  checkResult("look up program", "", attributes.call(sys, BPF_OBJ_GET_INFO_BY_FD));
  return new DataView(info.buffer).getUint32(4, true);
}

/** What the program returned for the frame, and the mean time of a run. */
export function runProgram(
  sys: Sys,
  fd: number,
  frame: Uint8Array,
  repeat = 1,
): { readonly result: number; readonly nanoseconds: number } {
  const attributes = new Attributes(80).u32(0, fd).u32(8, frame.length).input(16, frame).u32(32, repeat);
  checkResult("run program", "", attributes.call(sys, BPF_PROG_TEST_RUN));
  return { result: attributes.view.getInt32(4, true), nanoseconds: attributes.get(36) };
}
