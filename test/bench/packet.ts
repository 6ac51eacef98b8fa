/**
 * packet: CPU per packet of 1,500 bytes, and per new TCP connection, from pod to pod across nodes, with policy and the source check,
 * against the very same path with no table at all. Runs alternate; the figure is CPU time of both ends, which on veth includes the path.
 */
import {
  execute,
  type Lab,
  type LabNode,
  type LabPod,
  list,
  namespace,
  serverPod,
  until,
} from "../conformance/fixture.ts";
import { cpuPerConnection, startAcceptor } from "./connects.ts";
import { percentile, ratio, row } from "./figures.ts";
import { cpuPerPacket, startIperf } from "./iperf.ts";

const ROUNDS = 10;
/** What any stateful filter pays: the kernel's connection tracking and one rule. */
const CONNTRACK_ALONE =
  "table inet alone { chain forward { type filter hook forward priority 0; ct state established,related accept; }; }";
const SECONDS = 2;
const [PACKET_PORT, CONNECTION_PORT] = [5201, 5202];

/** Figures of one kind in the three states of the nodes' tables. */
interface Figures {
  readonly filtered: number[];
  readonly tracked: number[];
  readonly plain: number[];
}

const empty = (): Figures => ({ filtered: [], tracked: [], plain: [] });

export async function benchPacket(lab: Lab): Promise<void> {
  console.log("\n== CPU per 1,500-byte packet and per new connection, pod to pod across nodes");
  await applyPods(lab);
  const [server, client] = (await lab.pods("packets", "server", "client")) as [LabPod, LabPod];
  const nodes = [await lab.node("n1"), await lab.node("n2")];
  // A daemon that lives owns its table. Nobody starts another meanwhile.
  const { supervisor } = await lab.status();
  process.kill(supervisor.pid, "SIGSTOP");
  for (const node of nodes) process.kill(node.pid, "SIGKILL");
  const iperf = startIperf(server.netns, PACKET_PORT);
  const acceptor = startAcceptor(server.netns, CONNECTION_PORT);
  const [packets, connections] = [empty(), empty()];
  const address = server.addresses.find((each) => !each.includes(":")) ?? "";
  const options = { netns: client.netns, address, seconds: SECONDS };
  try {
    for (const pod of [server, client])
      await lab.inPod(pod, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off");
    await until(
      "the servers to listen",
      async () =>
        (await lab.connects(client, address, 80)) &&
        (await execute(["nsenter", `--net=${server.netns}`, "--", "ss", "-Hltn"])).stdout.includes(
          `:${CONNECTION_PORT}`,
        ),
    );
    await alternate(lab, nodes, async (state) => {
      packets[state].push(await cpuPerPacket({ ...options, port: PACKET_PORT, serverPid: iperf.pid }));
      connections[state].push(
        await cpuPerConnection({ ...options, port: CONNECTION_PORT, serverPid: acceptor.pid, seconds: 1 }),
      );
    });
  } finally {
    iperf.kill();
    acceptor.kill();
    process.kill(supervisor.pid, "SIGCONT");
    for (const { name } of nodes)
      await until(
        `the daemon of ${name} to be back`,
        async () => (await lab.daemon(await lab.node(name)).catch(() => undefined))?.inSync === true,
      );
    await lab.must("delete", "namespace", "packets");
  }
  say("CPU per packet", packets, "1.25 at most");
  say("CPU per new connection", connections, "1.18 at most");
}

/** A server on one node, a client on the other, with policies for both directions of both. */
async function applyPods(lab: Lab): Promise<void> {
  const policies = ["server", "client"].map((app) => ({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: app, namespace: "packets" },
    spec: {
      podSelector: { matchLabels: { app } },
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ from: [{ podSelector: {} }] }],
      egress: [{ to: [{ podSelector: {} }] }],
    },
  }));
  await lab.apply(
    list(
      namespace("packets"),
      ...policies,
      serverPod("packets", "server", { app: "server" }, 80, { nodeName: "n1" }),
      serverPod("packets", "client", { app: "client" }, 80, { nodeName: "n2" }),
    ),
  );
}

/** Measures with the nodes' own tables, with none, and with tracking alone, in turn. */
async function alternate(
  lab: Lab,
  nodes: readonly LabNode[],
  measure: (state: keyof Figures) => Promise<void>,
): Promise<void> {
  const tables = new Map<string, string>();
  for (const node of nodes)
    tables.set(
      node.name,
      await until(`the table of ${node.name} to have no owner`, () => rulesWithoutOwner(lab, node)),
    );
  for (let i = 0; i < ROUNDS; i++) {
    await measure("filtered");
    for (const node of nodes) await lab.inNode(node, "nft", "delete", "table", "inet", "calico");
    await measure("plain");
    for (const node of nodes) await restore(node, CONNTRACK_ALONE);
    await measure("tracked");
    for (const node of nodes) await lab.inNode(node, "nft", "delete", "table", "inet", "alone");
    for (const node of nodes) await restore(node, tables.get(node.name) ?? "");
  }
}

function say(what: string, { filtered, tracked, plain }: Figures, aim: string): void {
  row(`${what}, with policy and source check`, filtered, "µs");
  row(`${what}, one rule: established accepted`, tracked, "µs");
  row(`${what}, no table at all`, plain, "µs");
  const [one, of] = [percentile(filtered, 0.5), percentile(plain, 0.5)];
  ratio(`${what}, connection tracking alone : plain`, percentile(tracked, 0.5) / of, "printed for scale");
  ratio(`${what}, filtered : plain (of medians)`, one / of, aim);
  const rounds = filtered.map((value, i) => value / (plain[i] ?? Number.NaN));
  ratio("the same, median of the rounds' own ratios", percentile(rounds, 0.5), aim);
}

/** The node's rules without the flags of their tables, which this nft cannot read again; undefined while one has an owner. */
async function rulesWithoutOwner(lab: Lab, node: LabNode): Promise<string | undefined> {
  const { stdout } = await lab.inNode(node, "nft", "list", "ruleset");
  return stdout.includes("flags owner") ? undefined : stdout.replace(/^\tflags.*\n/gm, "");
}

async function restore(node: LabNode, ruleset: string): Promise<void> {
  const { exitCode, stderr } = await execute(["nsenter", `--net=${node.netns}`, "--", "nft", "-f", "-"], {
    input: ruleset,
  });
  if (exitCode !== 0) throw new Error(stderr);
}
