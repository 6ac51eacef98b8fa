/** set-rows: what a set of the program becomes: a hash set of hosts and an interval set of nets for each family. */
import type { NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { type Addr, addrFromInteger, FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import { mergeRanges, type Prefix, prefixRange } from "../../net/prefix.ts";
import type { SetId, SetMembers } from "../../program/policy.ts";
import { hex16, hex8, hexAddr, padField } from "./bytes.ts";
import { netsSetName, setName } from "./names.ts";
import { elementId, type NftRow, setId } from "./rows.ts";

type HashType = "address" | "address-port";

function addrField(family: Family): "ipv4_addr" | "ipv6_addr" {
  return family === 4 ? "ipv4_addr" : "ipv6_addr";
}

function hashSet(type: HashType, family: Family): NftSet {
  const key = type === "address" ? [addrField(family)] : ([addrField(family), "inet_proto", "inet_service"] as const);
  return { key, interval: false, verdictMap: false };
}

export function lowerSet(id: SetId, members: SetMembers): Map<string, NftRow> {
  const rows = new Map<string, NftRow>();
  if (members.type !== "nets") {
    for (const family of FAMILIES) {
      const set = setName(id, family);
      rows.set(setId(set), { type: "set", set, is: hashSet(members.type, family) });
    }
    const hosts = members.type === "address" ? members.hosts : members.members;
    for (const member of hosts) rows.set(...memberRow(id, members.type, member));
  }
  if (members.type !== "address-port") addNets(rows, id, members.type, members.nets);
  return rows;
}

/** Nets may overlap and touch; the kernel refuses elements that do. A family without nets has no set. */
function addNets(rows: Map<string, NftRow>, id: SetId, type: "address" | "nets", nets: ReadonlySet<Prefix>): void {
  for (const { family, first, last } of mergeRanges([...nets].map(prefixRange))) {
    const set = netsSetName(id, type, family);
    const is: NftSet = { key: [addrField(family)], interval: true, verdictMap: false };
    const element = {
      key: hexAddr(addrFromInteger(family, first)),
      keyEnd: hexAddr(addrFromInteger(family, last)),
      verdict: undefined,
    };
    rows.set(setId(set), { type: "set", set, is });
    rows.set(elementId(set, element), { type: "element", set, is, element });
  }
}

/** The element of one member: `ADDR`, or `ADDR,PROTOCOL,PORT`. */
export function memberRow(id: SetId, type: HashType, member: string): [string, NftRow] {
  const [addrText = "", protocol = "", port = ""] = member.split(",");
  const addr = addrText as Addr;
  const family = familyOf(addr);
  const set = setName(id, family);
  const key =
    type === "address"
      ? hexAddr(addr)
      : hexAddr(addr) + padField(hex8(Number(protocol))) + padField(hex16(Number(port)));
  const element: NftElement = { key, keyEnd: undefined, verdict: undefined };
  return [elementId(set, element), { type: "element", set, is: hashSet(type, family), element }];
}
