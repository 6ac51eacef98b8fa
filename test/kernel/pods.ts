/** pods: veth pairs between a namespace that is the node and others, with neighbours known and nothing left to chance, for raw packets. */
import { type Namespace } from "./fixture.ts";

export const HOST_MAC = "ee:ee:ee:ee:ee:ee";
export const POD_MAC = "02:00:00:00:00:01";

/** Forwards both families and drops nothing before nf_tables sees it. */
export function makeRouter(node: Namespace): void {
  node.run([
    "sysctl",
    "-qw",
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv6.conf.default.accept_dad=0",
  ]);
}

/** `name` on the node, `eth0` in the other; what is routed there by its gateway addresses 169.254.7.7 and fe80::7 reaches it. */
export function connect(node: Namespace, name: string, other: Namespace): void {
  const pair = `link add ${name} address ${HOST_MAC} type veth peer name eth0 address ${POD_MAC} netns ${other.name}`;
  const gateways = ["169.254.7.7", "fe80::7"].map(
    (gateway) => `neigh add ${gateway} lladdr ${POD_MAC} dev ${name} nud permanent`,
  );
  runBatch(node, [pair, `link set ${name} up`, ...gateways]);
  other.run(["ip", "link", "set", "eth0", "up"]);
}

/** Commands of `ip`, by one process. */
export function runBatch(namespace: Namespace, commands: readonly string[]): void {
  namespace.run(["ip", "-batch", "-"], commands.map((command) => `${command}\n`).join(""));
}

/** Everything that has no other route goes out there. */
export function routeDefault(node: Namespace, name: string): void {
  runBatch(
    node,
    ["169.254.7.7", "fe80::7"].map((gateway) => `route add default via ${gateway} dev ${name} onlink`),
  );
}

export function routePod(node: Namespace, name: string, addr: string): void {
  routePods(node, [{ addr, interface: name }]);
}

export function routePods(
  node: Namespace,
  places: readonly { readonly addr: string; readonly interface: string }[],
): void {
  const lines = places.flatMap(({ addr, interface: name }) => [
    `route replace ${addr} dev ${name}`,
    `neigh replace ${addr} lladdr ${POD_MAC} dev ${name} nud permanent`,
  ]);
  runBatch(node, lines);
}
