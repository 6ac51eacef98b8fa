import { expect, test } from "bun:test";
import { type Connection, type Sockets, SocketError } from "../host/sockets.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { AnswerReader, askBird, configureBird } from "./control.ts";

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

function unused(): never {
  throw new Error("not used here");
}

/** A BIRD that sends its greeting and answers one command with a text, in chunks of `size` bytes. */
function bird(answer: string, size = 7): { sockets: Sockets; sent: string[] } {
  const sent: string[] = [];
  const connect = async (): Promise<Connection> => {
    let release = (): void => {};
    const asked = new Promise<void>((resolve) => (release = resolve));
    async function* input(): AsyncGenerator<Uint8Array> {
      yield encode("0001 BIRD 2.0.12 ready.\n");
      await asked;
      const bytes = encode(answer);
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    }
    return {
      input: input(),
      write: async (bytes) => (sent.push(new TextDecoder().decode(bytes)), release()),
      end: () => {},
    };
  };
  return { sent, sockets: { connect, listen: unused, fetch: unused, serve: unused } };
}

test("configure: done, in progress, and refused with BIRD's error", async () => {
  const clock = new VirtualClock();
  for (const answer of [
    "0002-Reading configuration from /b.conf\n0003 Reconfigured\n",
    "0002-Reading configuration from /b.conf\n0004 Reconfiguration in progress\n",
  ]) {
    const { sockets, sent } = bird(answer);
    await configureBird("/bird.ctl", { sockets, clock });
    expect(sent).toEqual(["configure\n"]);
  }
  const { sockets } = bird("0002-Reading configuration from /b.conf\n8002 /b.conf:3:1 syntax error, unexpected '}'\n");
  await expect(configureBird("/bird.ctl", { sockets, clock })).rejects.toMatchObject({
    name: "BirdError",
    code: 8002,
    message: `Cannot run "configure" on the BIRD at /bird.ctl: /b.conf:3:1 syntax error, unexpected '}'`,
  });
});

test("no BIRD, a silent one and one that closes the connection are errors that name socket and command", async () => {
  const clock = new VirtualClock();
  const refusing: Sockets = {
    ...bird("").sockets,
    connect: () => Promise.reject(new SocketError("connect to", "/none.ctl", "ENOENT")),
  };
  await expect(askBird("/none.ctl", "show status", { sockets: refusing, clock })).rejects.toThrow(
    'Cannot run "show status" on the BIRD at /none.ctl: Cannot connect to socket "/none.ctl": ENOENT',
  );
  const bug: Sockets = { ...refusing, connect: () => Promise.reject(new TypeError("undefined is not an object")) };
  await expect(askBird("/none.ctl", "show status", { sockets: bug, clock })).rejects.toBeInstanceOf(TypeError);
  await expect(askBird("/b", "show status", { sockets: bird("1000-BIRD\n").sockets, clock })).rejects.toThrow(
    "closed the connection",
  );
  const forever: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }),
  };
  const silent: Sockets = {
    ...refusing,
    connect: async () => ({ input: forever, write: async () => {}, end: () => {} }),
  };
  await expect(clock.until(askBird("/b", "show status", { sockets: silent, clock }))).rejects.toThrow(
    "no answer within 5000 ms",
  );
});

test("answers are the same however they are split", () => {
  const text = "0001 BIRD ready.\n1000-BIRD 2.0.12\n  more ü\n0013 up\n9001 syntax error\n";
  const whole = new AnswerReader().push(encode(text));
  expect(whole.map((answer) => answer.length)).toEqual([1, 3, 1]);
  const reader = new AnswerReader();
  const pieces = [...encode(text)].flatMap((byte) => reader.push(Uint8Array.of(byte)));
  expect(pieces).toEqual(whole);
});
