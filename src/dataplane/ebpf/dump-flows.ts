/** dump-flows: the flows that the pinned map of connections holds, in names. It writes nothing. */
import type { Sys } from "../../host/sys.ts";
import { nanosecondsSinceBoot } from "../../kernel/uptime.ts";
import { type Addr, familyOf } from "../../net/addr.ts";
import type { Icmp } from "../../net/flow.ts";
import { ICMP, ICMPV6, type Protocol } from "../../net/protocol.ts";
import {
  type Connection,
  type ConnectionKey,
  decodeConnection,
  decodeConnectionKey,
  type FlowEnd,
  type FlowState,
  firstPacketOf,
  goesPast,
  PICKED_UP,
  stateOf,
} from "./connections.ts";
import type { DataplaneMaps } from "./maps.ts";

/** One side of a packet; of an echo both ports are its identifier. */
interface Tuple {
  readonly source: Addr;
  readonly sourcePort: number | undefined;
  readonly destination: Addr;
  readonly destinationPort: number | undefined;
}

export interface DumpedFlow {
  readonly protocol: Protocol;
  /** The first packet as it left, all translations done. */
  readonly tuple: Tuple;
  /** As it was sent. */
  readonly sent: Tuple & { readonly icmp?: Icmp | undefined };
  /** Interfaces of the two ends; `the node`, or undefined where it is not known. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly state: FlowState;
  /** It stands for the tuple before translation of a flow to the node. */
  readonly isAlias: boolean;
  /** It was taken over in its middle: either end may have begun it. */
  readonly isPickedUp: boolean;
  /** Packets in its middle go past the host stack. */
  readonly isPast: boolean;
  /** Since its last packet, to a second or so. */
  readonly idleSeconds: number;
}

/** By idle time, the latest first. Throws KernelError. */
export function dumpFlows(
  sys: Sys,
  { connections }: Pick<DataplaneMaps, "connections">,
  names: ReadonlyMap<number, string>,
): readonly DumpedFlow[] {
  const flows: DumpedFlow[] = [];
  for (const batch of connections.batches()) {
    const now = nanosecondsSinceBoot(sys);
    for (const entry of batch) {
      const key = decodeConnectionKey(entry.key);
      const flow = dumpedFlow(key, decodeConnection(entry.value, familyOf(key.source)), now, names);
      flows.push({ ...flow, isPast: flow.state === "answered" && goesPast(entry.value, now) });
    }
  }
  return flows.sort((a, b) => a.idleSeconds - b.idleSeconds);
}

function dumpedFlow(
  key: ConnectionKey,
  connection: Connection,
  now: bigint,
  names: ReadonlyMap<number, string>,
): Omit<DumpedFlow, "isPast"> {
  const { source, destination, protocol } = key;
  const { original } = firstPacketOf(key, connection);
  const hasPorts = original.sourcePort !== undefined;
  const isEcho = protocol === ICMP || protocol === ICMPV6;
  const port = (number: number): number | undefined =>
    isEcho ? ((number & 0xff) << 8) | (number >> 8) : hasPorts ? number : undefined;
  const nameOf = ({ kind, interfaceIndex }: FlowEnd): string | undefined => {
    if (kind === "node") return "the node";
    if (interfaceIndex === 0) return undefined;
    return names.get(interfaceIndex) ?? `interface ${interfaceIndex} (gone)`;
  };
  const [from, to] = connection.ends;
  // A processor's clock may be ahead of the one that is read, which is exact to 10 ms.
  const idle = now > connection.seen ? now - connection.seen : 0n;
  return {
    protocol,
    tuple: { source, sourcePort: port(key.sourcePort), destination, destinationPort: port(key.destinationPort) },
    sent: {
      source: original.source,
      sourcePort: original.sourcePort,
      destination: original.destination,
      destinationPort: original.destinationPort,
      icmp: original.icmp,
    },
    from: nameOf(from),
    to: nameOf(to),
    state: stateOf(key, connection, now),
    isAlias: connection.isAlias,
    isPickedUp: (connection.flags & PICKED_UP) !== 0,
    idleSeconds: Math.floor(Number(idle / 1_000_000n) / 1000),
  };
}
