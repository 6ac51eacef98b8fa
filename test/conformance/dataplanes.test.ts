/**
 * Dataplanes on a dual-stack lab: nftables, both variants of iptables and eBPF program the same policy, and a live node changes from each to each:
 * one datagram a millisecond, no allowed one is lost and no denied one passes. What a dataplane leaves is nothing.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Dataplane, DATAPLANE_SPECS, DATAPLANES } from "../dataplane.ts";
import { kernelOwnsTables } from "../kernel/fixture.ts";
import { Datagrams, NONE } from "./datagrams.ts";
import { CALICO, Lab, type LabNode, type LabPod, list, namespace, serverPod, until } from "./fixture.ts";

const lab = new Lab("nftables");
const NS = "shop";

let client: LabPod;
let stranger: LabPod;
let server: LabPod;
let closed: LabPod;
let nodes: LabNode[];

/** Ingress from the client alone, and counted. */
function policy(name: string, rules: readonly object[]): object {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { name, namespace: NS },
    spec: { selector: `app == '${name}'`, types: ["Ingress"], ingress: rules },
  };
}

beforeAll(async () => {
  await lab.up("--dual-stack", "--nodes", "2");
  const pod = (name: string, node: string): object => serverPod(NS, name, { app: name }, 80, { nodeName: node });
  await lab.apply(
    list(
      namespace(NS),
      policy("server", [{ action: "Allow", source: { selector: "app == 'client'" } }, { action: "Deny" }]),
      policy("closed", [{ action: "Allow", source: { selector: "app == 'client'" } }]),
      pod("client", "n1"),
      pod("stranger", "n1"),
      pod("server", "n2"),
      pod("closed", "n2"),
    ),
  );
  [client, stranger, server, closed] = (await lab.pods(NS, "client", "stranger", "server", "closed")) as [
    LabPod,
    LabPod,
    LabPod,
    LabPod,
  ];
  nodes = [await lab.node("n1"), await lab.node("n2")];
  // Adding one to an interface that is up makes the kernel drop what it sends for some milliseconds, whoever does it.
  for (const node of nodes) {
    const devices = ["eth0", ...[client, stranger, server, closed].map((pod) => pod.interface)];
    for (const device of devices) await lab.inNode(node, "tc", "qdisc", "add", "dev", device, "clsact");
  }
}, 180_000);

afterAll(() => lab.down(), 60_000);

/** Whether the node's kernel has something of ours by that dataplane. */
async function isThere(node: LabNode, dataplane: Dataplane): Promise<boolean> {
  if (dataplane === "nftables")
    return (await lab.inNode(node, "nft", "list", "table", "inet", "calico")).exitCode === 0;
  if (dataplane === "ebpf") {
    const tables = (await lab.inNode(node, "nft", "list", "tables")).stdout;
    const programs = (await lab.inNode(node, "tc", "filter", "show", "dev", "eth0", "ingress")).stdout;
    const pins = (await lab.inNode(node, "ls", `${node.root}/sys/fs/bpf/calico`)).stdout;
    return /calico-(ebpf|guard)/.test(tables) || programs.includes("calico") || pins.trim() !== "";
  }
  const variant = dataplane === "iptables-legacy" ? "legacy" : "nft";
  for (const word of ["iptables", "ip6tables"])
    if ((await lab.inNode(node, `${word}-${variant}-save`)).stdout.includes("cali-")) return true;
  return false;
}

async function changeTo(dataplane: Dataplane): Promise<void> {
  const spec = DATAPLANE_SPECS[dataplane];
  await lab.apply(
    list({ apiVersion: "projectcalico.org/v3", kind: "FelixConfiguration", metadata: { name: "default" }, spec }),
  );
  for (const node of nodes)
    await until(`${node.name} to run ${dataplane} alone`, async () => {
      const { drivers } = await lab.daemon(node);
      if (!drivers.some(({ name, pending }) => name === dataplane && pending === 0)) return false;
      for (const each of DATAPLANES) if ((await isThere(node, each)) !== (each === dataplane)) return false;
      return true;
    });
}

async function connects(from: LabPod, to: LabPod): Promise<boolean[]> {
  return Promise.all(to.addresses.map((address) => lab.connects(from, address, 80)));
}

async function counted(name: string): Promise<readonly { rule: number; action: string; packets: number }[]> {
  const { stdout } = await lab.inNode(nodes[1] as LabNode, CALICO, "node", "--counters", "-o", "json");
  const { rules } = JSON.parse(stdout) as {
    rules: { policy: { name: string }; rule: number; action: string; packets: number }[];
  };
  return rules.filter((rule) => rule.policy.name === name);
}

const TOUR: readonly Dataplane[] = [
  "iptables-legacy",
  "iptables-nft",
  "nftables",
  "iptables-nft",
  "iptables-legacy",
  "nftables",
  "ebpf",
  "iptables-legacy",
  "ebpf",
  "iptables-nft",
  "ebpf",
  "nftables",
];

for (const [i, dataplane] of TOUR.entries())
  test(`from ${TOUR[i - 1] ?? "nftables"} to ${dataplane}: allowed datagrams arrive, denied ones do not`, async () => {
    const allowed = await Datagrams.start(client.netns, server.netns, server.addresses);
    const denied = await Datagrams.start(stranger.netns, closed.netns, closed.addresses);
    try {
      await until("datagrams to arrive", async () => (await allowed.arrived()).ipv6 > 100);
      await changeTo(dataplane);
      const then = await allowed.arrived();
      await until("more to arrive", async () => (await allowed.arrived()).ipv6 > then.ipv6 + 200);
      const { sent, arrived } = await allowed.total();
      expect(arrived).toEqual(sent);
      expect((await denied.sent()).ipv6).toBeGreaterThan(200);
      expect((await denied.total()).arrived).toEqual(NONE);
      expect(await connects(client, server)).toEqual([true, true]);
      expect(await connects(stranger, server)).toEqual([false, false]);
      expect((await counted("server")).map(({ rule, action, packets }) => [rule, action, packets > 0])).toEqual([
        [1, "allow", true],
        [2, "deny", true],
      ]);
    } finally {
      await allowed.stop();
      await denied.stop();
    }
  }, 60_000);

test("on iptables a pod comes, its labels change, and it goes", async () => {
  await changeTo("iptables-nft");
  await lab.apply(list(serverPod(NS, "late", { app: "late" }, 80, { nodeName: "n1" })));
  const [late] = (await lab.pods(NS, "late")) as [LabPod];
  expect(await connects(late, server)).toEqual([false, false]);
  await lab.must("label", "pod", "-n", NS, "late", "app=client", "--overwrite");
  await until("the label to let it in", async () => (await connects(late, server)).every((each) => each));
  await lab.must("label", "pod", "-n", NS, "late", "app=late", "--overwrite");
  await until("the label to shut it out", async () => (await connects(late, server)).every((each) => !each));
  await lab.must("delete", "pod", "-n", NS, "late", "--wait=true");
  await until(
    "its chains to go",
    async () => !(await lab.inNode(nodes[0] as LabNode, "iptables-nft-save")).stdout.includes(late.interface),
  );
}, 120_000);

// eBPF becomes the owner of its two tables.
for (const [dataplane, writes] of [
  ["iptables-legacy", 0],
  ["ebpf", kernelOwnsTables() ? 2 : 0],
] as const)
  test(`a daemon that is killed adopts what it finds of ${dataplane}`, async () => {
    await changeTo(dataplane);
    const node = await lab.node("n2");
    const { restarts } = node;
    expect(await connects(client, server)).toEqual([true, true]);
    const before = await counted("server");
    await lab.inNode(node, "kill", "-9", String(node.pid));
    await until("the daemon to be back", async () => {
      const now = await lab.node("n2");
      return now.restarts > restarts && (await lab.daemon(now).catch(() => undefined))?.inSync === true;
    });
    const { drivers } = await lab.daemon(await lab.node("n2"));
    expect(drivers.find(({ name }) => name === dataplane)).toMatchObject({ writes, pending: 0 });
    const after = await counted("server");
    for (const [i, { packets }] of before.entries()) expect(after[i]?.packets).toBeGreaterThanOrEqual(packets);
    expect(await connects(client, server)).toEqual([true, true]);
    expect(await connects(stranger, server)).toEqual([false, false]);
  }, 60_000);

test("one look tells what of eBPF would be written, and writes nothing", async () => {
  await changeTo("ebpf");
  const [node] = nodes as [LabNode];
  const options = ["--node-name", node.name, "--root", node.root];
  const kubeconfig = lab.kubeconfig.replace(/kubeconfig$/, "node-kubeconfig");
  const look = (): Promise<{ exitCode: number; stdout: string; stderr: string }> =>
    lab.inNode(node, CALICO, "node", "--observe", "--once", ...options, "--kubeconfig", kubeconfig);
  expect(await look()).toMatchObject({ exitCode: 0, stdout: "" });
  process.kill(node.pid, "SIGSTOP");
  try {
    const pins = (await lab.inNode(node, "ls", `${node.root}/sys/fs/bpf/calico`)).stdout;
    await lab.inNode(node, "tc", "filter", "del", "dev", client.interface, "ingress");
    const first = await look();
    expect([first.exitCode, first.stdout]).toEqual([
      1,
      `+ program from_workload at ${client.interface} ingress\n~ table inet calico-guard\n~ interfaces for the way past the host stack\n`,
    ]);
    expect(await look()).toEqual(first);
    expect((await lab.inNode(node, "ls", `${node.root}/sys/fs/bpf/calico`)).stdout).toBe(pins);
  } finally {
    process.kill(node.pid, "SIGCONT");
  }
  await until("the program to be back", async () =>
    (await lab.inNode(node, "tc", "filter", "show", "dev", client.interface, "ingress")).stdout.includes("calico"),
  );
}, 60_000);

test("one look tells what would be written, and writes nothing", async () => {
  for (const dataplane of ["iptables-nft", "iptables-legacy"] as const) {
    await changeTo(dataplane);
    const [node] = nodes as [LabNode];
    const kubeconfig = lab.kubeconfig.replace(/kubeconfig$/, "node-kubeconfig");
    const look = (): Promise<{ exitCode: number; stdout: string }> =>
      lab.inNode(
        node,
        CALICO,
        "node",
        "--observe",
        "--once",
        "--node-name",
        node.name,
        "--root",
        node.root,
        "--kubeconfig",
        kubeconfig,
      );
    expect(await look()).toMatchObject({ exitCode: 0, stdout: "" });
    // Nobody repairs it before the look: the daemon is stopped.
    process.kill(node.pid, "SIGSTOP");
    try {
      const program = `iptables-${dataplane === "iptables-nft" ? "nft" : "legacy"}`;
      await lab.inNode(node, program, "-I", "cali-FORWARD", "1", "-s", "192.0.2.1/32", "-j", "ACCEPT");
      const { exitCode, stdout } = await look();
      expect(exitCode).toBe(1);
      expect(stdout).toMatch(
        /^~ chain filter cali-FORWARD of IPv4 \(\d+ rules\)\n {4}- -s 192\.0\.2\.1\/32 -j ACCEPT\n/,
      );
      await lab.inNode(node, program, "-D", "cali-FORWARD", "1");
    } finally {
      process.kill(node.pid, "SIGCONT");
    }
  }
}, 60_000);
