/** Protocol: IP protocol numbers and the names that Kubernetes and Calico users write. Source: IANA protocol numbers. */
import type { Brand } from "../lib/brand.ts";

/** 0 to 255, the IPv4 `protocol` or the last IPv6 `next header`. */
export type Protocol = Brand<number, "Protocol">;

export const ICMP = 1 as Protocol;
export const TCP = 6 as Protocol;
export const UDP = 17 as Protocol;
export const ICMPV6 = 58 as Protocol;
export const SCTP = 132 as Protocol;
export const UDPLITE = 136 as Protocol;

const NAMES: ReadonlyMap<string, Protocol> = new Map([
  ["TCP", TCP],
  ["UDP", UDP],
  ["SCTP", SCTP],
  ["ICMP", ICMP],
  ["ICMPv6", ICMPV6],
  ["UDPLite", UDPLITE],
]);

/** The number of a name exactly as the API spells it (`TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, `UDPLite`), or undefined. */
export function protocolByName(name: string): Protocol | undefined {
  return NAMES.get(name);
}

/** The protocol that a valid rule names, by name or by number. */
export function parseProtocol(written: number | string): Protocol {
  return protocolByName(String(written)) ?? (Number(written) as Protocol);
}

/** `tcp` for 6, the bare number for one without a name. */
export function formatProtocol(protocol: Protocol): string {
  for (const [name, number] of NAMES) if (number === protocol) return name.toLowerCase();
  return String(protocol);
}
