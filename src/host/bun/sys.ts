/**
 * The real Sys, over raw system calls. All buffers are copied into foreign memory before a call and out of it afterwards.
 *
 * x86-64 only: the numbers and the trampoline of arm64 are here, but `openSys` refuses arm64 until the kernel suite has run there.
 */
import { BugError } from "../../lib/bug.ts";
import type { Sys } from "../sys.ts";
import { Arena, memoryAt } from "./foreign.ts";
import { openLibc, openTrampoline, type RawCall } from "./raw-call.ts";

interface Numbers {
  readonly read: number;
  readonly write: number;
  readonly close: number;
  readonly ioctl: number;
  readonly socket: number;
  readonly sendto: number;
  readonly recvfrom: number;
  readonly bind: number;
  readonly setsockopt: number;
  readonly openat: number;
  readonly setns: number;
  readonly mmap: number;
  readonly munmap: number;
  readonly getppid: number;
  readonly bpf: number;
  readonly prlimit64: number;
}

/** Source: linux arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. */
const NUMBERS: { readonly [A in "x64" | "arm64"]: Numbers } = {
  x64: {
    read: 0,
    write: 1,
    close: 3,
    ioctl: 16,
    socket: 41,
    sendto: 44,
    recvfrom: 45,
    bind: 49,
    setsockopt: 54,
    openat: 257,
    setns: 308,
    mmap: 9,
    munmap: 11,
    getppid: 110,
    bpf: 321,
    prlimit64: 302,
  },
  arm64: {
    read: 63,
    write: 64,
    close: 57,
    ioctl: 29,
    socket: 198,
    sendto: 206,
    recvfrom: 207,
    bind: 200,
    setsockopt: 208,
    openat: 56,
    setns: 268,
    mmap: 222,
    munmap: 215,
    getppid: 173,
    bpf: 280,
    prlimit64: 261,
  },
};

const AT_FDCWD = -100;
const O_CLOEXEC = 0o2000000;
const SOCK_CLOEXEC = 0o2000000;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const ENOENT = 2;
const EBADF = 9;

/** Throws when the architecture is not supported, or when no implementation (or not the requested one) passes its self-test. */
export function openSys(options: { readonly implementation?: Sys["implementation"] } = {}): Sys {
  const { arch } = process;
  if (arch !== "x64") throw new Error(`Cannot make system calls: architecture is ${arch}, must be x64`);
  const candidates: Sys["implementation"][] =
    options.implementation === undefined ? ["trampoline", "libc"] : [options.implementation];
  const refused: string[] = [];
  for (const implementation of candidates) {
    try {
      const call = implementation === "trampoline" ? openTrampoline(arch) : openLibc();
      const sys = sysOver(implementation, call, NUMBERS[arch]);
      selfTest(sys, call, NUMBERS[arch]);
      return sys;
    } catch (error) {
      if (error instanceof BugError) throw error;
      refused.push(`${implementation}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new Error(`Cannot make system calls: ${refused.join("; ")}`);
}

/** Calls with a known outcome must return exactly that result or error. */
function selfTest(sys: Sys, call: RawCall, numbers: Numbers): void {
  expect("getppid", call(numbers.getppid), process.ppid);
  expect("close of no descriptor", sys.close(-1), -EBADF);
  expect("open of no file", sys.open("/proc/self/no-such-file", 0), -ENOENT);
  const fd = sys.open("/dev/null", 0o1);
  expect("write to /dev/null", sys.write(fd, new Uint8Array(5)), 5);
  expect("close", sys.close(fd), 0);
}

function expect(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${what} returned ${found}, must be ${wanted}`);
}

const INITIAL_ARENA = 512 * 1024;

function sysOver(implementation: Sys["implementation"], call: RawCall, numbers: Numbers): Sys {
  const arena = new Arena(INITIAL_ARENA);
  const text = new TextEncoder();

  /** One call with the bytes copied in; `copyBack` copies the result's length, or all. */
  const withBytes = (bytes: Uint8Array, run: (address: number) => number): number => {
    arena.reset(bytes.length);
    return run(arena.addressOf(arena.put(bytes)));
  };
  const into = (buffer: Uint8Array, run: (address: number) => number): number => {
    arena.reset(buffer.length);
    const offset = arena.reserve(buffer.length);
    const result = run(arena.addressOf(offset));
    // With MSG_TRUNC the result may be more than the buffer holds.
    if (result > 0) arena.copyOut(offset, Math.min(result, buffer.length), buffer);
    return result;
  };

  return {
    implementation,
    socket: (domain, type, protocol) => call(numbers.socket, domain, type | SOCK_CLOEXEC, protocol),
    bind: (fd, address) => withBytes(address, (at) => call(numbers.bind, fd, at, address.length)),
    setSocketOption(fd, level, option, value) {
      arena.reset(4);
      const offset = arena.reserve(4);
      arena.view.setInt32(offset, value, true);
      return call(numbers.setsockopt, fd, level, option, arena.addressOf(offset), 4);
    },
    send(fd, bytes, flags, address) {
      arena.reset(bytes.length + (address?.length ?? 0) + 8);
      const at = arena.addressOf(arena.put(bytes));
      if (address === undefined) return call(numbers.sendto, fd, at, bytes.length, flags);
      return call(numbers.sendto, fd, at, bytes.length, flags, arena.addressOf(arena.put(address)), address.length);
    },
    receive: (fd, buffer, flags) => into(buffer, (at) => call(numbers.recvfrom, fd, at, buffer.length, flags)),
    read: (fd, buffer) => into(buffer, (at) => call(numbers.read, fd, at, buffer.length)),
    write: (fd, bytes) => withBytes(bytes, (at) => call(numbers.write, fd, at, bytes.length)),
    open: (path, flags) =>
      withBytes(text.encode(`${path}\0`), (at) => call(numbers.openat, AT_FDCWD, at, flags | O_CLOEXEC, 0)),
    close: (fd) => call(numbers.close, fd),
    setNamespace: (fd, type) => call(numbers.setns, fd, type),
    ioctl(fd, request, argument) {
      arena.reset(argument.length);
      const offset = arena.put(argument);
      const result = call(numbers.ioctl, fd, request, arena.addressOf(offset));
      arena.copyOut(offset, argument.length, argument);
      return result;
    },
    map(fd, length, offset, isWritable) {
      const protection = isWritable ? PROT_READ | PROT_WRITE : PROT_READ;
      const address = call(numbers.mmap, 0, length, protection, MAP_SHARED, fd, offset);
      if (address < 0) return address;
      return { memory: memoryAt(address, length), unmap: () => void call(numbers.munmap, address, length) };
    },
    setLimit(resource, limit) {
      const both = new BigUint64Array([limit, limit]);
      return withBytes(new Uint8Array(both.buffer), (at) => call(numbers.prlimit64, 0, resource, at, 0));
    },
    bpf(command, attributes, pointers) {
      // Each reservation is aligned to 8.
      arena.reset(pointers.reduce((sum, { bytes }) => sum + bytes.length + 8, attributes.length));
      const offset = arena.put(attributes);
      const places = pointers.map(({ at, bytes }) => {
        const place = arena.put(bytes);
        arena.view.setBigUint64(offset + at, BigInt(arena.addressOf(place)), true);
        return place;
      });
      const result = call(numbers.bpf, command, arena.addressOf(offset), attributes.length);
      arena.copyOut(offset, attributes.length, attributes);
      for (const [i, { bytes, isOutput }] of pointers.entries())
        if (isOutput === true) arena.copyOut(places[i] ?? 0, bytes.length, bytes);
      return result;
    },
  };
}
