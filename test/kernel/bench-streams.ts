/** bench-streams: streams between the client and the server of a flow bench, and what is expected of them. */
import { expect } from "bun:test";
import { equal } from "../../src/lib/equal.ts";
import { type Bench, SERVER, until } from "./flow-bench.ts";
import { StreamEnd, type StreamKind } from "./streams.ts";

export const PORTS = [5001, 5002, 5011, 5012];
/** Of both families; the server sends on the last two. */
export function keysOf(kinds: readonly StreamKind[], last: 1 | 2): readonly string[] {
  return kinds.flatMap((kind) =>
    [`${kind}4`, `${kind}6`].flatMap((each) => [
      `${each}:500${last}`,
      ...(kind === "udp" ? [] : [`${each}:501${last}`]),
    ]),
  );
}
const KINDS = ["tcp", "udp"] as const;
export const FIRST = keysOf(KINDS, 1);
export const SECOND = keysOf(KINDS, 2);

export interface Streams {
  readonly ends: readonly [StreamEnd, StreamEnd];
  /** Messages that arrived. */
  arrived(key: string): number;
  sent(key: string): number;
}

export async function withStreams(
  { client, server }: Bench,
  run: (streams: Streams) => Promise<void>,
  kinds: readonly StreamKind[] = KINDS,
): Promise<void> {
  const first = new StreamEnd(server, "server", PORTS, SERVER, kinds);
  await first.begun;
  const second = new StreamEnd(client, "client", PORTS, SERVER, kinds);
  const all = [...keysOf(kinds, 1), ...keysOf(kinds, 2)];
  const isDown = (key: string): boolean => key.includes(":501");
  const [sent, arrived] = [
    (key: string) => (isDown(key) ? first : second).counts[key] ?? 0,
    (key: string) => (isDown(key) ? second : first).counts[key] ?? 0,
  ];
  try {
    await second.begun;
    await until(() => all.every((key) => arrived(key) > 20), "for all streams to run");
    await run({ ends: [first, second], sent, arrived });
  } finally {
    first.end();
    second.end();
  }
}

/** The flows stand still from now on. */
export async function expectStopped({ arrived }: Streams, flows: readonly string[]): Promise<void> {
  // What was on its way arrives, and is counted, which takes a busy machine longer.
  const end = performance.now() + 10_000;
  let before = flows.map(arrived);
  for (let last: readonly number[] = []; !equal(last, before) && performance.now() < end;) {
    await Bun.sleep(200);
    [last, before] = [before, flows.map(arrived)];
  }
  await Bun.sleep(1000);
  expect(flows.map((key, i) => [key, arrived(key) - (before[i] ?? 0)])).toEqual(flows.map((key) => [key, 0]));
}

/** Every message that was sent arrives. */
export async function expectWhole({ ends, sent, arrived }: Streams, flows: readonly string[]): Promise<void> {
  const before = flows.map(arrived);
  await until(() => flows.every((key, i) => arrived(key) > (before[i] ?? 0) + 20), "for the others to go on");
  for (const end of ends) end.rest();
  await Bun.sleep(100);
  const lost = (): (string | number)[][] => flows.map((key) => [key, sent(key) - arrived(key)]);
  await until(() => lost().every(([, n]) => n === 0), JSON.stringify(lost()));
}
