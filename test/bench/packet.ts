/**
 * packet: CPU per packet of 1,500 bytes from pod to pod across nodes, with policy and the source check, against the very same
 * path with no table at all. Runs alternate; the figure is CPU time of sender and receiver, which on veth includes the path.
 */
import { readFileSync } from "node:fs";
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
import { percentile, ratio, row } from "./figures.ts";

const ROUNDS = 10;
/** What any stateful filter pays: the kernel's connection tracking and one rule. */
const CONNTRACK_ALONE =
  "table inet alone { chain forward { type filter hook forward priority 0; ct state established,related accept; }; }";
const SECONDS = 2;

export async function benchPacket(lab: Lab): Promise<void> {
  console.log("\n== CPU per 1,500-byte packet, pod to pod across nodes");
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
  const [server, client] = (await lab.pods("packets", "server", "client")) as [LabPod, LabPod];
  const nodes = [await lab.node("n1"), await lab.node("n2")];
  // A daemon that lives owns its table. Nobody starts another meanwhile.
  const { supervisor } = await lab.status();
  process.kill(supervisor.pid, "SIGSTOP");
  for (const node of nodes) process.kill(node.pid, "SIGKILL");
  const iperf = Bun.spawn(["nsenter", `--net=${server.netns}`, "--", "iperf3", "-s"], {
    stdout: "ignore",
    stderr: "ignore",
  });
  try {
    for (const pod of [server, client])
      await lab.inPod(pod, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off");
    await until(
      "iperf3 to listen",
      async () =>
        (
          await execute([
            "nsenter",
            `--net=${client.netns}`,
            "--",
            "iperf3",
            "-c",
            server.addresses[0] ?? "",
            "-n",
            "1K",
          ])
        ).exitCode === 0,
    );
    const tables = new Map<string, string>();
    for (const node of nodes)
      tables.set(
        node.name,
        await until(`the table of ${node.name} to have no owner`, () => rulesWithoutOwner(lab, node)),
      );
    const filtered: number[] = [];
    const plain: number[] = [];
    const tracked: number[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      filtered.push(await measure(client, server, iperf.pid));
      for (const node of nodes) await lab.inNode(node, "nft", "delete", "table", "inet", "calico");
      plain.push(await measure(client, server, iperf.pid));
      for (const node of nodes) await restore(node, CONNTRACK_ALONE);
      tracked.push(await measure(client, server, iperf.pid));
      for (const node of nodes) await lab.inNode(node, "nft", "delete", "table", "inet", "alone");
      for (const node of nodes) await restore(node, tables.get(node.name) ?? "");
    }
    row("with policy and source check", filtered, "µs");
    row("one rule: established connections accepted", tracked, "µs");
    row("no table at all", plain, "µs");
    ratio(
      "CPU per packet, connection tracking alone : plain",
      percentile(tracked, 0.5) / percentile(plain, 0.5),
      "printed for scale",
    );
    ratio(
      "CPU per packet, filtered : plain (of medians)",
      percentile(filtered, 0.5) / percentile(plain, 0.5),
      "1.25 at most",
    );
    ratio(
      "the same, median of the rounds' own ratios",
      percentile(
        filtered.map((value, i) => value / (plain[i] ?? 1)),
        0.5,
      ),
      "1.25 at most",
    );
  } finally {
    iperf.kill();
    process.kill(supervisor.pid, "SIGCONT");
    for (const { name } of nodes)
      await until(
        `the daemon of ${name} to be back`,
        async () => (await lab.daemon(await lab.node(name)).catch(() => undefined))?.inSync === true,
      );
    await lab.must("delete", "namespace", "packets");
  }
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

/** Microseconds of CPU of client and server for each packet of 1,448 bytes of payload. */
async function measure(client: LabPod, server: LabPod, serverPid: number): Promise<number> {
  const before = cpuNanoseconds(serverPid);
  const { stdout } = await execute([
    "nsenter",
    `--net=${client.netns}`,
    "--",
    "iperf3",
    "-J",
    "-t",
    String(SECONDS),
    "-M",
    "1448",
    "-c",
    server.addresses[0] ?? "",
  ]);
  const result = JSON.parse(stdout) as {
    end: { sum_received: { bytes: number }; cpu_utilization_percent: { host_total: number } };
  };
  const serverCpu = cpuNanoseconds(serverPid) - before;
  const clientCpu = (result.end.cpu_utilization_percent.host_total / 100) * SECONDS * 1e9;
  return (serverCpu + clientCpu) / 1e3 / (result.end.sum_received.bytes / 1448);
}

/** Run time of a process so far; /proc/PID/schedstat, first field. */
function cpuNanoseconds(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]);
}
