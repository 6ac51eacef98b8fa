/** fabric: nodes as network namespaces on a bridge, which lies in a namespace of its own together with the control plane. */
import { existsSync, readdirSync } from "node:fs";
import { API_ADDRESS, API_ADDRESS6, type Layout, netnsPath } from "./layout.ts";
import { run, tryRun } from "./run.ts";

export async function makeFabric(layout: Layout): Promise<void> {
  await run(["ip", "netns", "add", layout.fabric]);
  const bridge = [
    "link set lo up",
    "link add fabric type bridge",
    "link set fabric up",
    `addr add ${API_ADDRESS}/24 dev fabric`,
    `addr add ${API_ADDRESS6}/64 dev fabric nodad`,
  ];
  await run(["ip", "-n", layout.fabric, "-batch", "-"], `${bridge.join("\n")}\n`);
  for (const key of ["iptables", "ip6tables", "arptables"]) {
    // Bridged packets are not the fabric's to filter.
    if (existsSync(`/proc/sys/net/bridge/bridge-nf-call-${key}`))
      await run([
        "nsenter",
        `--net=${netnsPath(layout.fabric)}`,
        "sysctl",
        "-qw",
        `net.bridge.bridge-nf-call-${key}=0`,
      ]);
  }
  for (const node of layout.nodes) {
    await run(["ip", "netns", "add", node.netns]);
    await run([
      "ip",
      "-n",
      layout.fabric,
      "link",
      "add",
      `port-${node.name}`,
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      node.netns,
    ]);
    await run(["ip", "-n", layout.fabric, "link", "set", `port-${node.name}`, "master", "fabric", "up"]);
    const [ipv4, ipv6] = node.addresses;
    // A default route, as real nodes have: services of the cluster lie behind it until kube-proxy translates them.
    const commands = [
      "link set lo up",
      "link set eth0 up",
      `addr add ${ipv4}/24 dev eth0`,
      `addr add ${ipv6}/64 dev eth0 nodad`,
      `route add default via ${API_ADDRESS}`,
      `route add ::/0 via ${API_ADDRESS6}`,
    ];
    await run(["ip", "-n", node.netns, "-batch", "-"], `${commands.join("\n")}\n`);
  }
}

/** Removes every network namespace of the cluster. */
export async function removeFabric(id: string): Promise<void> {
  if (!existsSync("/run/netns")) return;
  for (const entry of readdirSync("/run/netns"))
    if (entry.startsWith(`${id}-`)) await tryRun(["ip", "netns", "del", entry]);
}
