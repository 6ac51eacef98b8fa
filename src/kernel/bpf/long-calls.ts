/**
 * Long calls: calls of bpf(2) in which the kernel takes its time: it waits for packets under way, or verifies a program. A thread of their own makes them,
 * so that they hold nobody up: descriptors are the process's. When that thread breaks, the calls are made where they are asked for, which holds that thread.
 */
import { EINTR } from "../errno.ts";
import type { BpfPointer, Sys } from "../../host/sys.ts";
import type { Thread, ThreadEvents, ThreadOwner } from "../../host/threads.ts";
import { invariant } from "../../lib/bug.ts";
import type { Report } from "../../lib/report.ts";

export interface LongCalls {
  /** A call holds nobody up. */
  readonly isBeside: boolean;
  /** A value or `-errno`, at once or when the call returns; it never rejects. What the pointers point to is only read. */
  bpf(command: number, attributes: Uint8Array, pointers: readonly BpfPointer[]): number | Promise<number>;
  /** What is not answered yet is answered with -EINTR. Another call may follow. */
  close(): void;
}

/** In the thread that asks. */
export function callsAtOnce(sys: Pick<Sys, "bpf">): LongCalls {
  return {
    isBeside: false,
    bpf: (command, attributes, pointers) => sys.bpf(command, attributes, pointers),
    close: () => {},
  };
}

export interface ThreadCallsOptions {
  readonly sys: Pick<Sys, "bpf">;
  readonly start: (events: ThreadEvents) => Thread;
  readonly report: Report;
}

/** A call under way. */
interface Call {
  readonly answer: (result: number) => void;
  readonly makeHere: () => number;
}

/** The thread lives from the first call on. */
export class ThreadCalls implements LongCalls {
  readonly #options: ThreadCallsOptions;
  readonly #calls = new Map<number, Call>();
  #thread: Thread | undefined;
  #hasBroken = false;
  #lastId = 0;

  constructor(options: ThreadCallsOptions) {
    this.#options = options;
  }

  get isBeside(): boolean {
    return !this.#hasBroken;
  }

  bpf(command: number, attributes: Uint8Array, pointers: readonly BpfPointer[]): number | Promise<number> {
    invariant(!pointers.some(({ isOutput }) => isOutput), "nothing is written back to the thread that asks");
    const makeHere = (): number => this.#options.sys.bpf(command, attributes, pointers);
    if (this.#hasBroken) return makeHere();
    const id = ++this.#lastId;
    const thread = (this.#thread ??= this.#start());
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#calls.set(id, { answer: resolve, makeHere });
    const sent = pointers.map(({ at, bytes }) => ({ at, bytes: bytes.toBase64() }));
    thread.send(JSON.stringify({ id, command, attributes: attributes.toBase64(), pointers: sent } satisfies SentCall));
    return promise;
  }

  #start(): Thread {
    return this.#options.start({
      received: (text) => {
        const { id, result } = JSON.parse(text) as SentAnswer;
        const call = this.#calls.get(id);
        this.#calls.delete(id);
        call?.answer(result);
      },
      ended: (cause) => {
        this.#hasBroken = true;
        this.#thread = undefined;
        this.#options.report(
          "the thread that waits for the kernel has ended: from now on the daemon's own waits, and is held meanwhile",
          { error: cause },
        );
        this.#settle(({ makeHere }) => makeHere());
      },
    });
  }

  #settle(resultOf: (call: Call) => number): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.answer(resultOf(call));
  }

  close(): void {
    this.#thread?.close();
    this.#thread = undefined;
    this.#settle(() => -EINTR);
  }
}

/** Bytes are base64. */
interface SentCall {
  readonly id: number;
  readonly command: number;
  readonly attributes: string;
  readonly pointers: readonly { readonly at: number; readonly bytes: string }[];
}

interface SentAnswer {
  readonly id: number;
  readonly result: number;
}

/** Makes the calls of whoever started the thread, one after the other, for as long as it lives. */
export function serveCalls(owner: ThreadOwner, sys: Pick<Sys, "bpf">): void {
  owner.receive((text) => {
    const { id, command, attributes, pointers } = JSON.parse(text) as SentCall;
    const result = sys.bpf(
      command,
      Uint8Array.fromBase64(attributes),
      pointers.map(({ at, bytes }) => ({ at, bytes: Uint8Array.fromBase64(bytes) })),
    );
    owner.send(JSON.stringify({ id, result } satisfies SentAnswer));
  });
}
