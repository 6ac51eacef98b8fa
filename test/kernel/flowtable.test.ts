/** Established flows between pods in a flowtable: who can use them, when they end, and which devices are in it. */
import { describe, expect, test } from "bun:test";
import { openClock } from "../../src/host/bun/clock.ts";
import { updateOf } from "../property/updates.ts";
import { expectStopped, expectWhole, FIRST, SECOND, withStreams } from "./bench-streams.ts";
import { type Namespace, REAL } from "./fixture.ts";
import {
  addAddress,
  allow,
  type Bench,
  CLIENT,
  connectPod,
  Daemon,
  pod,
  PODS,
  SERVER,
  until,
  WHY_NO_FLOWTABLES,
  withBench,
} from "./flow-bench.ts";
import { AS_POLICY_SAYS, DataplaneNode, nodeProgram, PODS as PODS_OF_NODE } from "./dataplane-node.ts";
import { routePod } from "./pods.ts";
import type { DataplaneChoice, Program } from "../../src/program/program.ts";

const ALL = [...FIRST, ...SECOND];
const NOTHING_CHANGED = {
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
  members: new Map(),
};
const ATTACKER = ["10.65.0.3", "fd00:65::3"] as const;

async function withOffload(run: (daemon: Daemon, bench: Bench) => Promise<void>): Promise<void> {
  await withBench(async (bench) => {
    const daemon = new Daemon(bench.sys, openClock(), bench.dataplane);
    daemon.attach();
    daemon.apply(PODS);
    await daemon.start();
    try {
      await until(() => daemon.loop.isWritten);
      await run(daemon, bench);
    } finally {
      await daemon.end();
    }
  }, "flowtable");
}

/** The lines of the table of connections, both families. */
function connections(node: Namespace): string[] {
  return ["ipv4", "ipv6"].flatMap((family) => node.run(["conntrack", "-L", "-f", family]).split("\n"));
}

const offloaded = (node: Namespace): string[] => connections(node).filter((line) => line.includes("[OFFLOAD]"));

/** As the kernel lists them. */
function devices(node: Namespace): string[] {
  const [, list = ""] = /devices = \{([^}]*)\}/.exec(node.run(["nft", "list", "flowtables"])) ?? [];
  return list
    .split(",")
    .map((device) => device.trim().replaceAll('"', ""))
    .filter((device) => device !== "")
    .sort();
}

/** Packets that the check of sources has dropped where packets are forwarded. */
function forged(node: Namespace): number {
  const chain = node.run(["nft", "list", "chain", "inet", "calico", "forward"]);
  const rules = chain.matchAll(/counter packets (\d+) bytes \d+ drop comment "unknown interface or spoofed source"/g);
  return [...rules].reduce((sum, [, packets]) => sum + Number(packets), 0);
}

/** Packets of the flow that a program in the namespace sends as if it were the flow's. */
const FORGE = `
import socket, sys
source, port, to, at, n, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
family = socket.AF_INET6 if ':' in to else socket.AF_INET
if kind == 'udp':
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((source, port))
    for _ in range(n): sock.sendto(b'12345678', (to, at))
else:
    import struct
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    raw.bind((source, 0))
    # An ACK with data; its checksum is right, so that nothing but the check of sources can be why it is dropped.
    head = struct.pack('!HHIIBBHHH', port, at, 1, 1, 5 << 4, 0x18, 512, 0, 0) + b'12345678'
    a, b = socket.inet_pton(family, source), socket.inet_pton(family, to)
    data = a + b + struct.pack('!II', len(head), 6) + head
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    head = head[:16] + struct.pack('!H', ~total & 0xffff) + head[18:]
    for _ in range(n): raw.sendto(head, (to, 0))
`;

describe.skipIf(WHY_NO_FLOWTABLES !== undefined)("flowtable", () => {
  test(
    "established flows of both families are offloaded; nobody but the pod itself can send into one, and nobody pays for who tries",
    () =>
      withOffload(async (daemon, bench) => {
        const attacker = REAL.makeNamespace("attacker");
        try {
          connectPod(bench.node, "cali3", attacker);
          for (const addr of ATTACKER) routePod(bench.node, "cali3", addr);
          for (const addr of [...ATTACKER, ...CLIENT]) addAddress(attacker, addr);
          daemon.wire("attacker", "cali3", ATTACKER);
          daemon.apply([updateOf("Pod", pod("attacker", ATTACKER, {}))]);
          await until(() => devices(bench.node).length === 3, "for the third device");
          await withStreams(bench, async (streams) => {
            await until(() => offloaded(bench.node).length === ALL.length, "for all flows to be offloaded");
            expect(forged(bench.node)).toBe(0);
            let sent = 0;
            for (const [family, source] of CLIENT.entries())
              for (const kind of ["udp", "tcp"]) {
                const to = SERVER[family] ?? "";
                const flow = offloaded(bench.node).find(
                  (line) => line.startsWith(kind) && line.includes(`dst=${to} `) && line.includes(" dport=5001 "),
                );
                const [, port = ""] = /sport=(\d+)/.exec(flow ?? "") ?? [];
                expect(port).not.toBe("");
                attacker.run(["python3", "-c", FORGE, source, port, to, "5001", "20", kind]);
                sent += 20;
                await until(() => forged(bench.node) === sent, `for ${sent} forged packets to be dropped`);
              }
            await expectWhole(streams, SECOND);
          });
        } finally {
          REAL.removeNamespace(attacker);
        }
      }),
    60_000,
  );

  test(
    "an address that its pod loses: its flows end at once, those of the other family lose nothing",
    () =>
      withOffload(async (daemon, bench) =>
        withStreams(bench, async (streams) => {
          await until(() => offloaded(bench.node).length === ALL.length, "for all flows to be offloaded");
          const isOf4 = (key: string): boolean => key.includes("4:500");
          daemon.wire("client", "cali1", CLIENT.slice(1));
          daemon.apply([]);
          await until(() => daemon.loop.isWritten);
          await expectStopped(streams, ALL.filter(isOf4));
          await expectWhole(
            streams,
            ALL.filter((key) => key.includes("6:500")),
          );
          await until(() => offloaded(bench.node).length >= 6, "for the others to return to the flowtable");
        }),
      ),
    60_000,
  );

  test(
    "a daemon without the setting: the flows go on, and what policy denies then is cut",
    () =>
      withBench(async (bench) => {
        const first = new Daemon(bench.sys, openClock(), bench.dataplane);
        first.attach();
        first.apply(PODS);
        await first.start();
        await withStreams(bench, async (streams) => {
          await until(() => offloaded(bench.node).length === ALL.length, "for all flows to be offloaded");
          await first.end();
          const next = new Daemon(bench.sys, openClock(), { is: "nftables" });
          next.attach();
          next.apply(PODS);
          await next.start();
          try {
            await until(() => next.loop.isWritten);
            expect(bench.node.run(["nft", "list", "flowtables"])).not.toContain("established");
            await until(() => offloaded(bench.node).length === 0, "for all flows to have left");
            next.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012]))]);
            await until(() => next.status.cut >= FIRST.length);
            await expectStopped(streams, FIRST);
            await expectWhole(streams, SECOND);
          } finally {
            await next.end();
          }
        });
      }, "flowtable"),
    60_000,
  );

  test(
    "devices: a restart writes nothing, one that goes by itself stands in nobody's way, one that returns is taken in, an audit puts back what others took out",
    () =>
      withBench(async (bench) => {
        const { node } = bench;
        const start = async (): Promise<Daemon> => {
          const daemon = new Daemon(bench.sys, openClock(), bench.dataplane);
          daemon.attach();
          daemon.apply(PODS);
          await daemon.start();
          await until(() => daemon.loop.isWritten);
          return daemon;
        };
        const first = await start();
        expect(devices(node)).toEqual(["cali1", "cali2"]);
        expect(first.dataplane.driver.plan()).toEqual([]);
        await first.end();
        const second = await start();
        expect(second.dataplane.driver.writes).toBe(0);
        try {
          node.run([
            "nft",
            "delete flowtable inet calico established { hook ingress priority filter; devices = { cali2 }; }",
          ]);
          await until(() => devices(node).length === 2, "for the device to be put back");
          node.run(["ip", "link", "del", "cali1"]);
          expect(devices(node)).toEqual(["cali2"]);
          // Its pod goes too: what is taken out is not there.
          second.wire("client", "cali1", []);
          second.apply([]);
          await until(() => second.loop.isWritten);
          expect(second.dataplane.driver.failures).toEqual([]);
          second.wire("client", "cali1", CLIENT);
          second.apply([]);
          await until(() => second.loop.isWritten);
          expect(second.dataplane.driver.isProgrammed("cali1" as never)).toBe(true);
          node.run(["ip", "link", "add", "cali1", "type", "dummy"]);
          await until(() => devices(node).length === 2, "for the device to be taken in");
        } finally {
          await second.end();
        }
      }, "flowtable"),
    60_000,
  );

  test("another dataplane takes it out, and it returns with nftables", async () => {
    const node = new DataplaneNode();
    const offloading = (dataplane: DataplaneChoice): Program => {
      const program = nodeProgram(dataplane);
      return { ...program, settings: { ...program.settings, offloadsFlows: true } };
    };
    const change = async (program: Program): Promise<void> => {
      node.loop.step(program, NOTHING_CHANGED);
      await until(() => node.loop.isWritten, `for ${program.settings.dataplane} to be written`);
    };
    try {
      await node.start(offloading("nftables"));
      const own = Object.values(PODS_OF_NODE).map((pod) => pod.interface as string);
      await until(() => Bun.deepEquals(devices(node.node), own), "for the devices");
      for (const other of ["iptables-nft", "ebpf"] as const) {
        await change(offloading(other));
        await until(() => !node.node.run(["nft", "list", "flowtables"]).includes("established"), "for it to be gone");
        expect(await node.passed()).toEqual(AS_POLICY_SAYS);
        await change(offloading("nftables"));
        await until(() => Bun.deepEquals(devices(node.node), own), "for the devices to return");
      }
      expect(await node.passed()).toEqual(AS_POLICY_SAYS);
    } finally {
      await node.remove();
    }
  }, 60_000);
});

test.skipIf(WHY_NO_FLOWTABLES === undefined)("a kernel without flowtables is told, and the node goes on without", () =>
  withBench(async (bench) => {
    const daemon = new Daemon(bench.sys, openClock(), bench.dataplane);
    daemon.attach();
    daemon.apply(PODS);
    await daemon.start();
    try {
      await until(() => daemon.loop.isWritten);
      expect(daemon.dataplane.driver.failures).toMatchObject([
        { row: "flowtable", state: "failed", error: WHY_NO_FLOWTABLES },
      ]);
      expect(bench.node.run(["nft", "list", "table", "inet", "calico"])).not.toContain("flow");
    } finally {
      await daemon.end();
    }
  }, "flowtable"),
);
