/**
 * The way past the host stack: packets in the middle of a flow go from one interface to the other by the program itself, as the stack would forward
 * them; what the stack would have to answer, or might decide otherwise, goes to the stack. Raw packets between pods of a node, and a device, both families.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { finishSteps } from "../../src/dataplane/driver.ts";
import {
  CONNECTION_BYTES,
  CUT,
  decodeConnection,
  encodeConnection,
  encodeConnectionKey,
} from "../../src/dataplane/ebpf/connections.ts";
import { pastOf } from "../../src/dataplane/ebpf/counters.ts";
import { dumpFlows } from "../../src/dataplane/ebpf/dump-flows.ts";
import { decodeState, encodeAddressKey, encodeState, words } from "../../src/dataplane/ebpf/layout.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { Attachments } from "../../src/kernel/bpf/attach.ts";
import { loadProgram } from "../../src/kernel/bpf/program.ts";
import { type Addr, addrBytes } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { ICMP, ICMPV6, TCP, UDP } from "../../src/net/protocol.ts";
import type { Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { makeBpfFs } from "./bpffs.ts";
import { EbpfBench } from "./ebpf-bench.ts";
import { OBJECT } from "./ebpf-driver.ts";
import { makeNamespace, type Namespace, REAL, removeNamespace, sys } from "./fixture.ts";
import { sysIn, until } from "./flow-bench.ts";
import { HOST_MAC, POD_MAC, routeDefault, routePod } from "./pods.ts";
import { checksum, encodePacket, ipPacket, markerOf, Port, turned } from "./wire.ts";

interface Family {
  readonly name: string;
  readonly client: Addr;
  readonly server: Addr;
  readonly world: Addr;
  readonly icmp: typeof ICMP | typeof ICMPV6;
}

function familyOf(name: string, icmp: Family["icmp"], ...addresses: readonly [string, string, string]): Family {
  const [client, server, world] = addresses as readonly string[] as readonly [Addr, Addr, Addr];
  return { name, client, server, world, icmp };
}

const FAMILIES = [
  familyOf("IPv4", ICMP, "10.65.0.2", "10.65.0.1", "198.51.100.7"),
  familyOf("IPv6", ICMPV6, "fd00:65::2", "fd00:65::1", "2001:db8:7::7"),
];
const NODE = ["203.0.113.1/32", "2001:db8:f::1/128"];
const [OPEN, CLOSED]: readonly [Stage, Stage] = [
  { tiers: [], profiles: [], otherwise: "allow" },
  { tiers: [], profiles: [], otherwise: "deny" },
];
const ETHERNET = 14;
/** `r0 = TC_ACT_UNSPEC; exit`. */
const NOTHING = Uint8Array.from([0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0]);

const NAMES = ["server", "client", "third", "world"] as const;
type Name = (typeof NAMES)[number];

let bench: EbpfBench;
let node: Namespace;
let ports: { readonly [P in Name]: Port };
let port = 40_000;

function endpointOf(name: string, addresses: readonly Addr[], ingress: Stage, egress: Stage): Endpoint {
  const source = { kind: "Pod", namespace: "a", name } as const;
  return { kind: "workload", source, addresses, stages: { normal: { ingress, egress } } };
}

/** `at`: the interface of the server. */
function program({ at = "cali0", opens = true, goesPast = true } = {}): Program {
  const addressesOf = (name: "client" | "server"): Addr[] => FAMILIES.map((family) => family[name]);
  const third = at === "cali2" ? "cali0" : "cali2";
  const egress = opens ? OPEN : CLOSED;
  return {
    settings: { ...DEFAULT_SETTINGS, goesPastStack: goesPast },
    sets: new Map(),
    policies: new Map(),
    endpoints: new Map([
      [at as EndpointId, endpointOf("server", addressesOf("server"), OPEN, CLOSED)],
      ["cali1" as EndpointId, endpointOf("client", addressesOf("client"), CLOSED, egress)],
      [third as EndpointId, endpointOf("third", ["10.65.0.3" as Addr], OPEN, OPEN)],
    ]),
    routes: new Map(),
  };
}

function commit(wanted: Program = program()): void {
  bench.lower(wanted);
  finishSteps(bench.driver.reading());
  finishSteps(bench.driver.committing());
}

beforeAll(() => {
  const names = ["cali0", "cali1", "cali2", "world"];
  bench = new EbpfBench(
    names.map((name) => ({ interface: name, addresses: [] })),
    (own) => {
      for (const address of NODE) own.run(["ip", "addr", "add", address, "dev", "lo"]);
      routeDefault(own, "world");
      for (const setting of ["ipv4.icmp_ratelimit", "ipv6.icmp.ratelimit"])
        own.run(["sysctl", "-qw", `net.${setting}=0`]);
    },
  );
  ({ node } = bench);
  const [server, client, third, world] = NAMES.map((_, i) => bench.port(i)) as [Port, Port, Port, Port];
  ports = { server, client, third, world };
});
beforeEach(() => {
  for (const family of FAMILIES) {
    routePod(node, "cali0", family.server);
    routePod(node, "cali1", family.client);
  }
  commit();
  port++;
});
afterEach(() => bench.forgetFlows());
afterAll(() => bench.close());

function past(): number {
  return pastOf(bench.driver.maps.past);
}

/** What was found in this tick of the kernel's clock, of at most 10 ms, is forgotten with it. */
function nextTick(): Promise<void> {
  return Bun.sleep(20);
}

/** The frame as it arrives; `body`: of the marker that it ends with. undefined: it has not within the time that others take. */
async function arrived(to: Name, sent: number): Promise<Uint8Array | undefined> {
  for (let i = 0; i < 200; i++) {
    const found = ports[to].frames().find((frame) => markerOf(frame) === sent);
    if (found !== undefined) return found;
    await Bun.sleep(1);
  }
  return undefined;
}

/** Sends it in the middle of its flow, and whether it arrives. */
async function passes(
  from: Name,
  to: Name,
  packet: FlowPacket,
  change?: (body: Uint8Array) => Uint8Array,
): Promise<Uint8Array | undefined> {
  const sent = bench.nextMarker();
  const body = middleOf(packet, sent);
  ports[from].sendBody(change === undefined ? body : change(body));
  return arrived(to, sent);
}

/** A segment of TCP that only acknowledges. */
function middleOf(packet: FlowPacket, own: number): Uint8Array {
  const body = encodePacket(packet, own);
  if (packet.protocol === TCP) body[headerOf(body) + 13] = 0x10;
  return body;
}

function headerOf(body: Uint8Array): number {
  return (body[0] ?? 0) >> 4 === 4 ? 20 : 40;
}

/** A flow in the middle, so far that both directions go past the stack. */
async function begin(from: Name, to: Name, call: FlowPacket): Promise<void> {
  const opening = bench.nextMarker();
  ports[from].sendBody(encodePacket(call, opening));
  expect(await arrived(to, opening)).toBeDefined();
  const answer = bench.nextMarker();
  const body = encodePacket(turned(call), answer);
  if (call.protocol === TCP) body[headerOf(body) + 13] = 0x12;
  ports[to].sendBody(body);
  expect(await arrived(from, answer)).toBeDefined();
  for (const [a, b, packet] of [
    [from, to, call],
    [to, from, turned(call)],
  ] as const)
    expect(await passes(a, b, packet)).toBeDefined();
  const before = past();
  expect(await passes(from, to, call)).toBeDefined();
  expect(await passes(to, from, turned(call))).toBeDefined();
  expect(past() - before).toBe(2);
}

function macOf(frame: Uint8Array, at: number): string {
  return [...frame.subarray(at, at + 6)].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** Hops that the packet in the frame may still go; an IPv4 header's checksum must be right. */
function hopsOf(frame: Uint8Array): number {
  const body = frame.subarray(ETHERNET);
  if ((body[0] ?? 0) >> 4 === 6) return body[7] ?? 0;
  expect(checksum(body.slice(0, 20))).toBe(0);
  return body[8] ?? 0;
}

function withHops(body: Uint8Array, hops: number): Uint8Array {
  const changed = body.slice();
  if ((body[0] ?? 0) >> 4 === 6) changed[7] = hops;
  else {
    changed[8] = hops;
    changed.set([0, 0], 10);
    new DataView(changed.buffer).setUint16(10, checksum(changed.slice(0, 20)));
  }
  return changed;
}

/** How many packets went past the stack meanwhile. */
async function pastWhile(run: () => Promise<void>): Promise<number> {
  const before = past();
  await run();
  return past() - before;
}

/** What comes back to the client from the node itself, of that type and code. */
async function isAnswered(icmp: number, type: number, code: number): Promise<boolean> {
  for (const end = Date.now() + 10_000; Date.now() < end;) {
    for (const frame of ports.client.frames()) {
      const body = frame.subarray(ETHERNET);
      const header = headerOf(body);
      const protocol = header === 20 ? body[9] : body[6];
      if (protocol === icmp && body[header] === type && body[header + 1] === code) return true;
    }
    await Bun.sleep(1);
  }
  return false;
}

test("where the kernel's settings cannot be written, the way stays closed, and it is told", () => {
  const [own, other] = [makeBpfFs(), makeNamespace("readonly")];
  const base = sysIn(REAL, other);
  const [EROFS, O_WRONLY] = [30, 1];
  const open: typeof base.open = (path, flags) =>
    path.endsWith("/nf_conntrack_tcp_be_liberal") && flags === O_WRONLY ? -EROFS : base.open(path, flags);
  const options = { object: () => OBJECT, pins: own.path, clock: openClock(), ownsTable: false, report: () => {} };
  const refused = new EbpfDriver({ ...base, open }, options);
  try {
    finishSteps(refused.reading());
    refused.lower(program(), { ...program(), members: new Map() });
    finishSteps(refused.committing());
    expect(refused.failures).toMatchObject([{ row: "way past the host stack", state: "failed", errno: EROFS }]);
    expect(refused.image?.state).toMatchObject({ goesPast: false });
    expect(refused.pending).toBe(0);
  } finally {
    refused.close();
    removeNamespace(other);
    own.remove();
  }
});

for (const { name, client: c, server: s, world: w, icmp } of FAMILIES)
  describe(name, () => {
    const is4 = icmp === ICMP;
    const callOf = (protocol: typeof UDP | typeof TCP = UDP, destination: Addr = s): FlowPacket => ({
      source: c,
      destination,
      protocol,
      sourcePort: port,
      destinationPort: 8080,
    });

    for (const protocol of [UDP, TCP] as const)
      test(`protocol ${protocol}: one hop less, the neighbor's address, nothing at the host end`, async () => {
        const call = callOf(protocol);
        await begin("client", "server", call);
        expect(dumpFlows(sys, bench.driver.maps, new Map())).toMatchObject([
          { protocol, state: "answered", isPast: true },
        ]);
        const host = new Port(node, "cali0", HOST_MAC);
        try {
          for (let i = 0; i < 20; i++) {
            const frame = (await passes("client", "server", call)) ?? new Uint8Array(ETHERNET + 40);
            expect(hopsOf(frame)).toBe(63);
            expect([macOf(frame, 0), macOf(frame, 6)]).toEqual([POD_MAC, HOST_MAC]);
          }
          expect(host.markers().filter((seen) => bench.isMarker(seen))).toEqual([]);
        } finally {
          host.close();
        }
      });

    test("many in one tick of the kernel's clock are as the first", async () => {
      const call = callOf(TCP);
      await begin("client", "server", call);
      const sent = Array.from({ length: 150 }, () => bench.nextMarker());
      const went = await pastWhile(async () => {
        for (const own of sent) ports.client.sendBody(middleOf(call, own));
        const found = new Map<number, Uint8Array>();
        await until(() => {
          for (const frame of ports.server.frames()) found.set(markerOf(frame), frame);
          return found.size >= sent.length;
        });
        for (const own of sent) expect(hopsOf(found.get(own) ?? new Uint8Array(60))).toBe(63);
        for (const frame of found.values()) expect([macOf(frame, 0), macOf(frame, 6)]).toEqual([POD_MAC, HOST_MAC]);
      });
      expect(went).toBe(sent.length);
    });

    test("a packet that is not like the others goes by the stack even among many of them", async () => {
      const call = callOf(TCP);
      await begin("client", "server", call);
      // What opens a connection is judged, and changes nothing of one that is open.
      const synAck = (body: Uint8Array): Uint8Array => {
        body[headerOf(body) + 13] = 0x12;
        return body;
      };
      const lastHop = (body: Uint8Array): Uint8Array => withHops(body, 1);
      // IPv4: with an option that looks like the flow's ports.
      const likePorts = (body: Uint8Array): Uint8Array => withOption(body, [...body.subarray(20, 24)]);
      for (const change of [
        lastHop,
        (body: Uint8Array) => (is4 ? withOption(body) : withExtension(body)),
        ...(is4 ? [likePorts] : []),
        synAck,
      ]) {
        const went = await pastWhile(async () => {
          for (let i = 0; i < 30; i++) {
            for (let j = 0; j < 4; j++) ports.client.sendBody(middleOf(call, bench.nextMarker()));
            ports.client.sendBody(change(middleOf(call, bench.nextMarker())));
          }
        });
        expect(went).toBe(120);
        ports.server.frames();
      }
    });

    /** Four packets of the flow, and at once another, many times: of the flow's own, all went past the stack, and of the others none. */
    async function amongMany(own: Uint8Array, other: () => void): Promise<void> {
      const went = await pastWhile(async () => {
        for (let i = 0; i < 30; i++) {
          for (let j = 0; j < 4; j++) ports.client.sendBody(own);
          other();
        }
      });
      expect(went).toBe(120);
      for (const each of Object.values(ports)) each.frames();
    }

    test("flows that come to the same place among what was found have nothing of each other", async () => {
      const [call, marker] = [callOf(TCP), bench.nextMarker()];
      const atPlace = (changed: (i: number) => Partial<FlowPacket>): Uint8Array => {
        for (let i = 1; i < 65_536; i++) {
          const packet = { ...call, ...changed(i) };
          if (placeOf(packet) === placeOf(call)) return middleOf(packet, marker);
        }
        throw new Error("nothing leads to that place");
      };
      const address = (i: number): Addr =>
        (is4 ? `198.51.${i >> 8}.${i & 255}` : `2001:db8:7::${i.toString(16)}`) as Addr;
      const others: readonly (readonly [Name, Uint8Array])[] = [
        ["client", atPlace((i) => ({ sourcePort: (port + i) & 0xffff }))],
        ["client", atPlace((i) => ({ destination: address(i) }))],
        ["client", atPlace((i) => ({ source: address(i) }))],
        ["client", encodeBig(call, 100)],
        ["third", middleOf(call, marker)],
      ];
      await begin("client", "server", call);
      for (const [from, body] of others) await amongMany(middleOf(call, marker), () => ports[from].sendBody(body));
    });

    test("what is bigger than fits goes by the stack even among many that fit", async () => {
      const call = callOf();
      node.run(["ip", "link", "set", "cali0", "mtu", "1300"]);
      try {
        commit();
        await begin("client", "server", call);
        await amongMany(encodeBig(call, 100), () => ports.client.sendBody(encodeBig(call, 1302)));
      } finally {
        node.run(["ip", "link", "set", "cali0", "mtu", "1500"]);
      }
    });

    test("what is sent to another interface, has a tag, or lacks bytes goes by the stack even among many", async () => {
      const call = callOf(TCP);
      const body = middleOf(call, bench.nextMarker());
      const short = body.slice();
      new DataView(short.buffer).setUint16(is4 ? 2 : 4, body.length + 100);
      const stray = new Port(bench.others[1] ?? bench.node, "eth0", "02:00:00:00:00:09");
      try {
        await begin("client", "server", call);
        for (const send of [
          () => ports.client.sendBody(body, 5),
          () => stray.sendBody(body),
          () => ports.client.sendBody(short),
        ])
          await amongMany(body, send);
      } finally {
        stray.close();
      }
    });

    test("what was found holds for one generation, and while the way is open", async () => {
      const call = callOf(TCP);
      const body = middleOf(call, bench.nextMarker());
      await begin("client", "server", call);
      const { state, addresses } = bench.driver.maps;
      const now = decodeState(state.lookup(words(0)) ?? new Uint8Array(16));
      await amongMany(body, () => {
        state.update(words(0), encodeState({ ...now, goesPast: false }));
        ports.client.sendBody(body);
        state.update(words(0), encodeState(now));
      });
      // In the next generation the client has lost its address.
      const index = Number(node.run(["cat", "/sys/class/net/cali1/ifindex"]));
      const [key, life] = [encodeAddressKey(index, c), words(now.generation, now.generation + 1)];
      addresses.update(key, life);
      await amongMany(body, () => {
        state.update(words(0), encodeState({ ...now, generation: now.generation + 1 }));
        ports.client.sendBody(body);
        state.update(words(0), encodeState(now));
      });
      addresses.update(key, words(now.generation, 0));
    });

    test("what was found is forgotten with the tick", async () => {
      const call = callOf(TCP);
      await begin("client", "server", call);
      await amongMany(middleOf(call, bench.nextMarker()), () => {});
      node.run(["ip", is4 ? "-4" : "-6", "route", "del", s]);
      await nextTick();
      const went = await pastWhile(async () => {
        for (let i = 0; i < 8; i++) ports.client.sendBody(middleOf(call, bench.nextMarker()));
      });
      expect(went).toBe(0);
    });

    test.skipIf(!is4)("a checksum that carries over is right too", async () => {
      const call = callOf();
      await begin("client", "server", call);
      for (const wanted of [0xfdff, 0xfeff, 0xfffe, 0xff00])
        for (let i = 0; i < 4; i++) {
          const went = await pastWhile(async () => {
            const frame = await passes("client", "server", call, (body) => withChecksum(body, wanted));
            expect(hopsOf(frame ?? new Uint8Array(60))).toBe(63);
          });
          expect(went).toBe(1);
        }
    });

    test("what answers a flow by another device goes by the stack", async () => {
      const call = callOf(UDP, w);
      const world = bench.others[NAMES.indexOf("world")] as Namespace;
      await begin("client", "world", call);
      node.run([
        "ip",
        "link",
        "add",
        "world2",
        "address",
        HOST_MAC,
        "type",
        "veth",
        "peer",
        "name",
        "eth1",
        "netns",
        world.name,
      ]);
      try {
        node.run(["ip", "link", "set", "world2", "up"]);
        world.run(["ip", "link", "set", "eth1", "up"]);
        commit();
        const second = new Port(world, "eth1", HOST_MAC);
        const went = await pastWhile(async () => {
          const sent = bench.nextMarker();
          second.sendBody(middleOf(turned(call), sent));
          expect(await arrived("client", sent)).toBeDefined();
        });
        second.close();
        expect(went).toBe(0);
      } finally {
        node.run(["ip", "link", "del", "world2"]);
      }
    });

    test("the last hop is answered by the node", async () => {
      const call = callOf();
      await begin("client", "server", call);
      const went = await pastWhile(async () => {
        ports.client.sendBody(withHops(middleOf(call, bench.nextMarker()), 1));
        expect(await isAnswered(icmp, is4 ? 11 : 3, 0)).toBe(true);
      });
      expect(went).toBe(0);
      const frame = await passes("client", "server", call, (body) => withHops(body, 2));
      expect(hopsOf(frame ?? new Uint8Array(60))).toBe(1);
    });

    test("what is too big is answered by the node, with the size", async () => {
      const call = callOf();
      await begin("client", "server", call);
      node.run(["ip", "link", "set", "cali0", "mtu", "1300"]);
      await nextTick();
      try {
        // A frame may have four bytes more, for a tag.
        const big = encodeBig(call, 1302);
        const went = await pastWhile(async () => {
          ports.client.sendBody(big);
          expect(await isAnswered(icmp, is4 ? 3 : 2, is4 ? 4 : 0)).toBe(true);
        });
        expect(went).toBe(0);
        expect(await pastWhile(async () => void (await passes("client", "server", call)))).toBe(1);
      } finally {
        node.run(["ip", "link", "set", "cali0", "mtu", "1500"]);
      }
    });

    test("a neighbor that is not known is asked for by the node", async () => {
      const call = callOf();
      await begin("client", "server", call);
      node.run(["ip", "neigh", "del", s, "dev", "cali0"]);
      await nextTick();
      const went = await pastWhile(async () => {
        ports.client.sendBody(middleOf(call, bench.nextMarker()));
        // ARP, or a neighbor solicitation.
        let asked = false;
        await until(() => {
          for (const frame of ports.server.frames())
            asked ||= is4 ? frame[12] === 0x08 && frame[13] === 0x06 : frame[20] === ICMPV6 && frame[54] === 135;
          return asked;
        });
      });
      expect(went).toBe(0);
      routePod(node, "cali0", s);
      expect(await pastWhile(async () => void (await passes("client", "server", call)))).toBe(1);
    });

    test("options, extension headers, pieces, and what opens or ends a connection go by the stack", async () => {
      const call = callOf(TCP);
      await begin("client", "server", call);
      const without = await pastWhile(async () => {
        expect(
          await passes("client", "server", call, (body) => (is4 ? withOption(body) : withExtension(body))),
        ).toBeDefined();
      });
      expect(without).toBe(0);
      const udp = callOf();
      await begin("client", "server", udp);
      const pieces = await pastWhile(async () => {
        const sent = bench.nextMarker();
        for (const isFirst of [true, false]) ports.client.sendBody(pieceOf(udp, port, isFirst, sent));
        expect(await arrived("server", sent)).toBeDefined();
      });
      expect(pieces).toBe(0);
      for (const flags of [0x11, 0x14]) {
        const went = await pastWhile(async () => {
          const sent = bench.nextMarker();
          const body = middleOf(call, sent);
          body[headerOf(body) + 13] = flags;
          ports.client.sendBody(body);
          await arrived("server", sent);
        });
        expect(went).toBe(0);
      }
      // It is closed now.
      expect(await pastWhile(async () => void (await passes("client", "server", call)))).toBe(0);
    });

    test("another's source is dropped all the same, and what is the flow's but comes from elsewhere", async () => {
      const call = callOf();
      await begin("client", "server", call);
      const went = await pastWhile(async () => {
        expect(await passes("third", "server", call)).toBeUndefined();
        // What policy makes of it is another matter.
        await passes("world", "server", call);
      });
      expect(went).toBe(0);
    });

    test("a route that leads elsewhere, or nowhere, counts at once", async () => {
      const call = callOf();
      await begin("client", "server", call);
      const family = is4 ? "-4" : "-6";
      for (const route of [["blackhole"], ["unreachable"], ["prohibit"]]) {
        node.run(["ip", family, "route", "del", s]);
        await nextTick();
        node.run(["ip", family, "route", "add", ...route, s]);
        const went = await pastWhile(async () => {
          expect(await passes("client", "server", call)).toBeUndefined();
        });
        expect(went).toBe(0);
        node.run(["ip", family, "route", "del", ...route, s]);
        await nextTick();
        routePod(node, "cali0", s);
      }
      routePod(node, "cali2", s);
      const went = await pastWhile(async () => {
        expect(await passes("client", "server", call)).toBeUndefined();
      });
      expect(went).toBe(0);
      node.run(["ip", family, "route", "del", s]);
      await nextTick();
      routePod(node, "cali0", s);
      await begin("client", "server", { ...call, sourcePort: ++port });
    });

    test("a pod that has got the other's address gets none of its flows", async () => {
      const call = callOf();
      await begin("client", "server", call);
      commit(program({ at: "cali2", opens: false }));
      node.run(["ip", is4 ? "-4" : "-6", "route", "del", s]);
      await nextTick();
      routePod(node, "cali2", s);
      const went = await pastWhile(async () => {
        expect(await passes("client", "third", call)).toBeUndefined();
        expect(await passes("client", "server", call)).toBeUndefined();
        expect(await passes("third", "client", turned(call))).toBeUndefined();
        expect(await passes("server", "client", turned(call))).toBeUndefined();
      });
      expect(went).toBe(0);
      node.run(["ip", is4 ? "-4" : "-6", "route", "del", s]);
      await nextTick();
    });

    test("a flow that is cut stops in both directions", async () => {
      const call = callOf();
      await begin("client", "server", call);
      commit(program({ opens: false }));
      expect(await passes("client", "server", call)).toBeDefined();
      const key = encodeConnectionKey({ ...call, sourcePort: port, destinationPort: 8080 });
      const found = bench.driver.maps.connections.lookup(key) ?? new Uint8Array(CONNECTION_BYTES);
      const connection = decodeConnection(found, is4 ? 4 : 6);
      bench.driver.maps.connections.update(key, encodeConnection({ ...connection, flags: connection.flags | CUT }));
      await nextTick();
      const went = await pastWhile(async () => {
        expect(await passes("server", "client", turned(call))).toBeUndefined();
        expect(await passes("client", "server", call)).toBeUndefined();
      });
      expect(went).toBe(0);
    });

    test("while an interface is down nothing goes there", async () => {
      const call = callOf();
      await begin("client", "server", call);
      node.run(["ip", "link", "set", "cali0", "down"]);
      await nextTick();
      try {
        expect(await pastWhile(async () => void (await passes("client", "server", call)))).toBe(0);
      } finally {
        node.run(["ip", "link", "set", "cali0", "up"]);
        for (const family of FAMILIES) routePod(node, "cali0", family.server);
      }
      // The node sent it to the device meanwhile: that was another flow.
      await begin("client", "server", { ...call, sourcePort: ++port });
    });

    test("once in 15 seconds the stack is asked, and what it drops stays dropped", async () => {
      const call = callOf();
      await begin("client", "server", call);
      const age = (): void => {
        const key = encodeConnectionKey({ ...call, sourcePort: port, destinationPort: 8080 });
        const found = bench.driver.maps.connections.lookup(key) ?? new Uint8Array(CONNECTION_BYTES);
        const view = new DataView(found.buffer);
        for (const at of [80, 84]) view.setUint32(at, view.getUint32(at, true) - 14_400, true);
        bench.driver.maps.connections.update(key, found);
      };
      age();
      await Bun.sleep(20);
      const went: number[] = [];
      for (let i = 0; i < 2; i++)
        went.push(
          await pastWhile(async () => {
            expect(await passes("client", "server", call)).toBeDefined();
          }),
        );
      expect(went).toEqual([0, 1]);
      node.run(
        ["nft", "-f", "-"],
        `table inet others { chain f { type filter hook forward priority 5; udp sport ${port} drop; }; }`,
      );
      try {
        expect(await passes("client", "server", call)).toBeDefined();
        age();
        await Bun.sleep(20);
        for (let i = 0; i < 2; i++) expect(await passes("client", "server", call)).toBeUndefined();
      } finally {
        node.run(["nft", "delete", "table", "inet", "others"]);
      }
    });

    test("a device, to which a packet is sent as it would be by the stack, and back", async () => {
      const call = callOf(UDP, w);
      await begin("client", "world", call);
      const [there, back] = [await passes("client", "world", call), await passes("world", "client", turned(call))];
      for (const frame of [there, back]) {
        expect(hopsOf(frame ?? new Uint8Array(60))).toBe(63);
        expect(macOf(frame ?? new Uint8Array(60), 0)).toBe(POD_MAC);
      }
    });

    test("what is queued at the host end goes through it", async () => {
      node.run(["tc", "qdisc", "add", "dev", "cali0", "root", "pfifo"]);
      try {
        commit();
        const call = callOf();
        await begin("client", "server", call);
        const queued = (): number =>
          Number(/Sent \d+ bytes (\d+) pkt/.exec(node.run(["tc", "-s", "qdisc", "show", "dev", "cali0", "root"]))?.[1]);
        const before = queued();
        const went = await pastWhile(async () => {
          expect(hopsOf((await passes("client", "server", call)) ?? new Uint8Array(60))).toBe(63);
        });
        expect(went).toBe(1);
        expect(queued()).toBeGreaterThan(before);
      } finally {
        node.run(["tc", "qdisc", "del", "dev", "cali0", "root"]);
      }
    });

    test("an interface on which others classify what comes in keeps to the stack", async () => {
      const index = Number(node.run(["cat", "/sys/class/net/cali1/ifindex"]));
      const foreign = new Attachments(sysIn(REAL, node), { priority: 60_000, handle: 1 });
      const program = loadProgram(sys, { name: "foreign", license: "GPL", type: "tc", instructions: NOTHING });
      try {
        foreign.attach(index, "ingress", program, "foreign");
        commit();
        const call = callOf();
        const before = past();
        for (let i = 0; i < 3; i++) {
          expect(await passes("client", "server", call)).toBeDefined();
          expect(await passes("server", "client", turned(call))).toBeDefined();
        }
        expect(past()).toBe(before);
      } finally {
        foreign.detach(index, "ingress");
        foreign.close();
        sys.close(program);
      }
    });

    test("the setting changes while flows go on; the kernel's own settings are given back", async () => {
      const call = callOf(TCP);
      const liberal = (): string => node.run(["sysctl", "-n", "net.netfilter.nf_conntrack_tcp_be_liberal"]).trim();
      await begin("client", "server", call);
      expect(liberal()).toBe("1");
      commit(program({ goesPast: false }));
      expect(liberal()).toBe("0");
      const went = await pastWhile(async () => {
        expect(await passes("client", "server", call)).toBeDefined();
        expect(await passes("server", "client", turned(call))).toBeDefined();
      });
      expect(went).toBe(0);
      expect(bench.driver.plan()).toEqual([]);
      commit();
      expect(liberal()).toBe("1");
      expect(await passes("client", "server", call)).toBeDefined();
      expect(await passes("server", "client", turned(call))).toBeDefined();
      expect(await pastWhile(async () => void (await passes("client", "server", call)))).toBe(1);
    });
  });

/** Where the path keeps what it has found of packets like it (place_of in bpf/past.h). */
function placeOf({ source, destination, sourcePort = 0, destinationPort = 0 }: FlowPacket): number {
  const wordsOfAddress = (addr: Addr): number => {
    const view = new DataView(addrBytes(addr).slice().buffer);
    let folded = 0;
    for (let at = 0; at < view.byteLength; at += 4) folded ^= view.getUint32(at, true);
    return folded;
  };
  const swapped = (value: number): number => ((value & 255) << 8) | (value >> 8);
  const ports = swapped(sourcePort) | (swapped(destinationPort) << 16);
  const mixed =
    Math.imul(wordsOfAddress(source) ^ ports, 0x9e3779b1) + Math.imul(wordsOfAddress(destination), 0x85ebca77);
  return mixed >>> 22;
}

/** UDP of so many bytes that must not be taken to pieces. */
function encodeBig(packet: FlowPacket, bytes: number): Uint8Array {
  const header = addrBytes(packet.source).length === 4 ? 20 : 40;
  const payload = new Uint8Array(bytes - header);
  const view = new DataView(payload.buffer);
  for (const [i, value] of [packet.sourcePort ?? 0, packet.destinationPort ?? 0, payload.length, 0].entries())
    view.setUint16(2 * i, value);
  const body = ipPacket(packet.source, packet.destination, UDP, payload);
  if (header === 20) body[6] = 0x40;
  return header === 20 ? withHops(body, 64) : body;
}

/** IPv4: with the identification that gives it such a checksum. */
function withChecksum(body: Uint8Array, wanted: number): Uint8Array {
  const view = new DataView(body.buffer);
  for (let identification = 0; identification < 65_536; identification++) {
    view.setUint16(4, identification);
    view.setUint16(10, 0);
    if (checksum(body.slice(0, 20)) !== wanted) continue;
    view.setUint16(10, wanted);
    return body;
  }
  throw new Error(`no identification gives the checksum ${wanted}`);
}

/** With one that says nothing. */
function withOption(body: Uint8Array, option = [1, 1, 1, 0]): Uint8Array {
  const changed = Uint8Array.from([...body.subarray(0, 20), ...option, ...body.subarray(20)]);
  const view = new DataView(changed.buffer);
  changed[0] = 0x46;
  view.setUint16(2, changed.length);
  view.setUint16(10, 0);
  view.setUint16(10, checksum(changed.slice(0, 24)));
  return changed;
}

/** With options for the destination that say nothing. */
function withExtension(body: Uint8Array): Uint8Array {
  const options = [body[6] ?? 0, 0, 1, 4, 0, 0, 0, 0];
  const changed = Uint8Array.from([...body.subarray(0, 40), ...options, ...body.subarray(40)]);
  changed[6] = 60;
  new DataView(changed.buffer).setUint16(4, changed.length - 40);
  return changed;
}

/** The first, or the last, piece of a UDP packet. */
function pieceOf(packet: FlowPacket, identification: number, isFirst: boolean, own: number): Uint8Array {
  const payload = new Uint8Array(isFirst ? 16 : 8);
  const view = new DataView(payload.buffer);
  if (isFirst)
    for (const [i, value] of [packet.sourcePort ?? 0, packet.destinationPort ?? 0, 24, 0].entries())
      view.setUint16(2 * i, value);
  else view.setUint32(payload.length - 4, own);
  return ipPacket(packet.source, packet.destination, UDP, payload, { identification, isFirst });
}
