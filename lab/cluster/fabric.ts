/** fabric: the lab's machines as network namespaces on one bridge, which is in its own namespace. */
import { existsSync, readdirSync } from "node:fs";
import {
  BRIDGE,
  type Layout,
  type Machine,
  netnsPath,
  netnsPrefix,
  type NodeLayout,
  NODE_INTERFACE,
  SUBNET4,
  SUBNET6,
} from "./layout.ts";
import { run, tryRun } from "./run.ts";

function addNamespace(name: string): boolean {
  const absent = !existsSync(netnsPath(name));
  if (absent) run(["ip", "netns", "add", name]);
  run(["ip", "-n", name, "link", "set", "lo", "up"]);
  return absent;
}

function sysctl(netns: string, ...settings: readonly string[]): void {
  run(["ip", "netns", "exec", netns, "sysctl", "-qw", ...settings]);
}

function hasLink(netns: string, link: string): boolean {
  return tryRun(["ip", "-n", netns, "link", "show", "dev", link]).exitCode === 0;
}

function configure(netns: string, commands: readonly string[]): void {
  run(["ip", "-n", netns, "-batch", "-"], `${commands.join("\n")}\n`);
}

/** Ensures that an address exists. */
function address(text: string, link: string): string {
  return `addr replace ${text} dev ${link}${text.includes(":") ? " nodad" : ""}`;
}

/** Nodes of the lab that have no network namespace. */
export function missingNamespaces(layout: Layout): readonly NodeLayout[] {
  return layout.nodes.filter((node) => !existsSync(node.netnsPath));
}

/** Creates what does not exist and repairs what does; idempotent. */
export function makeFabric(layout: Layout): void {
  const { ipv4, ipv6 } = layout.config;
  const made = addNamespace(layout.fabricNetns);
  if (!hasLink(layout.fabricNetns, BRIDGE)) configure(layout.fabricNetns, [`link add ${BRIDGE} type bridge`]);
  configure(layout.fabricNetns, [
    `link set ${BRIDGE} up`,
    ...(ipv4 ? [address(`172.30.0.1/${SUBNET4.split("/")[1]}`, BRIDGE)] : []),
    ...(ipv6 ? [address(`fd00:30::1/${SUBNET6.split("/")[1]}`, BRIDGE)] : []),
    ...layout.etcdHosts.map((host) =>
      address(`${host}/${(host.includes(":") ? SUBNET6 : SUBNET4).split("/")[1]}`, BRIDGE),
    ),
  ]);
  if (made) {
    // The fabric must not filter bridged packets.
    for (const key of ["iptables", "ip6tables", "arptables"]) {
      if (existsSync(`/proc/sys/net/bridge/bridge-nf-call-${key}`))
        sysctl(layout.fabricNetns, `net.bridge.bridge-nf-call-${key}=0`);
    }
  }
  for (const node of layout.nodes) {
    makeNode(layout, node);
    if (node.machine !== undefined) makeMachine(node, node.machine);
  }
}

function makeNode(layout: Layout, node: NodeLayout): void {
  addNamespace(node.netns);
  const port = `port-${node.name}`;
  if (!hasLink(node.netns, NODE_INTERFACE) || !hasLink(layout.fabricNetns, port)) {
    // Half of a pair whose other half lost its namespace may still exist: the kernel cleans up a namespace later.
    tryRun(["ip", "-n", layout.fabricNetns, "link", "del", port]);
    tryRun(["ip", "-n", node.netns, "link", "del", NODE_INTERFACE]);
    run([
      "ip",
      "-n",
      layout.fabricNetns,
      "link",
      "add",
      port,
      "type",
      "veth",
      "peer",
      "name",
      NODE_INTERFACE,
      "netns",
      node.netns,
    ]);
  }
  configure(layout.fabricNetns, [`link set ${port} master ${BRIDGE} up`]);
  configure(node.netns, [
    `link set ${NODE_INTERFACE} up`,
    ...node.addresses.map((text) => address(`${text}/${text.includes(":") ? 64 : 24}`, NODE_INTERFACE)),
  ]);
}

/** The gateway of machines: for IPv4 any address, for IPv6 the link-local address of the host's end, which follows from this. */
const TAP_MAC = "ee:ee:ee:ee:ee:ee";
const [GATEWAY4, GATEWAY6] = ["169.254.1.1", "fe80::ecee:eeff:feee:eeee"];

/** The fabric's own addresses. */
const [ROUTER4, ROUTER6] = ["172.30.0.1", "fd00:30::1"];

/** What a hypervisor would do: an interface of the host, and behind it a machine that has its addresses and a gateway. */
function makeMachine(node: NodeLayout, { netns, interface: device, addresses }: Machine): void {
  addNamespace(netns);
  if (!hasLink(node.netns, device) || !hasLink(netns, "eth0")) {
    tryRun(["ip", "-n", node.netns, "link", "del", device]);
    tryRun(["ip", "-n", netns, "link", "del", "eth0"]);
    const add = ["ip", "-n", node.netns, "link", "add", device, "address", TAP_MAC, "type", "veth"];
    run([...add, "peer", "name", "eth0", "netns", netns]);
  }
  // The kernel answers for a gateway that is nobody's only where a route leads there.
  const routes = node.addresses.map((each) => `route replace default via ${each.includes(":") ? ROUTER6 : ROUTER4}`);
  configure(node.netns, [`link set ${device} up`, ...routes]);
  const families = [
    { gateway: GATEWAY4, own: addresses.filter((each) => !each.includes(":")) },
    { gateway: GATEWAY6, own: addresses.filter((each) => each.includes(":")) },
  ].filter(({ own }) => own.length > 0);
  configure(netns, [
    "link set eth0 up",
    ...addresses.map((each) => address(`${each}/${each.includes(":") ? 128 : 32}`, "eth0")),
    ...families.map(({ gateway }) => `route replace default via ${gateway} dev eth0 onlink`),
  ]);
}

/** Removes every namespace of the lab, whichever process created it. */
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
