/** NodeAddresses: the addresses at which other nodes reach a Node, one per family. */
import { type Addr, type Family, familyOf, parseAddr } from "../../net/addr.ts";
import type { Resource } from "../resource.ts";

export interface NodeAddresses {
  readonly ipv4: Addr | undefined;
  readonly ipv6: Addr | undefined;
}

/** Where upstream's calico/node records the addresses that it detected: CIDR text with the subnet's length. */
export const ADDRESS_ANNOTATIONS = { 4: "projectcalico.org/IPv4Address", 6: "projectcalico.org/IPv6Address" } as const;

/** The annotation of the family if there is a valid one, else the first InternalIP of the family in the status. */
export function nodeAddressesOf(node: Resource<"Node">): NodeAddresses {
  return { ipv4: addressOf(node, 4), ipv6: addressOf(node, 6) };
}

function addressOf(node: Resource<"Node">, family: Family): Addr | undefined {
  const annotation = node.metadata.annotations?.[ADDRESS_ANNOTATIONS[family]];
  const texts = annotation === undefined ? [] : [annotation.split("/")[0] ?? ""];
  for (const { type, address } of node.status?.addresses ?? []) if (type === "InternalIP") texts.push(address);
  for (const text of texts) {
    const addr = parseAddr(text);
    if (addr.ok && familyOf(addr.value) === family) return addr.value;
  }
  return undefined;
}
