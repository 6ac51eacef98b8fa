/** fabric: the lab's machines as network namespaces on one bridge, which lies in a namespace of its own. */
import { existsSync, readdirSync } from "node:fs";
import { BRIDGE, type Layout, netnsPath, netnsPrefix, type NodeLayout, NODE_INTERFACE, SUBNET4, SUBNET6 } from "./layout.ts";
import { run, tryRun } from "./run.ts";

function addNamespace(name: string): boolean {
  if (existsSync(netnsPath(name))) return false;
  run(["ip", "netns", "add", name]);
  run(["ip", "-n", name, "link", "set", "lo", "up"]);
  return true;
}

function sysctl(netns: string, ...settings: readonly string[]): void {
  run(["ip", "netns", "exec", netns, "sysctl", "-qw", ...settings]);
}

/** Makes what does not exist yet; may be repeated. */
export function makeFabric(layout: Layout): void {
  const { ipv4, ipv6 } = layout.config;
  if (addNamespace(layout.fabricNetns)) {
    const commands = [
      `link add ${BRIDGE} type bridge`,
      `link set ${BRIDGE} up`,
      ...(ipv4 ? [`addr add 172.30.0.1/${SUBNET4.split("/")[1]} dev ${BRIDGE}`] : []),
      ...(ipv6 ? [`addr add fd00:30::1/${SUBNET6.split("/")[1]} dev ${BRIDGE} nodad`] : []),
    ];
    run(["ip", "-n", layout.fabricNetns, "-batch", "-"], `${commands.join("\n")}\n`);
    // Bridged packets are not the fabric's to filter.
    for (const key of ["iptables", "ip6tables", "arptables"]) {
      if (existsSync(`/proc/sys/net/bridge/bridge-nf-call-${key}`)) sysctl(layout.fabricNetns, `net.bridge.bridge-nf-call-${key}=0`);
    }
  }
  for (const node of layout.nodes) makeNode(layout, node);
}

function makeNode(layout: Layout, node: NodeLayout): void {
  if (!addNamespace(node.netns)) return;
  const port = `port-${node.name}`;
  run(["ip", "-n", layout.fabricNetns, "link", "add", port, "type", "veth", "peer", "name", NODE_INTERFACE, "netns", node.netns]);
  run(["ip", "-n", layout.fabricNetns, "link", "set", port, "master", BRIDGE, "up"]);
  const addresses = node.addresses.map((address) => (address.includes(":") ? `addr add ${address}/64 dev ${NODE_INTERFACE} nodad` : `addr add ${address}/24 dev ${NODE_INTERFACE}`));
  run(["ip", "-n", node.netns, "-batch", "-"], `${[`link set ${NODE_INTERFACE} up`, ...addresses].join("\n")}\n`);
}

/** Removes every namespace of the lab, whoever made it. */
export function removeNamespaces(name: string): number {
  let removed = 0;
  if (!existsSync("/run/netns")) return 0;
  for (const entry of readdirSync("/run/netns")) {
    if (!entry.startsWith(netnsPrefix(name))) continue;
    tryRun(["ip", "netns", "del", entry]);
    removed++;
  }
  return removed;
}
