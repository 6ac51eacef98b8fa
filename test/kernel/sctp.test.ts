/** SCTP: real associations between pods, judged by port and cut by each dataplane, in both families. An association of an IPv6 socket has addresses of both. */
import { describe, expect, test } from "bun:test";
import { openClock } from "../../src/host/bun/clock.ts";
import { updateOf } from "../property/updates.ts";
import { expectStopped, expectWhole, keysOf, PORTS, withStreams } from "./bench-streams.ts";
import { REAL } from "./fixture.ts";
import { allow, type Bench, Daemon, type Dataplane, PODS, SERVER, until, withBench } from "./flow-bench.ts";

const [AF_INET, SOCK_STREAM, IPPROTO_SCTP] = [2, 1, 132];
const KINDS = ["sctp"] as const;
const FIRST = keysOf(KINDS, 1);
const SECOND = keysOf(KINDS, 2);

function hasSctp(): boolean {
  const fd = REAL.sys.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  if (fd < 0) return false;
  REAL.sys.close(fd);
  return true;
}

/** Throws unless an association comes about and echoes. */
const CALL = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_STREAM, 132)
s.settimeout(float(sys.argv[3]))
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b'12345678')
`;

async function withDaemon(is: Dataplane["is"], run: (daemon: Daemon, bench: Bench) => Promise<void>): Promise<void> {
  await withBench(async (bench) => {
    const daemon = new Daemon(bench.sys, openClock(), bench.dataplane);
    daemon.attach();
    daemon.apply([...PODS, updateOf("KubernetesNetworkPolicy", allow("p", PORTS))]);
    await daemon.start();
    try {
      await until(() => daemon.loop.isWritten, "for the policy to be written");
      await run(daemon, bench);
    } finally {
      await daemon.end();
    }
  }, is);
}

const HAS_SCTP = hasSctp();

describe.skipIf(!HAS_SCTP)(HAS_SCTP ? "SCTP" : "SCTP, which the kernel does not have", () => {
  for (const is of ["nftables", "flowtable", "iptables-nft", "iptables-legacy", "ebpf"] as const)
    test(
      `${is}: what policy allows comes about, what it does not is dropped; after a change the denied associations stop, the others lose nothing`,
      () =>
        withDaemon(is, (daemon, bench) =>
          withStreams(
            bench,
            async (streams) => {
              for (const addr of SERVER) {
                bench.client.run(["python3", "-c", CALL, addr, "5001", "10"]);
                expect(() => bench.client.run(["python3", "-c", CALL, addr, "5099", "1"])).toThrow("timed out");
              }
              daemon.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012]))]);
              await until(() => daemon.status.cut >= FIRST.length, "for the denied associations to be cut");
              await expectStopped(streams, FIRST);
              for (const addr of SERVER)
                expect(() => bench.client.run(["python3", "-c", CALL, addr, "5001", "1"])).toThrow("timed out");
              await expectWhole(streams, SECOND);
              expect(daemon.status.error).toBeUndefined();
            },
            KINDS,
          ),
        ),
      60_000,
    );
});
