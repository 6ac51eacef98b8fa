import { describe, expect, test } from "bun:test";
import type { Sys } from "../../host/sys.ts";
import { EAGAIN, EINTR, ENOBUFS, EPROTO, KernelError } from "../errno.ts";
import { eachMessage, type Message, Span } from "./reader.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "./socket.ts";
import { Writer } from "./writer.ts";

describe("writer and reader", () => {
  test("every attribute form comes back as written", () => {
    const w = new Writer();
    w.message(7, 0x100, 42);
    w.putU16Be(w.header(4), 0x1234);
    w.flag(1);
    w.u8(2, 200);
    w.u16(3, 0xabcd);
    w.u16Be(4, 0xabcd);
    w.u32(5, 0xdeadbeef);
    w.u32Be(6, 0xdeadbeef);
    w.i32Be(7, -5);
    w.u64Be(8, 2n ** 63n + 1n);
    w.text(9, "héllo");
    w.hex(10, "00ff10");
    const nested = w.open(11);
    w.bytesOf(1, Uint8Array.of(1, 2, 3, 4, 5));
    w.u8(2, 1);
    w.close(nested);
    w.finish();
    const messages: Message[] = [];
    expect(eachMessage(w.bytes, (message) => messages.push(message))).toBe(true);
    expect(messages.length).toBe(1);
    const [message] = messages;
    expect({ type: message?.type, flags: message?.flags, sequence: message?.sequence }).toEqual({
      type: 7,
      flags: 0x101,
      sequence: 42,
    });
    expect(message?.body.u16Be()).toBe(0x1234);
    const attributes = message?.body.after(4)?.attributes();
    expect(attributes?.get(1)?.length).toBe(0);
    expect(attributes?.get(2)?.u8()).toBe(200);
    expect(attributes?.get(3)?.u16()).toBe(0xabcd);
    expect(attributes?.get(4)?.u16Be()).toBe(0xabcd);
    expect(attributes?.get(5)?.u32()).toBe(0xdeadbeef);
    expect(attributes?.get(6)?.u32Be()).toBe(0xdeadbeef);
    expect(attributes?.get(7)?.i32Be()).toBe(-5);
    expect(attributes?.get(8)?.u64Be()).toBe(2n ** 63n + 1n);
    expect(attributes?.get(9)?.text()).toBe("héllo");
    expect(attributes?.get(10)?.hex()).toBe("00ff10");
    expect(attributes?.get(11)?.attributes()?.get(1)?.copy()).toEqual(Uint8Array.of(1, 2, 3, 4, 5));
  });

  test("one attribute is found without the others, and its text compared in place", () => {
    const w = new Writer();
    w.message(7, 0, 1);
    w.text(1, "calico");
    w.u32(2, 7);
    w.text(2, "second");
    w.finish();
    eachMessage(w.bytes, ({ body }) => {
      expect(body.attribute(2)?.u32()).toBe(7);
      expect(body.attribute(3)).toBeUndefined();
      const text = body.attribute(1);
      expect(["calico", "calic", "calico2", "", "Calico"].map((each) => text?.isText(each))).toEqual([
        true,
        false,
        false,
        false,
        false,
      ]);
      expect(text?.slice(0, 6)?.isText("calico")).toBe(true);
    });
    // The first claims more bytes than there are.
    expect(Span.of(Uint8Array.of(200, 0, 1, 0, 8, 0, 2, 0, 0, 0, 0, 0)).attribute(2)).toBeUndefined();
  });

  test("the buffer grows, and earlier messages stay whole", () => {
    const w = new Writer();
    for (let i = 0; i < 3000; i++) {
      w.message(1, 0, i);
      w.u32(1, i);
    }
    w.finish();
    const seen: (number | undefined)[] = [];
    expect(eachMessage(w.bytes, ({ body }) => seen.push(body.attributes()?.get(1)?.u32()))).toBe(true);
    expect(seen).toEqual(Array.from({ length: 3000 }, (_, i) => i));
  });

  test("an attribute of 64 KiB is a bug, not a wrong length", () => {
    const w = new Writer();
    w.message(1, 0, 1);
    expect(() => w.bytesOf(1, new Uint8Array(65532))).toThrow("over 64 KiB");
    const nested = w.open(2);
    for (let i = 0; i < 10; i++) w.bytesOf(1, new Uint8Array(7000));
    expect(() => w.close(nested)).toThrow("over 64 KiB");
  });

  test("truncated at any byte, messages and attributes are malformed, never misread", () => {
    const w = new Writer();
    w.message(1, 0, 1);
    w.u32(1, 1);
    w.text(2, "ab");
    w.finish();
    const whole = w.bytes.slice();
    for (let length = 1; length < whole.length; length++) {
      expect(eachMessage(whole.slice(0, length), () => undefined)).toBe(false);
    }
    const body = whole.slice(16);
    // The first attribute ends at 8; the second has 7 bytes and one of padding.
    for (let length = 0; length < body.length; length++) {
      const attributes = Span.of(body.slice(0, length)).attributes();
      if (length === 0 || length === 8 || length === 15) expect(attributes).toBeDefined();
      else expect(attributes).toBeUndefined();
    }
  });

  test("values shorter than asked for are undefined", () => {
    const span = Span.of(Uint8Array.of(1, 2, 3));
    expect([
      span.u8(3),
      span.u16(2),
      span.u32(),
      span.u32Be(),
      span.i32(),
      span.u64Be(),
      span.after(4),
      span.slice(2, 4),
    ]).toEqual(Array(8).fill(undefined));
  });
});

/** A Sys whose socket answers with prepared datagrams, or errors; the sequence number of the request is filled in. */
function scripted(answers: readonly (((sequence: number) => Uint8Array) | number)[]): {
  sys: Sys;
  sent: Uint8Array[];
  left: () => number;
} {
  const queue = [...answers];
  const sent: Uint8Array[] = [];
  const unused = (): never => {
    throw new Error("not expected");
  };
  const sys: Sys = {
    implementation: "libc",
    socket: () => 3,
    setSocketOption: () => 0,
    close: () => 0,
    bind: unused,
    open: unused,
    read: unused,
    write: unused,
    setNamespace: unused,
    ioctl: unused,
    map: unused,
    setLimit: unused,
    bpf: unused,
    send(_fd, bytes) {
      sent.push(bytes.slice());
      return bytes.length;
    },
    receive(_fd, buffer) {
      const next = queue.shift();
      if (next === undefined) return -EAGAIN;
      if (typeof next === "number") return next;
      const request = sent.at(-1) ?? new Uint8Array(16);
      const bytes = next(new DataView(request.buffer).getUint32(8, true));
      buffer.set(bytes);
      return bytes.length;
    },
  };
  return { sys, sent, left: () => queue.length };
}

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;

function answer(type: number, flags: number, words: readonly number[]): (sequence: number) => Uint8Array {
  return (sequence) => {
    const w = new Writer();
    w.message(type, flags, sequence);
    for (const word of words) w.putU32(w.header(4), word >>> 0);
    w.finish();
    return w.bytes.slice();
  };
}

const object = (value: number, flags = 0) => answer(20, flags, [value]);
const done = answer(NLMSG_DONE, 0, [0]);
const dumpOf = (socket: NetlinkSocket): (number | undefined)[] =>
  socket.dump(
    "list",
    "things",
    18,
    () => undefined,
    ({ body }) => body.u32(),
  );

describe("dumps", () => {
  test("objects of all datagrams until the end", () => {
    const { sys } = scripted([object(1), -EINTR, object(2), done]);
    expect(dumpOf(new NetlinkSocket(sys, NETLINK_ROUTE))).toEqual([1, 2]);
  });

  test("one that was interrupted is read to its end and repeated", () => {
    const { sys, sent } = scripted([object(1, 0x10), object(2), done, object(1), object(3), done]);
    expect(dumpOf(new NetlinkSocket(sys, NETLINK_ROUTE))).toEqual([1, 3]);
    expect(sent.length).toBe(2);
  });

  test("lost messages (ENOBUFS) repeat it, also when the end itself was lost", () => {
    const { sys } = scripted([object(1), -ENOBUFS, done, -ENOBUFS, -EAGAIN, object(7), done]);
    expect(dumpOf(new NetlinkSocket(sys, NETLINK_ROUTE))).toEqual([7]);
  });

  test("changing for ever is an error", () => {
    const { sys } = scripted(Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? object(1, 0x10) : done)));
    expect(() => dumpOf(new NetlinkSocket(sys, NETLINK_ROUTE))).toThrow("Cannot list things: EAGAIN");
  });

  test("an error ends it, also as the code of its end", () => {
    for (const end of [answer(NLMSG_ERROR, 0, [-1, 0, 0, 0, 0]), answer(NLMSG_DONE, 0, [-1])]) {
      const { sys } = scripted([object(1), end]);
      expect(() => dumpOf(new NetlinkSocket(sys, NETLINK_ROUTE))).toThrow("Cannot list things: EPERM");
    }
  });

  test("answers to other requests are passed over; an answer without end or malformed is an error", () => {
    const foreign = (sequence: number): Uint8Array => object(9)(sequence + 1);
    const first = scripted([foreign, object(1), done]);
    expect(dumpOf(new NetlinkSocket(first.sys, NETLINK_ROUTE))).toEqual([1]);
    for (const broken of [[object(1)], [() => Uint8Array.of(1, 2, 3)]]) {
      const { sys } = scripted(broken);
      expect(() => dumpOf(new NetlinkSocket(sys, NETLINK_ROUTE))).toThrow(KernelError);
    }
  });
});

describe("changes", () => {
  const acknowledged = answer(NLMSG_ERROR, 0, [0, 0, 0, 0, 0]);

  test("are counted, and done when acknowledged", () => {
    const { sys } = scripted([-EINTR, acknowledged]);
    const socket = new NetlinkSocket(sys, NETLINK_ROUTE);
    socket.change("add", "thing", 1, 0, () => undefined);
    expect(socket.writes).toBe(1);
  });

  test("a refusal carries the kernel's words", () => {
    const words = (sequence: number): Uint8Array => {
      const w = new Writer();
      w.message(NLMSG_ERROR, 0x300, sequence);
      const at = w.header(20);
      w.putU32(at, -17 >>> 0);
      w.putU32(at + 4, 100);
      w.text(1, "it is there");
      w.finish();
      return w.bytes.slice();
    };
    const { sys } = scripted([words]);
    expect(() => new NetlinkSocket(sys, NETLINK_ROUTE).change("add", "thing", 1, 0, () => undefined)).toThrow(
      "Cannot add thing: EEXIST (file exists): it is there",
    );
  });

  test("no answer, or lost ones, are errors", () => {
    for (const [answers, errno] of [
      [[], EPROTO],
      [[-ENOBUFS], ENOBUFS],
    ] as const) {
      const { sys } = scripted(answers);
      try {
        new NetlinkSocket(sys, NETLINK_ROUTE).change("add", "thing", 1, 0, () => undefined);
        expect.unreachable();
      } catch (error) {
        expect(error instanceof KernelError ? error.errno : error).toBe(errno);
      }
    }
  });
});
