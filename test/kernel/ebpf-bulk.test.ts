/**
 * Bulk on the way past the host stack: TCP that moves far more than a window, real stacks at both ends, with segmentation by the device and without;
 * and changes to another dataplane under it, beside a rule that drops what connection tracking calls invalid, as kube-proxy has one.
 */
import { describe, expect, test } from "bun:test";
import type { Subprocess } from "bun";
import { awaitSteps, finishSteps } from "../../src/dataplane/driver.ts";
import { pastOf } from "../../src/dataplane/ebpf/counters.ts";
import { DataplaneMaps } from "../../src/dataplane/ebpf/maps.ts";
import { HostStackWay } from "../../src/dataplane/ebpf/past.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { expectStopped, FIRST, PORTS, SECOND, withStreams } from "./bench-streams.ts";
import { OBJECT, openEbpf } from "./ebpf-driver.ts";
import type { Namespace } from "./fixture.ts";
import { updateOf } from "../property/updates.ts";
import { allow, type Bench, Daemon, PODS, SERVER, until, withBench } from "./flow-bench.ts";

const BULK_PORT = 6001;
const OPEN = updateOf("KubernetesNetworkPolicy", allow("p", [...PORTS, BULK_PORT]));
/** Far more than the kernel's largest window. */
const MANY_BYTES = 32 << 20;

/** Sends what it has to, or receives, until it is told to end; then says how much it was, and its digest. */
const PROGRAM = `
import hashlib, json, os, select, socket, sys, threading, time
role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
stop, total, digest = threading.Event(), 0, hashlib.sha256()
def say(more={}): print(json.dumps({'total': total, **more}), flush=True)
def watch():
    sys.stdin.readline()
    stop.set()
threading.Thread(target=watch, daemon=True).start()
if role == 'server':
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen(1)
    say({'ready': True})
    sock, _ = listening.accept()
    said = 0
    while True:
        data = sock.recv(1 << 18)
        if not data: break
        total += len(data)
        digest.update(data)
        if time.monotonic() - said > 0.02:
            said = time.monotonic()
            say()
else:
    sock = socket.create_connection((address, port))
    block = os.urandom(1 << 18)
    while not stop.is_set():
        sock.sendall(block)
        digest.update(block)
        total += len(block)
        if total > ${MANY_BYTES}: time.sleep(0.01)
    sock.shutdown(socket.SHUT_WR)
say({'digest': digest.hexdigest()})
`;

interface Said {
  readonly total: number;
  readonly ready?: boolean;
  readonly digest?: string;
}

class BulkEnd {
  said: Said = { total: 0 };
  readonly #process: Subprocess<"pipe", "pipe", "inherit">;

  constructor(namespace: Namespace, role: "server" | "client", address: string) {
    const args = ["python3", "-c", PROGRAM, role, address, `${BULK_PORT}`];
    this.#process = Bun.spawn(["ip", "netns", "exec", namespace.name, ...args], { stdin: "pipe", stdout: "pipe" });
    void this.#listen();
  }

  async #listen(): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of this.#process.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.said = JSON.parse(line) as Said;
    }
  }

  end(): void {
    void this.#process.stdin.end();
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }
}

/** A connection that sends as fast as it can, and slower when it has sent much; at the end every byte must have arrived. */
async function withBulk(
  { client, server }: Bench,
  address: string,
  run: (received: () => number) => Promise<void>,
): Promise<void> {
  const to = new BulkEnd(server, "server", address);
  await until(() => to.said.ready === true, "for the server");
  const from = new BulkEnd(client, "client", address);
  try {
    await run(() => to.said.total);
    from.end();
    await until(() => from.said.digest !== undefined && to.said.digest !== undefined, "for the last byte");
    expect(to.said).toEqual(from.said);
  } finally {
    from.kill();
    to.kill();
  }
}

/** What kube-proxy's chain for forwarded packets begins with. */
const INVALID = `table inet proxy {
  chain forward {
    type filter hook forward priority 0;
    ct state invalid counter drop
  }
}`;

function invalidPackets(node: Namespace): number {
  return Number(/packets (\d+)/.exec(node.run(["nft", "list", "table", "inet", "proxy"]))?.[1]);
}

function pinsOf({ dataplane }: Bench): string {
  return dataplane.is === "ebpf" ? dataplane.pins : "";
}

/** The caller closes them. */
function mapsOf(bench: Bench): DataplaneMaps {
  return finishSteps(
    DataplaneMaps.opening({ sys: bench.sys, object: OBJECT, directory: pinsOf(bench), onlyLooks: true }),
  );
}

/** Packets that have gone past the host stack. */
function pastIn(bench: Bench): number {
  const maps = mapsOf(bench);
  try {
    return pastOf(maps.past);
  } finally {
    maps.close();
  }
}

async function startDaemon({ sys }: Bench, dataplane: ConstructorParameters<typeof Daemon>[2]): Promise<Daemon> {
  const daemon = new Daemon(sys, openClock(), dataplane);
  daemon.attach();
  daemon.apply([...PODS, OPEN]);
  await daemon.start();
  await until(() => daemon.loop.isWritten);
  return daemon;
}

/** `run` may end the daemon itself. */
async function withEbpf(run: (bench: Bench, daemon: Daemon) => Promise<void>): Promise<void> {
  await withBench(async (bench) => {
    bench.node.run(["ip", "addr", "add", "203.0.113.1/32", "dev", "lo"]);
    bench.node.run(["ip", "addr", "add", "2001:db8:f::1/128", "dev", "lo"]);
    bench.node.run(["nft", "-f", "-"], INVALID);
    const daemon = await startDaemon(bench, bench.dataplane);
    try {
      await run(bench, daemon);
    } finally {
      await daemon.end();
    }
  }, "ebpf");
}

describe.each([...SERVER])("to %s", (address) => {
  for (const offload of ["on", "off"] as const)
    test(
      `segmentation by the device ${offload}: every byte arrives, and nothing is invalid`,
      () =>
        withEbpf(async (bench) => {
          for (const end of [bench.client, bench.server])
            end.run(["ethtool", "-K", "eth0", "tso", offload, "gso", offload]);
          await withBulk(bench, address, async (received) => {
            await until(() => received() > MANY_BYTES, "for many bytes");
          });
          expect(pastIn(bench)).toBeGreaterThan(300);
          expect(invalidPackets(bench.node)).toBe(0);
        }),
      60_000,
    );

  test(
    "the kernel is told which connections live, before it forgets one whose last segment it has not seen acknowledged",
    () =>
      withEbpf(async (bench) => {
        const { node, sys } = bench;
        const family = address.includes(":") ? "ipv6" : "ipv4";
        const of = ["-f", family, "-p", "tcp", "--dport", `${BULK_PORT}`];
        const timeout = (): number =>
          Number(/tcp +6 (\d+) ESTABLISHED/.exec(node.run(["conntrack", "-L", ...of]))?.[1]);
        const maps = mapsOf(bench);
        try {
          await withBulk(bench, address, async (received) => {
            await until(() => received() > MANY_BYTES, "for many bytes");
            node.run(["conntrack", "-U", ...of, "--timeout", "100"]);
            expect(timeout()).toBeLessThan(101);
            await new HostStackWay({ sys, clock: openClock(), report: () => {} }).keep(maps);
            expect(timeout()).toBeGreaterThan(400_000);
          });
        } finally {
          maps.close();
        }
      }),
    60_000,
  );

  test(
    "segments that are too big for where they leave: the sender is told, and every byte arrives",
    () =>
      withEbpf(async (bench) => {
        await withBulk(bench, address, async (received) => {
          await until(() => received() > MANY_BYTES / 2, "for many bytes");
          expect(pastIn(bench)).toBeGreaterThan(100);
          bench.node.run(["ip", "link", "set", "cali2", "mtu", "1400"]);
          const before = received();
          await until(() => received() > before + (24 << 20), "for more");
          // The size was looked at of each packet: not only of that which asks the stack once in a while.
          expect(bench.client.run(["ip", "route", "get", address])).toContain("mtu 1400");
          await until(() => received() > MANY_BYTES, "for many bytes");
        });
        expect(pastIn(bench)).toBeGreaterThan(300);
        expect(invalidPackets(bench.node)).toBe(0);
      }),
    60_000,
  );

  test(
    "without a daemon, and with the next one, it goes on past the stack; so it does on nftables, by the stack",
    () =>
      withEbpf(async (bench, first) => {
        const { node } = bench;
        await withStreams(bench, async (streams) => {
          await withBulk(bench, address, async (received) => {
            const goesOn = async (): Promise<void> => {
              const before = received();
              await until(() => received() > before + (4 << 20), "for the connection to go on");
            };
            await until(() => received() > MANY_BYTES, "for many bytes");
            const before = pastIn(bench);
            expect(before).toBeGreaterThan(300);
            await first.end();
            await goesOn();
            const without = pastIn(bench);
            expect(without).toBeGreaterThan(before);
            const second = await startDaemon(bench, bench.dataplane);
            await goesOn();
            expect(pastIn(bench)).toBeGreaterThan(without);
            // The daemon chooses another dataplane: that one is complete before this one goes.
            const next = await startDaemon(bench, { is: "nftables" });
            try {
              await second.end();
              const going = openEbpf(node, pinsOf(bench));
              await awaitSteps(going.removing());
              going.close();
              expect(node.run(["sysctl", "-n", "net.netfilter.nf_conntrack_tcp_be_liberal"]).trim()).toBe("0");
              expect(node.run(["nft", "list", "tables"])).not.toContain("calico-ebpf");
              await goesOn();
              const last = [...FIRST, ...SECOND].map(streams.arrived);
              await until(
                () => [...FIRST, ...SECOND].every((key, i) => streams.arrived(key) > (last[i] ?? 0) + 20),
                "for the streams to go on",
              );
              expect(invalidPackets(node)).toBe(0);
              next.apply([updateOf("KubernetesNetworkPolicy", allow("p", [5002, 5012, BULK_PORT]))]);
              await until(() => next.status.cut >= FIRST.length);
              await expectStopped(streams, FIRST);
              await goesOn();
            } finally {
              await next.end();
            }
          });
        });
      }),
    90_000,
  );
});
