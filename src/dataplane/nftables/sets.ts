/**
 * sets: the program's sets as kernel sets, one for each family, and their members as elements. Nothing of the members is kept here: the
 * program's own Set is what is wanted, and is enumerated, counted and asked in place.
 */
import type { NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { bytesFromHex } from "../../lib/bytes.ts";
import { type Addr, addrFromBytes, FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import type { SetId, SetMembers } from "../../program/policy.ts";
import type { Program } from "../../program/program.ts";
import { hex16, hex8, hexAddr, padField } from "./bytes.ts";
import { setName } from "./names.ts";

/** The kernel sets that hold the members; a set of ranges needs none for a family that has no range. */
export function kernelSetsOf(id: SetId, members: SetMembers): { readonly name: string; readonly is: NftSet }[] {
  return FAMILIES.filter(
    (family) => members.type !== "ranges" || members.ranges.some(({ first }) => familyOf(first) === family),
  ).map((family) => ({ name: setName(id, family), is: nftSetOf(members.type, family) }));
}

function nftSetOf(type: SetMembers["type"], family: Family): NftSet {
  const addr = family === 4 ? "ipv4_addr" : "ipv6_addr";
  if (type === "address-port") return { key: [addr, "inet_proto", "inet_service"], interval: false, verdictMap: false };
  return { key: [addr], interval: type === "ranges", verdictMap: false };
}

/** What is wanted in one kernel set, read from the program: it changes as that does. */
export interface WantedElements {
  /** In the order of the members; goes on with those that come while it is iterated. */
  elements(): IterableIterator<NftElement>;
  has(element: Pick<NftElement, "key" | "keyEnd">): boolean;
}

/** undefined: no set of the program has that kernel set. */
export function wantedElements(program: Program, kernelSet: string): WantedElements | undefined {
  // The inverse of setName.
  const id = kernelSet.slice(0, -2) as SetId;
  const family = kernelSet.endsWith("-6") ? 6 : 4;
  const members = program.sets.get(id);
  if (members === undefined || setName(id, family) !== kernelSet) return undefined;
  if (members.type === "ranges") {
    const ranges = members.ranges.filter(({ first }) => familyOf(first) === family);
    const elements = new Map<string, NftElement>();
    for (const { first, last } of ranges) {
      const element = { key: hexAddr(first), keyEnd: hexAddr(last), verdict: undefined };
      elements.set(elementText(element), element);
    }
    return { elements: () => elements.values(), has: (element) => elements.has(elementText(element)) };
  }
  const { type, members: live } = members;
  const known: ReadonlySet<string> = live;
  return {
    *elements() {
      for (const member of known) if (familyOfMember(member) === family) yield elementOfMember(type, member);
    },
    has({ key }) {
      const text = memberOfKey(type, family, key);
      return text !== undefined && known.has(text);
    },
  };
}

/** The kernel set and element of one member: `ADDR`, or `ADDR,PROTOCOL,PORT`. */
export function memberElement(
  id: SetId,
  type: "address" | "address-port",
  member: string,
): { readonly set: string; readonly element: NftElement } {
  return { set: setName(id, familyOfMember(member)), element: elementOfMember(type, member) };
}

/** `KEY`, or `KEY-END`: what tells the elements of one set apart. */
export function elementText({ key, keyEnd }: Pick<NftElement, "key" | "keyEnd">): string {
  return keyEnd === undefined ? key : `${key}-${keyEnd}`;
}

function familyOfMember(member: string): Family {
  return familyOf(member as Addr);
}

function elementOfMember(type: "address" | "address-port", member: string): NftElement {
  if (type === "address") return { key: hexAddr(member as Addr), keyEnd: undefined, verdict: undefined };
  const [addr = "", protocol = "", port = ""] = member.split(",");
  const key = hexAddr(addr as Addr) + padField(hex8(Number(protocol))) + padField(hex16(Number(port)));
  return { key, keyEnd: undefined, verdict: undefined };
}

const DIGITS = { 4: 8, 6: 32 } as const;

/** The inverse of `elementOfMember`; undefined for a key that no member has. */
function memberOfKey(type: "address" | "address-port", family: Family, key: string): string | undefined {
  const bytes = bytesFromHex(key.slice(0, DIGITS[family]));
  if (bytes === undefined || bytes.length * 2 !== DIGITS[family]) return undefined;
  const addr = addrFromBytes(bytes);
  if (type === "address") return key.length === DIGITS[family] ? addr : undefined;
  const rest = bytesFromHex(key.slice(DIGITS[family]));
  if (rest === undefined || rest.length !== 8 || [1, 2, 3, 6, 7].some((padding) => rest[padding] !== 0))
    return undefined;
  return `${addr},${rest[0]},${((rest[4] ?? 0) << 8) | (rest[5] ?? 0)}`;
}
