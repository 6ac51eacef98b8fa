/**
 * Raw system calls: number and up to six word arguments in, the result or `-errno` out, in two independent ways.
 *
 * `trampoline` is 26 bytes of machine code that move the arguments from the registers of the C calling convention to those of the
 * kernel's and execute `syscall`; it shares no state. `libc` calls libc's `syscall` and reads `errno` right after.
 */
import { dlopen, FFIType, linkSymbols, type Pointer, read } from "bun:ffi";
import { BugError } from "../../lib/bug.ts";
import { LIBC, mapPages } from "./foreign.ts";

export type RawCall = (
  number: number,
  a?: number,
  b?: number,
  c?: number,
  d?: number,
  e?: number,
  f?: number,
) => number;

const LONG = FFIType.i64_fast;
const CALL = { args: [LONG, LONG, LONG, LONG, LONG, LONG, LONG], returns: LONG } as const;

/** x86-64: rdi rsi rdx rcx r8 r9 [rsp+8] become rax rdi rsi rdx r10 r8 r9. */
const X64 = machineCode(
  "48 89 f8", // mov rax, rdi
  "48 89 f7", // mov rdi, rsi
  "48 89 d6", // mov rsi, rdx
  "48 89 ca", // mov rdx, rcx
  "4d 89 c2", // mov r10, r8
  "4d 89 c8", // mov r8, r9
  "4c 8b 4c 24 08", // mov r9, [rsp+8]
  "0f 05", // syscall
  "c3", // ret
);
/** arm64: x0 to x6 become x8 and x0 to x5; `svc #0`; `ret`. */
const ARM64 = Uint32Array.of(
  0xaa0003e8,
  0xaa0103e0,
  0xaa0203e1,
  0xaa0303e2,
  0xaa0403e3,
  0xaa0503e4,
  0xaa0603e5,
  0xd4000001,
  0xd65f03c0,
);

const PAGE = 4096;
const PROT_READ_EXECUTE = 5;

export function openTrampoline(architecture: "x64" | "arm64"): RawCall {
  const libc = dlopen(LIBC, {
    memcpy: { args: ["usize", "ptr", "usize"], returns: "usize" },
    mprotect: { args: ["usize", "usize", "i32"], returns: "i32" },
  }).symbols;
  const code = architecture === "x64" ? X64 : new Uint8Array(ARM64.buffer);
  const page = mapPages(PAGE);
  libc.memcpy(page, code, code.length);
  if (libc.mprotect(page, PAGE, PROT_READ_EXECUTE) !== 0) throw new Error("Cannot make a page executable");
  const { call } = linkSymbols({ call: { ptr: page as Pointer, ...CALL } }).symbols;
  return (number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0) => word(call(number, a, b, c, d, e, f));
}

export function openLibc(): RawCall {
  const { syscall, __errno_location: errnoLocation } = dlopen(LIBC, {
    syscall: CALL,
    __errno_location: { args: [], returns: "ptr" },
  }).symbols;
  const errno = errnoLocation();
  if (errno === null) throw new BugError("libc has no errno");
  return (number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0) => {
    const result = word(syscall(number, a, b, c, d, e, f));
    return result === -1 ? -read.i32(errno, 0) : result;
  };
}

function machineCode(...instructions: readonly string[]): Uint8Array {
  return Uint8Array.from(instructions.join(" ").split(" "), (byte) => Number.parseInt(byte, 16));
}

function word(result: number | bigint): number {
  if (typeof result === "bigint") throw new BugError(`system call returned ${result}, beyond 2^53`);
  return result;
}
