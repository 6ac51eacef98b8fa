import { describe, expect, test } from "bun:test";
import { SimClock } from "./clock.ts";
import { SimDisk } from "./files.ts";
import { openSimHost } from "./host.ts";
import { SimProcess, Stopped } from "./process.ts";
import { SimRandom } from "./random.ts";
import { SimSockets } from "./sockets.ts";
import type { Sys } from "../sys.ts";

/** Ends before its operation of that number. */
function endsBefore(number: number): SimProcess {
  let operations = 0;
  return new SimProcess(() => ++operations === number);
}

describe("clock", () => {
  test("sleepers wake in the order of their times, then of their going to sleep, and all that can run does between two", async () => {
    const clock = new SimClock();
    const seen: string[] = [];
    const sleep = async (name: string, ms: number): Promise<void> => {
      await clock.sleep(ms);
      for (let i = 0; i < 500; i++) await Promise.resolve();
      seen.push(`${name} ${clock.monotonicMs()}`);
    };
    for (const [name, ms] of [
      ["c", 30],
      ["a", 10],
      ["b", 10],
      ["d", 31],
    ] as const)
      void sleep(name, ms);
    await clock.advance(30);
    expect(seen).toEqual(["a 10", "b 10", "c 30"]);
  });

  test("a sleep ends at once when its signal aborts, and until says whether a promise settled in time", async () => {
    const clock = new SimClock();
    const abort = new AbortController();
    const sleeping = clock.sleep(1e9, abort.signal);
    abort.abort();
    await sleeping;
    expect(await clock.until(clock.sleep(10), 5)).toBe(false);
    expect([await clock.until(clock.sleep(10), 100), clock.monotonicMs()]).toEqual([true, 10]);
  });
});

describe("a process that ends", () => {
  test("throws out of what is synchronous, and never comes back from what is not", async () => {
    const process = endsBefore(2);
    const done: string[] = [];
    process.atEnd(() => done.push("descriptors closed"));
    process.pass("one");
    expect(() => process.pass("two")).toThrow(Stopped);
    expect(() => process.pass("three")).toThrow(Stopped);
    void process.run("four", () => done.push("never")).then(() => done.push("nor this"));
    await new SimClock().advance(1);
    expect([done, process.stopped]).toEqual([["descriptors closed"], true]);
  });

  test("before a file is renamed leaves the old file and the temporary one", async () => {
    const disk = new SimDisk();
    const files = disk.open(new SimProcess());
    await files.makeDirectory("/a/b");
    await files.writeText("/a/b/f", "old");
    void disk.open(endsBefore(2)).writeText("/a/b/f", "new");
    await new SimClock().advance(1);
    expect(await files.readText("/a/b/f")).toBe("old");
    expect((await files.list("/a/b")).map((name) => name.replace(/\d+/, "N"))).toEqual(["f", "f.N.tmp"]);
  });

  test("closes its sockets: who waits for its answer hears the end, and nobody listens any more", async () => {
    const sockets = new SimSockets();
    const server = endsBefore(3);
    const listener = await sockets.open(server).listen("/s", 0o600, async (connection) => {
      for await (const chunk of connection.input) await connection.write(chunk);
    });
    expect(listener).toBeDefined();
    const connection = sockets.connect("/s");
    await connection.write(new TextEncoder().encode("one"));
    const heard: string[] = [];
    const reading = (async () => {
      for await (const chunk of connection.input) heard.push(new TextDecoder().decode(chunk));
      return "end";
    })();
    await new SimClock().advance(1);
    await connection.write(new TextEncoder().encode("two"));
    expect(await reading).toBe("end");
    expect(heard).toEqual(["one"]);
    expect(() => sockets.connect("/s")).toThrow("ECONNREFUSED");
  });
});

describe("disk", () => {
  test("a full one takes no new content but gives files other names; one that takes nothing does neither", async () => {
    const disk = new SimDisk();
    const files = disk.open(new SimProcess());
    await files.makeDirectory("/a");
    await files.writeVolatile("/a/f", "x", 0o600);
    disk.takes = "nothing new";
    await expect(files.writeText("/a/f", "y")).rejects.toThrow("ENOSPC");
    await files.rename("/a/f", "/a/g");
    disk.takes = "nothing";
    await expect(files.rename("/a/g", "/a/f")).rejects.toThrow("EROFS");
    await expect(files.remove("/a/g")).rejects.toThrow("EROFS");
    expect(await files.readText("/a/g")).toBe("x");
  });

  test("when power fails what was synced stays, what was not may go, and what is in memory goes", async () => {
    const disk = new SimDisk();
    const files = disk.open(new SimProcess());
    for (const directory of ["/etc", "/run"]) await files.makeDirectory(directory);
    await files.writeText("/etc/synced", "x");
    await files.writeVolatile("/etc/volatile", "x", 0o600);
    await files.writeText("/run/synced", "x");
    disk.crash("/run", () => false);
    expect([disk.below("/etc"), disk.below("/run")]).toEqual([["/etc/synced"], []]);
  });
});

test("a watched socket is read in a turn of its own, and its loss closes it and is told once", async () => {
  const data = [Uint8Array.of(1), Uint8Array.of(2), -105];
  let readable: (() => void) | undefined;
  const closed: number[] = [];
  const sys = {
    receive: (_fd: number, buffer: Uint8Array) => {
      const next = data.shift() ?? -11;
      if (typeof next === "number") return next;
      buffer.set(next);
      return next.length;
    },
    close: (fd: number) => (closed.push(fd), 0),
  } as Partial<Sys> as Sys;
  const host = openSimHost(
    {
      clock: new SimClock(),
      random: new SimRandom(1),
      disk: new SimDisk(),
      sockets: new SimSockets(),
      sys,
      whenReadable: (_fd, run) => (readable = run),
    },
    new SimProcess(),
  );
  const seen: string[] = [];
  host.watcher.watch(7, { received: (bytes) => seen.push(String(bytes[0])), lost: (cause) => seen.push(cause) });
  readable?.();
  expect(seen).toEqual([]);
  await new SimClock().advance(1);
  expect([seen, closed, readable]).toEqual([["1", "2", "ENOBUFS"], [7], undefined]);
});

test("a program that wakes again and again without waiting is told so, and one that waits is not", async () => {
  const clock = new SimClock();
  const ended = new AbortController();
  const spin = async (ms: number): Promise<void> => {
    while (!ended.signal.aborted) await clock.sleep(ms);
  };
  void spin(1);
  await clock.advance(30_000);
  void spin(0);
  await expect(clock.advance(10)).rejects.toThrow("time stands still");
  ended.abort();
  await clock.advance(10);
});
