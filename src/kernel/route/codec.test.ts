import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Addr, addrFromInteger, bitsOf, type Family, parseAddr } from "../../net/addr.ts";
import { type Prefix, prefixOf } from "../../net/prefix.ts";
import { unwrap } from "../../lib/result.ts";
import { eachMessage, type Message, Span } from "../netlink/reader.ts";
import { Writer } from "../netlink/writer.ts";
import { decodeAddress, encodeAddress } from "./addresses.ts";
import { decodeLink, encodeVeth } from "./links.ts";
import { decodeMac, macBytes } from "./mac.ts";
import { decodeNeighbor, encodeNeighbor } from "./neighbors.ts";
import { decodeRoute, encodeRoute, type KernelRoute } from "./routes.ts";

function messageOf(write: (w: Writer) => void): Message {
  const w = new Writer();
  w.message(1, 0, 1);
  write(w);
  w.finish();
  let found: Message | undefined;
  expect(eachMessage(w.bytes.slice(), (message) => (found = message))).toBe(true);
  if (found === undefined) throw new Error("no message");
  return found;
}

/** Decoding every beginning of the body must not throw and must not invent what is not there. */
function expectCutsRefused(message: Message, decode: (message: Message) => unknown): void {
  const whole = decode(message);
  expect(whole).toBeDefined();
  const body = message.body.copy();
  for (let cut = 0; cut < body.length; cut++) {
    const span = Span.of(body.slice(0, cut));
    const found = decode({ ...message, body: span });
    if (found !== undefined) expect(Span.of(body.slice(0, cut)).length).toBeGreaterThan(8);
  }
}

const addr = (family: Family): fc.Arbitrary<Addr> =>
  fc.bigInt({ min: 1n, max: (1n << BigInt(bitsOf(family))) - 1n }).map((value) => addrFromInteger(family, value));
const family = fc.constantFrom<Family>(4, 6);
const prefix = (of: Family): fc.Arbitrary<Prefix> =>
  fc.tuple(addr(of), fc.integer({ min: 0, max: bitsOf(of) })).map(([base, length]) => prefixOf(base, length));

const route: fc.Arbitrary<KernelRoute> = family.chain((of) =>
  fc.record(
    {
      destination: prefix(of),
      table: fc.oneof(fc.integer({ min: 1, max: 255 }), fc.integer({ min: 256, max: 2 ** 32 - 1 })),
      protocol: fc.nat(255),
      type: fc.constant("unicast" as const),
      scope: fc.constantFrom(0, 253, 254),
      interfaceIndex: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      gateway: addr(of),
      onLink: fc.constant(true),
      // The families' defaults (0, 1024) are reported as absent.
      metric: fc.integer({ min: 1, max: 1023 }),
      source: addr(of),
      nextHops: fc.array(
        fc.record({
          interfaceIndex: fc.integer({ min: 1, max: 1000 }),
          gateway: fc.option(addr(of), { nil: undefined }),
          weight: fc.integer({ min: 1, max: 256 }),
        }),
        { minLength: 1, maxLength: 4 },
      ),
    },
    { requiredKeys: ["destination", "table", "protocol", "type", "scope"] },
  ),
);

describe("routes", () => {
  test("come back as written", () => {
    fc.assert(
      fc.property(route, (wanted) =>
        expect(decodeRoute(messageOf((w) => encodeRoute(w, wanted, true)))).toEqual(wanted),
      ),
    );
  });

  test("those that lead nowhere have no interface, and default metrics are absent", () => {
    const blackhole: KernelRoute = {
      destination: prefixOf(unwrap(parseAddr("fd00::")), 64),
      table: 254,
      protocol: 80,
      type: "blackhole",
      scope: 0,
    };
    expect(
      decodeRoute(messageOf((w) => encodeRoute(w, { ...blackhole, interfaceIndex: 1, metric: 1024 }, true))),
    ).toEqual(blackhole);
    const four: KernelRoute = { ...blackhole, destination: prefixOf(unwrap(parseAddr("10.0.0.0")), 8) };
    expect(decodeRoute(messageOf((w) => encodeRoute(w, { ...four, metric: 1024 }, true)))).toEqual({
      ...four,
      metric: 1024,
    });
  });

  test("cut at any byte they are refused or lack only whole attributes", () => {
    for (const wanted of fc.sample(route, { numRuns: 50, seed: 3 }))
      expectCutsRefused(
        messageOf((w) => encodeRoute(w, wanted, true)),
        decodeRoute,
      );
  });

  test("flipped bytes never throw", () => {
    fc.assert(
      fc.property(route, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }), (wanted, flips) => {
        const message = messageOf((w) => encodeRoute(w, wanted, true));
        const body = message.body.copy();
        for (const [at, value] of flips) body[at % body.length] = value;
        decodeRoute({ ...message, body: Span.of(body) });
        decodeLink({ ...message, body: Span.of(body) });
        decodeAddress({ ...message, body: Span.of(body) });
        decodeNeighbor({ ...message, body: Span.of(body) });
      }),
      { numRuns: 1000 },
    );
  });
});

test("addresses come back as written, and cuts are refused", () => {
  for (const text of ["10.0.0.1", "fd00::1"]) {
    const own = unwrap(parseAddr(text));
    const message = messageOf((w) => encodeAddress(w, 7, own, 32, true));
    expect(decodeAddress(message)).toEqual({ interfaceIndex: 7, addr: own, prefixLength: 32, usable: true });
    expectCutsRefused(message, decodeAddress);
  }
});

test("neighbours come back as written, and cuts are refused", () => {
  for (const text of ["10.0.0.1", "fd00::1"]) {
    const own = unwrap(parseAddr(text));
    const message = messageOf((w) => encodeNeighbor(w, 7, own, "aa:bb:cc:dd:ee:ff", true));
    expect(decodeNeighbor(message)).toEqual({
      interfaceIndex: 7,
      addr: own,
      mac: "aa:bb:cc:dd:ee:ff",
      permanent: true,
    });
    expectCutsRefused(message, decodeNeighbor);
  }
});

test("links: what a request for a pair says of its own end", () => {
  const message = messageOf((w) =>
    encodeVeth(w, {
      name: "cali1",
      mac: "ee:ee:ee:ee:ee:ee",
      mtuBytes: 1450,
      up: true,
      peerName: "eth0",
      peerMac: undefined,
      peerNamespaceFd: 3,
    }),
  );
  expect(decodeLink(message)).toEqual({
    index: 0,
    name: "cali1",
    kind: "veth",
    mac: "ee:ee:ee:ee:ee:ee",
    mtuBytes: 1450,
    up: true,
    group: 0,
    peerIndex: undefined,
    ipv4: undefined,
    ipv6: undefined,
  });
  expectCutsRefused(message, decodeLink);
});

test("MAC addresses", () => {
  expect(decodeMac(Span.of(macBytes("0a:00:ff:10:20:30")))).toBe("0a:00:ff:10:20:30");
  expect(decodeMac(Span.of(new Uint8Array(8)))).toBeUndefined();
  for (const text of ["", "0A:00:ff:10:20:30", "0a:00:ff:10:20", "0a00ff102030"])
    expect(() => macBytes(text)).toThrow("not a canonical MAC");
});
