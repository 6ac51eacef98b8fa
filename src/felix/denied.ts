/** denied: the packets that policy has denied lately (`/denied` of health), for people or as they are. */
import type { Denied, DeniedBy, DeniedEnd, DeniedPacket } from "../dataplane/denied.ts";
import type { Sockets } from "../host/sockets.ts";
import { formatName } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { formatProtocol } from "../net/protocol.ts";
import { askDaemon, type DaemonAddress } from "./ask.ts";
import { formatTable } from "./table.ts";

/** With a line end. Rejects with SocketError when no daemon answers there. */
export async function askDenied(
  sockets: Pick<Sockets, "fetch">,
  address: DaemonAddress,
  asJson: boolean,
): Promise<string> {
  const denied = await askDaemon(sockets, address, "/denied", (body) =>
    typeof body === "object" && body !== null && "dataplane" in body ? (body as Denied) : undefined,
  );
  return asJson ? `${JSON.stringify(denied, null, 2)}\n` : formatDenied(denied);
}

export function formatDenied({ dataplane, packets, missed = 0 }: Denied): string {
  if (packets === undefined)
    return (
      `The dataplane ${dataplane} does not tell of denied packets, only eBPF does: a rule with the action Log before the one that denies writes them to ` +
      "the kernel's log, and calico node --counters says how many each rule has denied.\n"
    );
  const rows = packets.map(({ time, from, to, packet, by }: DeniedPacket) => [
    time,
    formatEnd(from),
    formatEnd(to),
    formatPacket(packet),
    formatBy(by),
  ]);
  const more =
    missed === 0
      ? ""
      : `${missed} more were denied or logged since the path is there and not told of: too many at once.\n`;
  const none = packets.length === 0 ? "Policy has denied nothing since the daemon started.\n" : "";
  return `${none || formatTable(["TIME", "FROM", "TO", "PACKET", "DENIED BY"], rows)}${more}`;
}

function formatEnd({ interface: name, endpoint }: DeniedEnd): string {
  if (name === undefined) return "the node";
  return endpoint === undefined ? name : `${endpoint.kind} ${formatName(endpoint)} (${name})`;
}

/** `tcp 10.65.0.4:40000 → 10.65.0.5:80`, `icmp 10.65.0.4 → 10.65.0.5 type 8 code 0`. */
function formatPacket({ source, destination, protocol, sourcePort, destinationPort, icmp }: FlowPacket): string {
  const icmpWords = icmp === undefined ? "" : ` type ${icmp.type} code ${icmp.code}`;
  return `${formatProtocol(protocol)} ${formatSocket(source, sourcePort)} → ${formatSocket(destination, destinationPort)}${icmpWords}`;
}

/** `10.65.0.1:80`, `[fd00::1]:80`; without a port the address. */
export function formatSocket(addr: Addr, port: number | undefined): string {
  if (port === undefined) return addr;
  return addr.includes(":") ? `[${addr}]:${port}` : `${addr}:${port}`;
}

function formatBy(by: DeniedBy): string {
  switch (by.is) {
    case "rule":
      return `${by.direction} rule ${by.rule} of ${by.policy.kind} ${formatName(by.policy)} in tier ${by.tier}`;
    case "tier-end":
      return `${by.direction}: no rule of tier ${by.tier} matched`;
    case "end":
      return `${by.direction}: no profile allows it`;
    default:
      return "not known: policy has changed since";
  }
}
