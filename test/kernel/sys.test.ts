import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { openSys } from "../../src/host/bun/sys.ts";
import { EAGAIN, EINVAL, ENOENT } from "../../src/kernel/errno.ts";
import { openNamespace } from "../../src/kernel/netns.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { withNamespaces } from "./fixture.ts";

const EBADF = 9;
const ENOTTY = 25;
const ECONNREFUSED = 111;
const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const RLIMIT_CORE = 4;
const CLONE_NEWNET = 0x40000000;
/** FIONREAD: bytes waiting, as an int. */
const FIONREAD = 0x541b;

test("the trampoline is chosen where it works", () => {
  expect(openSys().implementation).toBe("trampoline");
});

/** struct sockaddr_in on the loopback. */
function loopback(port: number): Uint8Array {
  return Uint8Array.of(AF_INET, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0);
}

describe.each(["trampoline", "libc"] as const)("%s", (implementation) => {
  const sys = openSys({ implementation });

  test("says what it is", () => {
    expect(sys.implementation).toBe(implementation);
  });

  test("files: open, read, write, close, and their errors", () => {
    const fd = sys.open("/proc/self/comm", 0);
    expect(fd).toBeGreaterThan(2);
    const buffer = new Uint8Array(64);
    const length = sys.read(fd, buffer);
    expect(new TextDecoder().decode(buffer.subarray(0, length))).toMatch(/^bun(\.exe)?\n$/);
    expect(sys.read(fd, buffer)).toBe(0);
    expect(sys.write(fd, buffer)).toBe(-EBADF);
    expect(sys.ioctl(fd, 0x1234, new Uint8Array(8))).toBe(-ENOTTY);
    expect(sys.close(fd)).toBe(0);
    expect(sys.close(fd)).toBe(-EBADF);
    expect(sys.open("/proc/self/none", 0)).toBe(-ENOENT);
  });

  test("limits: both at once, and their errors", () => {
    const limits = (): string =>
      /^Max core file size +(.*?) +bytes/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? "";
    expect(sys.setLimit(RLIMIT_CORE, 4096n)).toBe(0);
    expect(limits()).toMatch(/^4096 +4096$/);
    expect(sys.setLimit(99, 0n)).toBe(-EINVAL);
  });

  test("sockets: bind, send, receive, truncation, ioctl in place", () => {
    const receiver = sys.socket(AF_INET, SOCK_DGRAM, 0);
    const sender = sys.socket(AF_INET, SOCK_DGRAM, 0);
    try {
      // An unused port: bind says which are taken.
      let port = 20000 + (process.pid % 20000);
      while (sys.bind(receiver, loopback(port)) < 0) port++;
      const buffer = new Uint8Array(4);
      expect(sys.receive(receiver, buffer, 0x40)).toBe(-EAGAIN);
      expect(sys.send(sender, Uint8Array.of(1, 2, 3, 4, 5, 6), 0, loopback(port))).toBe(6);
      const waiting = new Uint8Array(4);
      // The loopback delivers a moment later when the machine is busy.
      do expect(sys.ioctl(receiver, FIONREAD, waiting)).toBe(0);
      while (waiting[0] === 0);
      expect(waiting[0]).toBe(6);
      // MSG_TRUNC: the whole length, of which the buffer has the beginning.
      expect(sys.receive(receiver, buffer, 0x20)).toBe(6);
      expect([...buffer]).toEqual([1, 2, 3, 4]);
      expect(sys.setSocketOption(receiver, 1, 8, 65536)).toBe(0);
      expect(sys.setSocketOption(receiver, 1, 9999, 1)).toBeLessThan(0);
    } finally {
      sys.close(receiver);
      sys.close(sender);
    }
  });

  test("buffers larger than the arena, and small ones that the collector may move", () => {
    const socket = sys.socket(AF_UNIX, SOCK_DGRAM, 0);
    const large = new Uint8Array(3 << 20);
    const name = new TextEncoder().encode("\0calico-test-nobody");
    const address = new Uint8Array(2 + name.length);
    address.set([AF_UNIX, 0]);
    address.set(name, 2);
    expect(sys.send(socket, large, 0, address)).toBeOneOf([-ECONNREFUSED, -90]);
    sys.close(socket);
    for (let i = 0; i < 20_000; i++) {
      const fd = sys.open("/dev/zero", 0);
      const small = new Uint8Array(8).fill(255);
      if (sys.read(fd, small) !== 8 || small.some((byte) => byte !== 0))
        throw new Error(`round ${i}: ${[...small].join()}`);
      if (sys.close(fd) !== 0) throw new Error(`round ${i}: close`);
    }
  });

  test("namespaces and netlink work over it", () => {
    expect(sys.setNamespace(-1, CLONE_NEWNET)).toBe(-EBADF);
    const wrong = sys.open("/dev/null", 0);
    expect(sys.setNamespace(wrong, CLONE_NEWNET)).toBe(-EINVAL);
    sys.close(wrong);
    withNamespaces(["sys"], (namespace) => {
      const target = openNamespace(sys, namespace.path);
      const [route, nft] = namespace.enter(
        () => [new RouteClient(sys), new NftablesClient(sys, { family: "ip6", name: "t" })] as const,
      );
      expect(route.links().map(({ name }) => name)).toEqual(["lo"]);
      nft.commit([{ do: "add-table" }]);
      expect(nft.read()).toEqual({ flags: [], owner: undefined, chains: new Map(), sets: new Map() });
      sys.close(target);
      route.close();
      nft.close();
    });
  });
});
