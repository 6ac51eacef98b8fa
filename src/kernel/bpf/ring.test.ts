/** The reading end of a ring: records around its end, ones that are being written or were given up, and a ring that cannot be mapped. */
import { expect, test } from "bun:test";
import { openSys } from "../../host/bun/sys.ts";
import type { Sys } from "../../host/sys.ts";
import { BpfMap } from "./map.ts";
import { BpfRing } from "./ring.ts";

const PAGE = 4096;
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

/** What the kernel does with the memory. */
class Producer {
  readonly own = new ArrayBuffer(PAGE);
  readonly kernels = new ArrayBuffer(3 * PAGE);
  unmapped = 0;
  #at = 0n;

  get sys(): Sys {
    const base = openSys();
    return {
      ...base,
      map: (_fd, length, offset, isWritable) => {
        expect([length, offset, isWritable]).toEqual(offset === 0 ? [PAGE, 0, true] : [3 * PAGE, PAGE, false]);
        return { memory: offset === 0 ? this.own : this.kernels, unmap: () => void this.unmapped++ };
      },
    };
  }

  get taken(): bigint {
    return new DataView(this.own).getBigUint64(0, true);
  }

  /** Where its header is. */
  put(record: readonly number[], flags = 0): number {
    const from = Number(this.#at % BigInt(PAGE));
    this.mark(from, record.length, flags);
    for (const [i, byte] of record.entries()) {
      const at = from + 8 + i;
      // The second mapping shows the same memory.
      for (const place of [at, at + PAGE, at - PAGE])
        if (place >= 0 && place < 2 * PAGE) new Uint8Array(this.kernels, PAGE)[place] = byte;
    }
    this.#at += BigInt((8 + record.length + 7) & ~7);
    new DataView(this.kernels).setBigUint64(0, this.#at, true);
    return from;
  }

  mark(from: number, length: number, flags: number): void {
    new DataView(this.kernels, PAGE).setUint32(from, (length | flags) >>> 0, true);
  }
}

function open(): { readonly producer: Producer; readonly ring: BpfRing } {
  const producer = new Producer();
  const sys = producer.sys;
  const map = { fd: 1, definition: { name: "events", maxEntries: PAGE } };
  return { producer, ring: new BpfRing(sys, map as unknown as BpfMap) };
}

test("records come in order, also around the end of the ring", () => {
  const { producer, ring } = open();
  expect(ring.take()).toBeUndefined();
  for (let i = 0; i < 1000; i++) {
    const record = Array.from({ length: 1 + (i % 30) }, (_, k) => (i + k) & 255);
    producer.put(record);
    producer.put([i & 255]);
    expect(ring.take()).toEqual(Uint8Array.from(record));
    expect(ring.take()).toEqual(Uint8Array.from([i & 255]));
    expect(ring.take()).toBeUndefined();
  }
  expect(producer.taken).toBeGreaterThan(BigInt(PAGE));
  ring.close();
  expect(producer.unmapped).toBe(2);
  expect(() => ring.take()).toThrow("closed");
});

test("one that is being written holds up those after it; one that was given up is passed over", () => {
  const { producer, ring } = open();
  const first = producer.put([1, 2], BUSY);
  producer.put([3], DISCARDED);
  producer.put([4]);
  expect(ring.take()).toBeUndefined();
  expect(producer.taken).toBe(0n);
  producer.mark(first, 2, 0);
  expect(ring.take()).toEqual(Uint8Array.from([1, 2]));
  expect(ring.take()).toEqual(Uint8Array.from([4]));
  expect(ring.take()).toBeUndefined();
});

test("what the kernel does not map is an error", () => {
  const map = { fd: 1, definition: { name: "events", maxEntries: PAGE } } as unknown as BpfMap;
  expect(() => new BpfRing({ ...openSys(), map: () => -12 }, map)).toThrow("Cannot map memory of events: ENOMEM");
});
