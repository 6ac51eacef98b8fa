import { expect, test } from "bun:test";
import type { BpfPointer } from "../../host/sys.ts";
import type { ThreadEvents } from "../../host/threads.ts";
import { EINTR } from "../errno.ts";
import { Attributes } from "./call.ts";
import { type LongCalls, serveCalls, ThreadCalls } from "./long-calls.ts";

/** A thread that is none: it gets to its next text when the test says so. Its calls return what `resultOf` says, those made here -1. */
class Bench {
  readonly made: string[] = [];
  readonly reports: string[] = [];
  readonly texts: string[] = [];
  starts = 0;
  closes = 0;
  #events: ThreadEvents | undefined;
  #received: (text: string) => void = () => {};

  readonly calls = new ThreadCalls({
    sys: { bpf: (command) => (this.made.push(`here ${command}`), -1) },
    start: (events) => {
      this.starts++;
      this.#events = events;
      const owner = {
        send: (text: string) => events.received(text),
        receive: (received: (text: string) => void) => void (this.#received = received),
      };
      serveCalls(owner, {
        bpf: (command, attributes, pointers) => {
          this.made.push(`beside ${command} ${[...attributes].join()} ${pointers.map(shown).join(" ")}`);
          return command * 10;
        },
      });
      return { send: (text) => void this.texts.push(text), close: () => void this.closes++ };
    },
    report: (message, { error }) => this.reports.push(`${message}: ${String(error)}`),
  });

  /** The thread makes the call that was asked for first. */
  goOn(): void {
    this.#received(this.texts.shift() ?? "");
  }

  break(): void {
    this.#events?.ended("out of luck");
  }
}

function shown({ at, bytes }: BpfPointer): string {
  return `${at}:${[...bytes].join()}`;
}

/** Where the answer goes. */
function ask(calls: LongCalls, command: number): { readonly results: number[]; goOn(): Promise<void> } {
  const steps = new Attributes(8).u32(0, 7).input(4, Uint8Array.of(1, 2)).calling(calls, command);
  const results: number[] = [];
  let waits: Promise<void> | undefined;
  const advance = (): void => {
    const step = steps.next();
    if (step.done === true) results.push(step.value);
    else waits = step.value;
  };
  advance();
  return {
    results,
    goOn: async () => {
      await waits;
      advance();
    },
  };
}

test("a call is made by the thread, which is started for the first, and ended with what asks", async () => {
  const bench = new Bench();
  expect([bench.starts, bench.calls.isBeside]).toEqual([0, true]);
  const [first, second] = [ask(bench.calls, 3), ask(bench.calls, 4)];
  expect([first.results, second.results, bench.made]).toEqual([[], [], []]);
  bench.goOn();
  await first.goOn();
  bench.goOn();
  await second.goOn();
  expect([first.results, second.results]).toEqual([[30], [40]]);
  expect(bench.made).toEqual(["beside 3 7,0,0,0,0,0,0,0 4:1,2", "beside 4 7,0,0,0,0,0,0,0 4:1,2"]);
  bench.calls.close();
  expect([bench.starts, bench.closes]).toEqual([1, 1]);
  ask(bench.calls, 5);
  expect(bench.starts).toBe(2);
});

test("what is under way when it is closed is answered with EINTR", async () => {
  const bench = new Bench();
  const call = ask(bench.calls, 3);
  bench.calls.close();
  await call.goOn();
  expect([call.results, bench.made]).toEqual([[-EINTR], []]);
});

test("when the thread breaks that is reported once, and calls are made here, those under way too", async () => {
  const bench = new Bench();
  const call = ask(bench.calls, 3);
  bench.break();
  await call.goOn();
  expect(call.results).toEqual([-1]);
  expect(bench.calls.isBeside).toBe(false);
  expect(ask(bench.calls, 4).results).toEqual([-1]);
  expect(bench.made).toEqual(["here 3", "here 4"]);
  expect(bench.starts).toBe(1);
  expect(bench.reports).toEqual([
    "the thread that waits for the kernel has ended: from now on the daemon's own waits, and is held meanwhile: out of luck",
  ]);
});
