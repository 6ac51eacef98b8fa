/**
 * Foreign memory: pages mapped outside the collector's heap, which neither move nor are freed while in use.
 *
 * Every buffer whose address is passed to the kernel is here. JavaScript's own arrays may move (small ones when their function is
 * optimised, or their `buffer` is taken) and may be collected while only their address is known.
 */
import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";
import { BugError } from "../../lib/bug.ts";

export const LIBC = "libc.so.6";
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;

function openMapping() {
  return dlopen(LIBC, { mmap: { args: ["ptr", "usize", "i32", "i32", "i32", "i64"], returns: "ptr" } }).symbols;
}

let mapping: ReturnType<typeof openMapping> | undefined;

/** Address of `length` new bytes; never unmapped. */
export function mapPages(length: number): number {
  mapping ??= openMapping();
  const address = mapping.mmap(null, length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  // MAP_FAILED is all ones.
  if (typeof address !== "number" || address < 0 || address > Number.MAX_SAFE_INTEGER)
    throw new BugError(`Cannot map ${length} bytes of memory`);
  return address;
}

/** What is mapped there, for as long as it is. */
export function memoryAt(address: number, length: number): ArrayBuffer {
  return toArrayBuffer(address as Pointer, 0, length);
}

/** Arguments of one system call: `reset`, then `reserve` or `put` for each, then the call, then `copyOut`. */
export class Arena {
  #address = 0;
  #bytes = new Uint8Array(0);
  #view = new DataView(new ArrayBuffer(0));
  #top = 0;

  constructor(length: number) {
    this.#map(length);
  }

  #map(length: number): void {
    this.#address = mapPages(length);
    const buffer = memoryAt(this.#address, length);
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
  }

  /** Drops all reservations and makes room for `length` bytes. */
  reset(length: number): void {
    this.#top = 0;
    // Each reservation is aligned to 8.
    const wanted = length + 64;
    // Outgrown pages stay mapped: doubling bounds them by the final size.
    if (wanted > this.#bytes.length) this.#map(2 ** Math.ceil(Math.log2(wanted)));
  }

  /** Offset of `length` bytes of undefined content. */
  reserve(length: number): number {
    const offset = (this.#top + 7) & ~7;
    if (offset + length > this.#bytes.length)
      throw new BugError("arena is too small: reset with the sum of all reservations");
    this.#top = offset + length;
    return offset;
  }

  put(bytes: Uint8Array): number {
    const offset = this.reserve(bytes.length);
    this.#bytes.set(bytes, offset);
    return offset;
  }

  copyOut(offset: number, length: number, to: Uint8Array): void {
    to.set(this.#bytes.subarray(offset, offset + length));
  }

  addressOf(offset: number): number {
    return this.#address + offset;
  }

  get view(): DataView {
    return this.#view;
  }
}
