/** call: one bpf(2) call: its attributes, a structure of integers and pointers, and the numbers of its commands. Source: linux/bpf.h. */
import type { BpfPointer, Sys } from "../../host/sys.ts";
import { EPROTO } from "../errno.ts";
import type { LongCalls } from "./long-calls.ts";

export const BPF_MAP_CREATE = 0;
export const BPF_MAP_LOOKUP_ELEM = 1;
export const BPF_MAP_UPDATE_ELEM = 2;
export const BPF_MAP_DELETE_ELEM = 3;
export const BPF_MAP_GET_NEXT_KEY = 4;
export const BPF_PROG_LOAD = 5;
export const BPF_OBJ_PIN = 6;
export const BPF_OBJ_GET = 7;
export const BPF_PROG_TEST_RUN = 10;
export const BPF_OBJ_GET_INFO_BY_FD = 15;
export const BPF_BTF_LOAD = 18;
export const BPF_MAP_LOOKUP_BATCH = 24;
export const BPF_MAP_UPDATE_BATCH = 26;
export const BPF_MAP_DELETE_BATCH = 27;

/** The attributes of one call; integers are in host order. */
export class Attributes {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #pointers: BpfPointer[] = [];

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
  }

  u32(at: number, value: number): this {
    this.view.setUint32(at, value, true);
    return this;
  }

  /** NUL-terminated, cut to the 15 bytes that the kernel keeps; what it does not allow in a name becomes `_`. */
  name(at: number, text: string): this {
    this.bytes.set(new TextEncoder().encode(text.replace(/[^A-Za-z0-9_.]/g, "_").slice(0, 15)), at);
    return this;
  }

  /** The address of bytes that the kernel reads. */
  input(at: number, bytes: Uint8Array): this {
    this.#pointers.push({ at, bytes });
    return this;
  }

  text(at: number, text: string): this {
    return this.input(at, new TextEncoder().encode(`${text}\0`));
  }

  /** The address of bytes that the kernel writes. */
  output(at: number, bytes: Uint8Array): this {
    this.#pointers.push({ at, bytes, isOutput: true });
    return this;
  }

  /** A value or `-errno`. */
  call(sys: Sys, command: number): number {
    return sys.bpf(command, this.bytes, this.#pointers);
  }

  /** The same by those who make long calls; the kernel may write nothing. */
  *calling(calls: LongCalls, command: number): Generator<Promise<void> | undefined, number> {
    const answer = calls.bpf(command, this.bytes, this.#pointers);
    if (typeof answer === "number") return answer;
    let result = -EPROTO;
    yield answer.then((value) => void (result = value));
    return result;
  }

  get(at: number): number {
    return this.view.getUint32(at, true);
  }
}

/** The text up to its NUL. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

export function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
