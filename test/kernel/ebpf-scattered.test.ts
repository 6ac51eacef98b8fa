/**
 * Packets whose headers are not in their first piece of memory: they are read and judged as others are, at workloads and at host endpoints. Raw packets
 * of 6,000 bytes between a device, which may have a host endpoint, and two pods, both families.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Addr } from "../../src/net/addr.ts";
import { ICMP, ICMPV6, UDP } from "../../src/net/protocol.ts";
import type { Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program, Stages } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { EbpfBench } from "./ebpf-bench.ts";
import { packetsDropped, packetsDroppedAt } from "./ebpf-drops.ts";
import { routeDefault } from "./pods.ts";
import { ipPacket } from "./wire.ts";

const FAMILIES = (
  [
    {
      name: "IPv4",
      icmp: ICMP,
      echo: 8,
      unreachable: 3,
      server: "10.65.0.1",
      client: "10.65.0.2",
      world: "198.51.100.7",
    },
    {
      name: "IPv6",
      icmp: ICMPV6,
      echo: 128,
      unreachable: 1,
      server: "fd00:65::1",
      client: "fd00:65::2",
      world: "2001:db8:7::7",
    },
  ] as const
).map(({ server, client, world, ...rest }) => ({
  ...rest,
  server: server as string as Addr,
  client: client as string as Addr,
  world: world as string as Addr,
}));
const [SERVER, CLIENT, WORLD] = [0, 1, 2];
const MTU = 9000;
const BYTES = 6000;

const [OPEN, CLOSED]: readonly [Stage, Stage] = [
  { tiers: [], profiles: [], otherwise: "allow" },
  { tiers: [], profiles: [], otherwise: "deny" },
];

function pod(name: "server" | "client", ingress: Stage, egress: Stage): Endpoint {
  const source = { kind: "Pod", namespace: "a", name } as const;
  return {
    kind: "workload",
    source,
    addresses: FAMILIES.map((each) => each[name]),
    stages: { normal: { ingress, egress } },
  };
}

/** `host`: stages of the host endpoint of the device; undefined: it has none. */
function program(ingress: Stage, host?: Stages): Program {
  const source = { kind: "HostEndpoint", namespace: undefined, name: "world" } as const;
  const endpoints = new Map<EndpointId, Endpoint>([
    ["cali0" as EndpointId, pod("server", ingress, CLOSED)],
    ["cali1" as EndpointId, pod("client", CLOSED, OPEN)],
  ]);
  if (host !== undefined) endpoints.set("world" as EndpointId, { kind: "host", source, addresses: [], stages: host });
  return { settings: DEFAULT_SETTINGS, sets: new Map(), policies: new Map(), endpoints, routes: new Map() };
}

let bench: EbpfBench;

beforeAll(() => {
  const addressesOf = (name: "server" | "client"): Addr[] => FAMILIES.map((each) => each[name]);
  bench = new EbpfBench(
    [
      { interface: "cali0", addresses: addressesOf("server") },
      { interface: "cali1", addresses: addressesOf("client") },
      { interface: "world", addresses: [] },
    ],
    (node) => {
      routeDefault(node, "world");
      for (const name of ["cali0", "cali1", "world"]) node.run(["ip", "link", "set", name, "mtu", `${MTU}`]);
    },
  );
  for (const other of bench.others) other.run(["ip", "link", "set", "eth0", "mtu", `${MTU}`]);
});
afterAll(() => bench.close());

/** Its payload, after `start`, ends with the marker. */
function withMarker(start: Uint8Array, marker: number): Uint8Array {
  const payload = new Uint8Array(BYTES);
  payload.set(start);
  new DataView(payload.buffer).setUint32(BYTES - 4, marker);
  return payload;
}

function udp(source: Addr, destination: Addr, marker: number, port = 40_000): Uint8Array {
  const start = new Uint8Array(8);
  const view = new DataView(start.buffer);
  view.setUint16(0, port);
  view.setUint16(2, 8080);
  view.setUint16(4, BYTES);
  return ipPacket(source, destination, UDP, withMarker(start, marker));
}

/** Whether it arrives; what does not has been dropped by the path, and counted. */
async function passes(from: number, to: number, encode: (marker: number) => Uint8Array): Promise<boolean> {
  const [marker, before] = [bench.nextMarker(), packetsDropped(bench.driver)];
  bench.port(from).sendScattered(encode(marker));
  for (const end = performance.now() + 5000; ;) {
    if (bench.port(to).markers().includes(marker)) return true;
    if (packetsDropped(bench.driver) > before) return false;
    if (performance.now() > end) throw new Error("the packet has neither arrived nor been dropped");
    await Bun.sleep(0);
  }
}

for (const { name, icmp, echo, unreachable, server, client, world } of FAMILIES)
  describe(name, () => {
    test("from a workload: policy decides, after the check of its source", async () => {
      bench.commit(program(OPEN));
      expect(await passes(CLIENT, SERVER, (marker) => udp(client, server, marker))).toBe(true);
      const spoofed = packetsDroppedAt(bench.driver, "unknown interface or spoofed source");
      expect(await passes(CLIENT, SERVER, (marker) => udp(world, server, marker))).toBe(false);
      expect(packetsDroppedAt(bench.driver, "unknown interface or spoofed source")).toBe(spoofed + 1n);
      bench.commit(program(CLOSED));
      bench.forgetFlows();
      const malformed = packetsDroppedAt(bench.driver, "malformed packet");
      expect(await passes(CLIENT, SERVER, (marker) => udp(client, server, marker))).toBe(false);
      expect(packetsDroppedAt(bench.driver, "malformed packet")).toBe(malformed);
    });

    test("from a device: the host endpoint's policy decides before translation, and of what is forwarded", async () => {
      for (const [host, isLetThrough] of [
        [undefined, true],
        [{ "pre-dnat": { ingress: OPEN }, forward: { ingress: OPEN } }, true],
        [{ "pre-dnat": { ingress: CLOSED }, forward: { ingress: OPEN } }, false],
        [{ "pre-dnat": { ingress: OPEN }, forward: { ingress: CLOSED } }, false],
      ] as const) {
        bench.commit(program(OPEN, host));
        bench.forgetFlows();
        const malformed = packetsDroppedAt(bench.driver, "malformed packet");
        expect(await passes(WORLD, SERVER, (marker) => udp(world, server, marker))).toBe(isLetThrough);
        expect(packetsDroppedAt(bench.driver, "malformed packet")).toBe(malformed);
      }
    });

    test("an echo belongs to its flow, and an error to that which it quotes", async () => {
      bench.commit(program(OPEN));
      bench.forgetFlows();
      const request = Uint8Array.from([echo, 0, 0, 0, 0, 7, 0, 1]);
      const reply = Uint8Array.from([echo === 8 ? 0 : 129, 0, 0, 0, 0, 7, 0, 1]);
      const icmpPacket =
        (from: Addr, to: Addr, start: Uint8Array) =>
        (marker: number): Uint8Array =>
          ipPacket(from, to, icmp, withMarker(start, marker));
      expect(await passes(SERVER, CLIENT, icmpPacket(server, client, reply))).toBe(false);
      expect(await passes(CLIENT, SERVER, icmpPacket(client, server, request))).toBe(true);
      expect(await passes(SERVER, CLIENT, icmpPacket(server, client, reply))).toBe(true);
      const quoted = udp(client, server, 0, 40_001).slice(0, 64);
      const error = Uint8Array.from([unreachable, 1, 0, 0, 0, 0, 0, 0, ...quoted]);
      expect(await passes(SERVER, CLIENT, icmpPacket(server, client, error))).toBe(false);
      expect(await passes(CLIENT, SERVER, (marker) => udp(client, server, marker, 40_001))).toBe(true);
      expect(await passes(SERVER, CLIENT, icmpPacket(server, client, error))).toBe(true);
    });
  });
