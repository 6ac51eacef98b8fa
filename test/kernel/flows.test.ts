/** Established flows that a change denies are cut, and no others: real streams through a node with the real drivers. */
import { describe, expect, test } from "bun:test";
import { openClock } from "../../src/host/bun/clock.ts";
import { updateOf } from "../property/updates.ts";
import {
  allow,
  type Bench,
  CLIENT,
  Daemon,
  type Dataplane,
  pod,
  PODS,
  SERVER,
  until,
  WHY_NO_FLOWTABLES,
  withBench,
} from "./flow-bench.ts";
import { expectStopped, expectWhole, FIRST, PORTS, SECOND, withStreams } from "./bench-streams.ts";
import { StreamEnd } from "./streams.ts";

const SERVICE = ["10.96.0.1", "fd00:96::1"] as const;
const TRANSLATION = `
table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr ${SERVICE[0]} meta l4proto { tcp, udp } dnat ip to ${SERVER[0]} : th dport map { 5001 : 5003, 5002 : 5004 }
    ip6 daddr ${SERVICE[1]} meta l4proto { tcp, udp } dnat ip6 to ${SERVER[1]} : th dport map { 5001 : 5003, 5002 : 5004 }
  }
}`;

async function withDaemon(is: Dataplane["is"], run: (daemon: Daemon, bench: Bench) => Promise<void>): Promise<void> {
  await withBench(async (bench) => {
    const daemon = new Daemon(bench.sys, openClock(), bench.dataplane);
    daemon.attach();
    daemon.apply(PODS);
    await daemon.start();
    try {
      await run(daemon, bench);
    } finally {
      await daemon.end();
    }
  }, is);
}

for (const is of ["nftables", "flowtable", "ebpf"] as const)
  describe.skipIf(is === "flowtable" && WHY_NO_FLOWTABLES !== undefined)(is, () => {
    test(
      "a policy that denies some flows: they stop, in both directions; the others lose nothing",
      () =>
        withDaemon(is, (daemon, bench) =>
          withStreams(bench, async (streams) => {
            daemon.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012]))]);
            await until(() => daemon.status.cut >= FIRST.length);
            await expectStopped(streams, FIRST);
            await expectWhole(streams, SECOND);
            expect(daemon.status).toMatchObject({ cut: FIRST.length, error: undefined });
          }),
        ),
      60_000,
    );

    /** The peer is `tier` front; both policies select the server. */
    const BY_LABEL = [
      updateOf("KubernetesNetworkPolicy", allow("labelled", [5001, 5011], { tier: "front" })),
      updateOf("KubernetesNetworkPolicy", allow("anybody", [5002, 5012])),
    ];

    test(
      "the peer's label changes, while other changes come many times a second",
      () =>
        withDaemon(is, (daemon, bench) =>
          withStreams(bench, async (streams) => {
            await daemon.passed(0);
            const begun = daemon.status.passes;
            daemon.apply(BY_LABEL);
            await daemon.passed(begun);
            expect(daemon.status.cut).toBe(0);
            const { passes } = daemon.status;
            // Other labels that nobody asks for.
            for (let i = 0; i < 50; i++) {
              daemon.apply([updateOf("Pod", pod("client", CLIENT, { tier: "front", n: `${i}` }))]);
              await Bun.sleep(1);
            }
            expect(daemon.status.passes).toBe(passes);
            daemon.apply([updateOf("Pod", pod("client", CLIENT, { tier: "back" }))]);
            await until(() => daemon.status.cut >= FIRST.length);
            await expectStopped(streams, FIRST);
            await expectWhole(streams, SECOND);
            expect(daemon.status.cut).toBe(FIRST.length);
          }),
        ),
      60_000,
    );

    test(
      "a change that only allows more leads to no pass; a flow of the same tuple after the cut is judged by policy, again and again",
      () =>
        withDaemon(is, (daemon, bench) =>
          withStreams(bench, async (streams) => {
            const udp = ["udp4:5001", "udp6:5001"];
            daemon.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012]))]);
            await until(() => daemon.status.cut >= FIRST.length);
            await expectStopped(streams, udp);
            for (let i = 0; i < 2; i++) {
              const { passes } = daemon.status;
              daemon.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012, 5001]))]);
              const before = udp.map(streams.arrived);
              await until(
                () => udp.every((key, j) => streams.arrived(key) > (before[j] ?? 0) + 20),
                "for UDP to go on",
              );
              expect(daemon.status.passes).toBe(passes);
              daemon.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012]))]);
              await until(() => daemon.status.cut >= FIRST.length + 2 * (i + 1));
              await expectStopped(streams, udp);
            }
            await expectWhole(streams, SECOND);
          }),
        ),
      60_000,
    );

    test(
      "a daemon that ends between commit and cut: the next one cuts at its start",
      () =>
        withBench(async (bench) => {
          const first = new Daemon(bench.sys, openClock(), bench.dataplane);
          first.attach();
          first.apply(PODS);
          await first.start(false);
          await withStreams(bench, async (streams) => {
            const policy = updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012]));
            first.apply([policy]);
            await until(() => first.loop.isWritten);
            await first.end();
            const before = streams.arrived("udp4:5001");
            await until(() => streams.arrived("udp4:5001") > before + 20, "for the flow to go on");
            const next = new Daemon(bench.sys, openClock(), bench.dataplane);
            next.attach();
            next.apply([...PODS, policy]);
            await next.start();
            try {
              await until(() => next.status.cut >= FIRST.length);
              await expectStopped(streams, FIRST);
              await expectWhole(streams, SECOND);
              expect(next.status).toMatchObject({ passes: 1, cut: FIRST.length });
            } finally {
              await next.end();
            }
          });
        }, is),
      60_000,
    );

    test(
      "a flow through a service is judged by the pod's own address and port",
      () =>
        withDaemon(is, async (daemon, { node, client, server }) => {
          node.run(["nft", "-f", "-"], TRANSLATION);
          const to = new StreamEnd(server, "server", [5003, 5004], SERVER);
          await to.begun;
          const from = new StreamEnd(client, "client", [5001, 5002], SERVICE);
          try {
            await from.begun;
            const arrived = (key: string): number => to.counts[key] ?? 0;
            const kinds = ["tcp4", "tcp6", "udp4", "udp6"];
            await until(() => kinds.every((kind) => arrived(`${kind}:5003`) > 20 && arrived(`${kind}:5004`) > 20));
            const streams = {
              ends: [from, to],
              arrived,
              sent: (key: string) => from.counts[key.replace("5004", "5002")] ?? 0,
            } as const;
            // Of what was called nothing is allowed: policy does not see it.
            daemon.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5001, 5004]))]);
            await until(() => daemon.status.cut >= 4);
            await expectStopped(
              streams,
              kinds.map((kind) => `${kind}:5003`),
            );
            await expectWhole(
              streams,
              kinds.map((kind) => `${kind}:5004`),
            );
            expect(daemon.status.cut).toBe(4);
          } finally {
            to.end();
            from.end();
          }
        }),
      60_000,
    );
  });

test(
  "from nftables to eBPF: established flows lose nothing, also without the kernel's table of connections; new ones are judged",
  () =>
    withBench(async (bench) => {
      const { node, client, dataplane } = bench;
      const policy = updateOf("KubernetesNetworkPolicy", allow("p", PORTS));
      const first = new Daemon(bench.sys);
      first.attach();
      first.apply([...PODS, policy]);
      await first.start();
      // Adding it to an interface that is up makes the kernel drop what it sends for some milliseconds: docs/ebpf.md.
      for (const name of node.run(["ls", "/sys/class/net"]).trim().split(/\s+/))
        if (name !== "lo") node.run(["tc", "qdisc", "add", "dev", name, "clsact"]);
      await withStreams(bench, async (streams) => {
        const next = new Daemon(bench.sys, openClock(), dataplane);
        next.attach();
        next.apply([...PODS, policy]);
        try {
          await next.start();
          await until(() => next.loop.isWritten);
          await first.end();
          node.run(["nft", "delete", "table", "inet", "calico"]);
          expect(node.run(["nft", "list", "table", "inet", "calico-ebpf"])).not.toContain("established");
          node.run(["conntrack", "-F"]);
          await expectWhole(streams, [...FIRST, ...SECOND]);
          // Nobody may begin what nobody may: the server denies this port.
          expect(() => client.run(["python3", "-c", CONNECT, SERVER[0], "5099"])).toThrow("timed out");
          next.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012]))]);
          await until(() => next.status.cut >= FIRST.length);
          await expectStopped(streams, FIRST);
        } finally {
          await next.end();
        }
      });
    }, "ebpf"),
  60_000,
);

const CONNECT = `
import socket, sys
s = socket.socket()
s.settimeout(1)
s.connect((sys.argv[1], int(sys.argv[2])))
`;
