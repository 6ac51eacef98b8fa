/**
 * phase-packets: CPU per packet of an established flow and per new connection: through the node with its policies, beside plain routing
 * and connection tracking alone. Three routers of the same shape stand side by side, so that rounds alternate and no table is touched.
 */
import { cpuPerConnection, startAcceptor } from "../connects.ts";
import { cpuPerPacket, startIperf } from "../iperf.ts";
import type { Bench } from "./bench.ts";
import { peerOf } from "./scenario.ts";
import type { Stage } from "./stage.ts";
import { median, type Table } from "./table.ts";

const ROUNDS = 6;
const SECONDS = 1;
const [PACKET_PORT, CONNECTION_PORT] = [8080, 9090];
/** What any stateful filter pays: the kernel's connection tracking and one rule. */
const TRACKING =
  "table inet alone { chain forward { type filter hook forward priority 0; ct state established,related accept; }; }\n";

interface Path {
  readonly name: string;
  /** Purposes of the network namespaces. */
  readonly router: string;
  readonly server: string;
  readonly address: string;
  readonly packets: number[];
  readonly connections: number[];
}

/** The client's link to a router, and the route to the server behind it. */
function reach(stage: Stage, { router, address }: Path, index: number, source: string): void {
  stage.connect("client", `to-${router}`, `172.31.${index}.1/30`, router, "to-client", `172.31.${index}.2/30`);
  stage.in("client", "ethtool", "-K", `to-${router}`, "tso", "off", "gso", "off", "gro", "off");
  stage.in("client", "ip", "route", "add", address, "via", `172.31.${index}.2`, "src", source);
  stage.in(router, "ip", "route", "add", source, "via", `172.31.${index}.1`);
  stage.in(router, "sysctl", "-qw", "net.ipv4.ip_forward=1");
}

function makePaths({ stage }: Bench, podAddress: string, source: string): readonly Path[] {
  const path = (name: string, router: string, server: string, address: string): Path => ({
    name,
    router,
    server,
    address,
    packets: [],
    connections: [],
  });
  const policies = path("policies", "node", "p0", podAddress);
  const others = [
    path("plain", "plain", "plain-pod", "172.31.101.2"),
    path("tracked", "tracked", "tracked-pod", "172.31.102.2"),
  ];
  stage.addNamespaces(["client", ...others.flatMap(({ router, server }) => [router, server])]);
  stage.in("client", "ip", "addr", "add", `${source}/32`, "dev", "lo");
  stage.in("client", "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000");
  others.forEach(({ router, server, address }, i) => {
    stage.connect(router, "pod", `172.31.${101 + i}.1/30`, server, "eth0", `${address}/30`);
    stage.in(server, "ip", "route", "add", "default", "via", `172.31.${101 + i}.1`);
  });
  const paths = [policies, ...others];
  paths.forEach((each, i) => reach(stage, each, i, source));
  for (const { server } of paths) stage.in(server, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off");
  const rules = `${stage.directory}/tracking.nft`;
  Bun.spawnSync(["tee", rules], { stdin: Buffer.from(TRACKING), stdout: "ignore" });
  stage.in("tracked", "nft", "-f", rules);
  return paths;
}

/** `podAddress` is that of the first local pod, whose policies' peers the client stands for. */
export async function measurePackets(bench: Bench, podAddress: string): Promise<void> {
  const { stage, size, table, cluster, node } = bench;
  table.heading(`CPU per packet and per new connection, ${size.policies} policies`);
  await node.idle();
  const source = await cluster.memberOf(peerOf(0));
  const paths = makePaths(bench, podAddress, source);
  const servers = paths.map((path) => ({
    path,
    iperf: startIperf(stage.netns(path.server), PACKET_PORT),
    acceptor: startAcceptor(stage.netns(path.server), CONNECTION_PORT),
  }));
  try {
    // The first round finds the listeners, the neighbours and the caches, and is not counted.
    for (let i = 0; i <= ROUNDS; i++)
      for (const { path, iperf, acceptor } of servers) {
        const { packets, connections, address } = path;
        const options = { netns: stage.netns("client"), address, seconds: SECONDS, source };
        packets.push(await cpuPerPacket({ ...options, port: PACKET_PORT, serverPid: iperf.pid }));
        connections.push(await cpuPerConnection({ ...options, port: CONNECTION_PORT, serverPid: acceptor.pid }));
        if (i === 0) packets.length = connections.length = 0;
      }
  } finally {
    for (const { iperf, acceptor } of servers) {
      iperf.kill();
      acceptor.kill();
    }
  }
  addRows(table, paths, size.policies);
}

function addRows(table: Table, paths: readonly Path[], policies: number): void {
  const [ours, plain, tracked] = paths;
  if (ours === undefined || plain === undefined || tracked === undefined) return;
  for (const [what, of, aim] of [
    ["CPU per 1,500-byte packet", (path: Path) => path.packets, "1.25x"],
    ["CPU per new connection", (path: Path) => path.connections, policies > 100 ? "1.2x" : "1.18x"],
  ] as const) {
    const against = (path: Path): { value: number; to: string } => ({
      // Of each round's own ratios: the machine changes from round to round.
      value: median(of(path).map((value, i) => value / (of(plain)[i] ?? Number.NaN))),
      to: "plain routing",
    });
    table.add({ what: `${what}, ${policies} policies`, unit: "µs", values: of(ours), aim, ratio: against(ours) });
    table.add({ what: `${what}, connection tracking alone`, unit: "µs", values: of(tracked), ratio: against(tracked) });
    table.add({ what: `${what}, plain routing`, unit: "µs", values: of(plain) });
  }
}
