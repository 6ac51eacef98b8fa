/**
 * cost: what a datagram of an established flow between two pods of a node costs on each dataplane, in nanoseconds of the processor that sends it, delivery
 * included. In an emulated machine of `make test-kernels` a nanosecond is an instruction: RUN='…/bun test/kernels/cost.ts'.
 *
 * Usage: bun test/kernels/cost.ts [DATAPLANE…]
 */
import { openClock } from "../../src/host/bun/clock.ts";
import { updateOf } from "../property/updates.ts";
import {
  allow,
  type Bench,
  Daemon,
  type Dataplane,
  PODS,
  SERVER,
  until,
  WHY_NO_FLOWTABLES,
  withBench,
} from "../kernel/flow-bench.ts";

const DATAPLANES = ["nftables", "flowtable", "iptables-nft", "iptables-legacy", "ebpf"] as const;
const PORT = 5001;

/** Answers what begins with a, and leaves all else where it is. */
const SERVE = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print('ready', flush=True)
while True:
    data, peer = s.recvfrom(64)
    if data[:1] == b'a': s.sendto(data, peer)
    else:
        import time; time.sleep(3600)
`;
/** Twenty exchanges, so that the flow is known; then the least that one of 2,000 costs, of ten rounds. */
const SEND = `
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((sys.argv[1], int(sys.argv[2])))
for _ in range(20):
    s.send(b'a'); s.recv(64); time.sleep(0.005)
best = None
for _ in range(10):
    begun = time.monotonic_ns()
    for _ in range(2000): s.send(b'b')
    took = (time.monotonic_ns() - begun) / 2000
    best = took if best is None else min(best, took)
print(round(best))
`;

async function costOf({ client, server }: Bench, addr: string): Promise<number> {
  const python = ["python3", "-c"];
  const child = Bun.spawn(["ip", "netns", "exec", server.name, ...python, SERVE, addr, `${PORT}`], { stdout: "pipe" });
  try {
    await child.stdout.getReader().read();
    return Number(client.run([...python, SEND, addr, `${PORT}`]));
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
}

async function measure(is: Dataplane["is"] | undefined): Promise<void> {
  await withBench(async (bench) => {
    const daemon = is === undefined ? undefined : new Daemon(bench.sys, openClock(), bench.dataplane);
    daemon?.attach();
    daemon?.apply([...PODS, updateOf("KubernetesNetworkPolicy", allow("p", [PORT]))]);
    await daemon?.start();
    try {
      await until(() => daemon?.loop.isWritten !== false, "for the policy to be written");
      const costs = [];
      for (const addr of SERVER) costs.push(await costOf(bench, addr));
      const [ipv4, ipv6] = costs;
      console.log(`${(is ?? "no policy").padEnd(16)} IPv4 ${ipv4} ns, IPv6 ${ipv6} ns`);
    } finally {
      await daemon?.end();
    }
  }, is ?? "nftables");
}

const wanted = process.argv.slice(2);
for (const is of [undefined, ...DATAPLANES]) {
  if (wanted.length > 0 && !wanted.includes(is ?? "none")) continue;
  if (is === "flowtable" && WHY_NO_FLOWTABLES !== undefined) console.log(`${is}: ${WHY_NO_FLOWTABLES}`);
  else await measure(is);
}
