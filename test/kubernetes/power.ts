/** power: what is left of a node when its machine loses power, or is replaced by a new one of the same name. */
import { readFileSync, rmSync } from "node:fs";
import type { Cluster } from "./cluster/cluster.ts";
import { inNetns, type NodeLayout } from "./cluster/layout.ts";
import { ctr } from "./cluster/node.ts";
import { run, tryRun } from "./cluster/run.ts";

/** What a reboot leaves: the disk. Pods, the daemons that serve them, our kernel state and everything in /var/run are gone. */
export async function powerOff(cluster: Cluster, node: NodeLayout): Promise<void> {
  for (const daemon of ["calico", "kubelet"] as const) await cluster.stopDaemon(node.name, daemon, "SIGKILL");
  const tasks = (await run(ctr(node, cluster.binaries, "tasks", "list", "-q"))).split("\n").filter((id) => id !== "");
  for (const task of tasks) await tryRun(ctr(node, cluster.binaries, "tasks", "delete", "-f", task));
  const links =
    (await run(inNetns(node.netns, ["ip", "-o", "link", "show", "type", "veth"]))).match(/\bcali[0-9a-f]+/g) ?? [];
  for (const link of links) await tryRun(["ip", "-n", node.netns, "link", "del", link]);
  const tables = (await run(inNetns(node.netns, ["nft", "list", "tables"])))
    .split("\n")
    .filter((line) => line.includes("calico"));
  for (const table of tables) await run(inNetns(node.netns, ["nft", "delete", ...table.split(" ")]));
  rmSync(`${node.root}/var/run/calico/cni`, { recursive: true, force: true });
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
