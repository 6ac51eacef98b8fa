/**
 * BpfRing: the reading end of a ring buffer of the kernel, mapped into this process: what was put into it is taken without a system call, oldest first.
 *
 * Both ends are in the map's own memory, so the next process goes on where this one has stopped. One process reads at a time. Source: linux
 * kernel/bpf/ringbuf.c.
 */
import type { Mapping, Sys } from "../../host/sys.ts";
import { invariant } from "../../lib/bug.ts";
import { KernelError } from "../errno.ts";
import type { BpfMap } from "./map.ts";

/** Of x86-64. */
const PAGE = 4096;
/** Before each record: its length with two flags, and the page that it is in. */
export const RING_HEADER_BYTES = 8;
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

export class BpfRing {
  readonly #mappings: readonly Mapping[];
  readonly #taken: BigInt64Array;
  readonly #put: BigInt64Array;
  /** Twice in a row, so that no record is in two parts. */
  readonly #data: Uint8Array;
  readonly #headers: Int32Array;
  readonly #size: number;
  #isClosed = false;

  /** Throws KernelError. */
  constructor(sys: Sys, { fd, definition: { name, maxEntries } }: BpfMap) {
    const map = (length: number, offset: number, isWritable: boolean): Mapping => {
      const mapping = sys.map(fd, length, offset, isWritable);
      if (typeof mapping === "number") throw new KernelError("map memory of", name, -mapping);
      return mapping;
    };
    const own = map(PAGE, 0, true);
    const kernels = map(PAGE + 2 * maxEntries, PAGE, false);
    this.#mappings = [own, kernels];
    this.#size = maxEntries;
    this.#taken = new BigInt64Array(own.memory, 0, 1);
    this.#put = new BigInt64Array(kernels.memory, 0, 1);
    this.#data = new Uint8Array(kernels.memory, PAGE);
    this.#headers = new Int32Array(kernels.memory, PAGE);
  }

  /** The mapped memory must not be looked at afterwards. */
  close(): void {
    this.#isClosed = true;
    for (const mapping of this.#mappings) mapping.unmap();
  }

  /** The oldest record; undefined: there is none, or it is still being written. */
  take(): Uint8Array | undefined {
    invariant(!this.#isClosed, "the ring is closed");
    for (;;) {
      // Of what may only be read, no load may be an atomic one: compiled, it writes. That of the own end, after it, keeps the order.
      const end = this.#put[0] ?? 0n;
      const at = Atomics.load(this.#taken, 0);
      if (at >= end) return undefined;
      const from = Number(at % BigInt(this.#size));
      const header = (this.#headers[from / 4] ?? 0) >>> 0;
      if ((header & BUSY) !== 0) return undefined;
      const length = header & ~(BUSY | DISCARDED);
      const start = from + RING_HEADER_BYTES;
      const record = (header & DISCARDED) === 0 ? this.#data.slice(start, start + length) : undefined;
      Atomics.store(this.#taken, 0, at + BigInt((RING_HEADER_BYTES + length + 7) & ~7));
      if (record !== undefined) return record;
    }
  }
}
