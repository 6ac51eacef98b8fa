/** FlowPacket: the fields of a packet that policy can see; input of both definitions of its meaning. */
import type { Addr } from "./addr.ts";
import type { Protocol } from "./protocol.ts";

export interface FlowPacket {
  readonly source: Addr;
  readonly destination: Addr;
  readonly protocol: Protocol;
  /** Present exactly for TCP, UDP and SCTP. */
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
  /** Present only for ICMP and ICMPv6. */
  readonly icmp?: Icmp | undefined;
}

/** The first two bytes of the header. Source: RFC 792, RFC 4443 §2.1. */
export interface Icmp {
  readonly type: number;
  readonly code: number;
}
