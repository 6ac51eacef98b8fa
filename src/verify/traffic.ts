/** Traffic: protocols and destination ports, divided into classes within which no policy of a cluster can distinguish two packets. */
import { type Cluster, type ClusterPod, rulesOf, type WrittenPort } from "../semantics/cluster.ts";
import { portOf } from "../semantics/match.ts";
import { formatProtocol, type Protocol, protocolByName, SCTP, TCP, UDP } from "../net/protocol.ts";

/** Destination ports `from`..`to` of a protocol, or (`other`) everything that has no ports. */
export type Traffic = { readonly protocol: Protocol; readonly from: number; readonly to: number } | "other";

const MAX_PORT = 65535;

/** All traffic, in order of protocol and port. The destinations matter for the port names that policies use. */
export function allTraffic(cluster: Cluster, destinations: readonly ClusterPod[]): Traffic[] {
  return [...[TCP, UDP, SCTP].flatMap((protocol) => classesOf(protocol, cluster, destinations)), "other"];
}

function classesOf(protocol: Protocol, cluster: Cluster, destinations: readonly ClusterPod[]): Traffic[] {
  const starts = new Set([0]);
  const cut = (from: number, to: number): void => void starts.add(from).add(to + 1);
  for (const entry of portEntries(cluster)) {
    const { protocols, port } = portOf(entry);
    if (port !== undefined && "from" in port && protocols.includes(protocol)) cut(port.from, port.to);
  }
  for (const pod of destinations) for (const own of pod.ports) if (own.protocol === protocol) cut(own.port, own.port);
  const sorted = [...starts].filter((start) => start <= MAX_PORT).sort((a, b) => a - b);
  return sorted.map((from, i) => ({ protocol, from, to: (sorted[i + 1] ?? MAX_PORT + 1) - 1 }));
}

function portEntries(cluster: Cluster): WrittenPort[] {
  return rulesOf(cluster).flatMap(({ source, destination }) =>
    [source, destination].flatMap((side) => [...(side.ports ?? []), ...(side.notPorts ?? [])]),
  );
}

/** `6379/tcp`, `0-79/tcp, 81-65535/tcp`, `tcp`, `protocols without ports`, `all traffic`; neighbours are joined. */
export function formatTraffic(classes: readonly Traffic[]): string {
  const joined: { protocol: Protocol; from: number; to: number }[] = [];
  for (const traffic of classes) {
    if (traffic === "other") continue;
    const last = joined.at(-1);
    if (last !== undefined && last.protocol === traffic.protocol && last.to + 1 === traffic.from) last.to = traffic.to;
    else joined.push({ ...traffic });
  }
  const names = [...joined.map(formatPorts), ...(classes.includes("other") ? ["protocols without ports"] : [])].join(
    ", ",
  );
  return names === "tcp, udp, sctp, protocols without ports" ? "all traffic" : names;
}

function formatPorts({
  protocol,
  from,
  to,
}: {
  readonly protocol: Protocol;
  readonly from: number;
  readonly to: number;
}): string {
  if (from === 0 && to === MAX_PORT) return formatProtocol(protocol);
  return `${from === to ? from : `${from}-${to}`}/${formatProtocol(protocol)}`;
}

/** `tcp`, `udp` or `sctp`, in any case. */
export function protocolWithPorts(name: string): Protocol | undefined {
  return ["TCP", "UDP", "SCTP"].includes(name.toUpperCase()) ? protocolByName(name.toUpperCase()) : undefined;
}
