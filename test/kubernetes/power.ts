/** power: what is left of a node when its machine loses power, or is replaced by a new one of the same name. */
import { readFileSync, rmSync } from "node:fs";
import type { Cluster } from "./cluster/cluster.ts";
import { openSys } from "../../src/host/bun/sys.ts";
import { IpSetClient } from "../../src/kernel/ipset/client.ts";
import { withNamespace } from "../../src/kernel/netns.ts";
import { inNetns, netnsPath, type NodeLayout } from "./cluster/layout.ts";
import { ctr } from "./cluster/node.ts";
import { ClusterError, run, tryRun } from "./cluster/run.ts";

const sys = openSys();

/** What a reboot leaves: the disk. Pods, the daemons that serve them, our kernel state and everything in /var/run are gone. */
export async function powerOff(cluster: Cluster, node: NodeLayout): Promise<void> {
  for (const daemon of ["calico", "kubelet"] as const) await cluster.stopDaemon(node.name, daemon, "SIGKILL");
  const tasks = (await run(ctr(node, cluster.binaries, "tasks", "list", "-q"))).split("\n").filter((id) => id !== "");
  for (const task of tasks) await tryRun(ctr(node, cluster.binaries, "tasks", "delete", "-f", task));
  const links =
    (await run(inNetns(node.netns, ["ip", "-o", "link", "show", "type", "veth"]))).match(/\bcali[0-9a-f]+/g) ?? [];
  for (const link of links) await tryRun(["ip", "-n", node.netns, "link", "del", link]);
  await removeRules(node);
  rmSync(`${node.root}/var/run/calico/cni`, { recursive: true, force: true });
}

/** Takes out of the node's kernel all that our daemon has programmed for policy, which must not run. Throws when there was nothing. */
export async function removeRules(node: NodeLayout): Promise<void> {
  let removed = 0;
  const tables = (await run(inNetns(node.netns, ["nft", "list", "tables"])))
    .split("\n")
    .filter((line) => line.includes("calico"));
  for (const table of tables) await run(inNetns(node.netns, ["nft", "delete", ...table.split(" ")]));
  removed += tables.length;
  for (const variant of ["nft", "legacy"])
    for (const program of [`iptables-${variant}`, `ip6tables-${variant}`]) {
      const lines = (await run(inNetns(node.netns, [`${program}-save`]))).split("\n");
      const others = lines.filter((line) => !/^:cali-|^-A cali-|-[jg] cali-/.test(line));
      if (others.length === lines.length) continue;
      await run(inNetns(node.netns, [`${program}-restore`]), others.join("\n"));
      removed++;
    }
  if (removed === 0) throw new ClusterError(`our daemon has programmed nothing on ${node.name}`);
  const sets = withNamespace(sys, netnsPath(node.netns), () => new IpSetClient(sys));
  for (const { name } of sets.list()) if (name.startsWith("cali")) sets.destroy(name);
  sets.close();
}

/** What a new machine has: interfaces, addresses and what was installed. No process, no disk of the old one, no kernel state. */
export async function replaceMachine(cluster: Cluster, node: NodeLayout): Promise<void> {
  await powerOff(cluster, node);
  for (const daemon of ["bird", "kube-proxy", "containerd"] as const)
    await cluster.stopDaemon(node.name, daemon, "SIGKILL");
  await run(inNetns(node.netns, ["nft", "flush", "ruleset"]));
  for (const family of ["-4", "-6"])
    for (const protocol of ["80", "bird"])
      await tryRun(["ip", "-n", node.netns, family, "route", "flush", "proto", protocol]);
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .flatMap((line) => line.split(" ")[1] ?? [])
    .filter((path) => path.startsWith(`${node.root}/`));
  for (const path of mounts.reverse()) await tryRun(["umount", "-l", path]);
  for (const path of [
    `${node.root}/var`,
    `${node.root}/etc/calico`,
    node.containerdRoot,
    node.containerdState,
    node.kubeletRoot,
  ])
    rmSync(path, { recursive: true, force: true });
}
