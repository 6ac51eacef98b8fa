/**
 * sets: the program's sets as kernel sets, one of hosts and one of nets for each family, and their members as elements. Nothing of the
 * members is kept here: the program's own Set is what is wanted, and is enumerated, counted and asked in place.
 */
import type { NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { bytesFromHex } from "../../lib/bytes.ts";
import { type Addr, addrFromBytes, addrFromInteger, FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import { mergeRanges, type Prefix, prefixFamily, prefixRange } from "../../net/prefix.ts";
import type { SetId, SetMembers } from "../../program/policy.ts";
import type { Program } from "../../program/program.ts";
import { hex16, hex8, hexAddr, padField } from "./bytes.ts";
import { netsSetName, parseSetName, setName } from "./names.ts";

type HashType = "address" | "address-port";

export interface KernelSet {
  readonly name: string;
  readonly is: NftSet;
}

/** The kernel sets that hold the members. A family without nets needs none for them; hosts may come at any time. */
export function kernelSetsOf(id: SetId, members: SetMembers): KernelSet[] {
  return FAMILIES.flatMap((family) => {
    const { type } = members;
    const hosts = type === "nets" ? [] : [{ name: setName(id, family), is: HASH_SETS[type][family] }];
    if (type === "address-port" || !hasNets(members.nets, family)) return hosts;
    return [...hosts, { name: netsSetName(id, type, family), is: intervalSet(family) }];
  });
}

function hasNets(nets: ReadonlySet<Prefix>, family: Family): boolean {
  for (const net of nets) if (prefixFamily(net) === family) return true;
  return false;
}

function addrField(family: Family): "ipv4_addr" | "ipv6_addr" {
  return family === 4 ? "ipv4_addr" : "ipv6_addr";
}

function hashSetOf(type: HashType, family: Family): NftSet {
  const key = type === "address" ? [addrField(family)] : ([addrField(family), "inet_proto", "inet_service"] as const);
  return { key, interval: false, verdictMap: false };
}

/** One object of each, as there may be thousands of such sets. */
const HASH_SETS: Readonly<Record<HashType, Readonly<Record<Family, NftSet>>>> = {
  address: { 4: hashSetOf("address", 4), 6: hashSetOf("address", 6) },
  "address-port": { 4: hashSetOf("address-port", 4), 6: hashSetOf("address-port", 6) },
};

function intervalSet(family: Family): NftSet {
  return { key: [addrField(family)], interval: true, verdictMap: false };
}

/** What is wanted in one kernel set, read from the program: it changes as that does. */
export interface WantedElements {
  /** In the order of the members; goes on with those that come while it is iterated. */
  elements(): IterableIterator<NftElement>;
  /** How many they are. */
  count(): number;
  has(element: Pick<NftElement, "key" | "keyEnd">): boolean;
}

/** undefined: no set of the program has that kernel set. */
export function wantedElements(program: Program, kernelSet: string): WantedElements | undefined {
  const name = parseSetName(kernelSet);
  const members = name === undefined ? undefined : program.sets.get(name.id);
  if (name === undefined || members === undefined) return undefined;
  const { id, family } = name;
  if (members.type === "address-port")
    return kernelSet === setName(id, family) ? hosts(members.type, members.members, family) : undefined;
  if (kernelSet === netsSetName(id, members.type, family)) return nets(members.nets, family);
  return members.type === "address" ? hosts(members.type, members.hosts, family) : undefined;
}

function hosts(type: HashType, known: ReadonlySet<string>, family: Family): WantedElements {
  return {
    *elements() {
      for (const member of known) if (familyOfMember(member) === family) yield elementOfMember(type, member);
    },
    count() {
      let count = 0;
      for (const member of known) if (familyOfMember(member) === family) count++;
      return count;
    },
    has({ key }) {
      const text = memberOfKey(type, family, key);
      return text !== undefined && known.has(text);
    },
  };
}

/** Compiled once: the nets of a set are a new object when they change. */
const NET_ELEMENTS = new WeakMap<ReadonlySet<Prefix>, Map<Family, ReadonlyMap<string, NftElement>>>();

function nets(members: ReadonlySet<Prefix>, family: Family): WantedElements {
  const known = NET_ELEMENTS.get(members) ?? new Map<Family, ReadonlyMap<string, NftElement>>();
  NET_ELEMENTS.set(members, known);
  const elements = known.get(family) ?? netElements(members, family);
  known.set(family, elements);
  return {
    elements: () => elements.values(),
    count: () => elements.size,
    has: (element) => elements.has(elementText(element)),
  };
}

/** Nets may overlap and touch; the kernel refuses elements that do. */
function netElements(members: ReadonlySet<Prefix>, family: Family): Map<string, NftElement> {
  const own = [...members].filter((net) => prefixFamily(net) === family);
  const ranges = family === 4 ? mergedRanges4(own) : mergedRanges(own);
  return new Map(
    ranges.map(([key, keyEnd]) => {
      const element = { key, keyEnd, verdict: undefined };
      return [elementText(element), element];
    }),
  );
}

/** First and last address, in hexadecimal digits. */
type HexRange = readonly [string, string];

function mergedRanges(own: readonly Prefix[]): HexRange[] {
  return mergeRanges(own.map(prefixRange)).map(({ family, first, last }) => [
    hexAddr(addrFromInteger(family, first)),
    hexAddr(addrFromInteger(family, last)),
  ]);
}

/** As `mergedRanges`, in small integers. */
function mergedRanges4(own: readonly Prefix[]): HexRange[] {
  const ranges = own.map((net) => {
    const slash = net.indexOf("/");
    const first = net
      .slice(0, slash)
      .split(".")
      .reduce((sum, part) => sum * 256 + Number(part), 0);
    return { first, last: first + 2 ** (32 - Number(net.slice(slash + 1))) - 1 };
  });
  ranges.sort((a, b) => a.first - b.first);
  const merged: { first: number; last: number }[] = [];
  for (const { first, last } of ranges) {
    const top = merged.at(-1);
    if (top === undefined || first > top.last + 1) merged.push({ first, last });
    else if (last > top.last) top.last = last;
  }
  const hex = (value: number): string => value.toString(16).padStart(8, "0");
  return merged.map(({ first, last }) => [hex(first), hex(last)]);
}

/** Whether the text of a member is that of a net. */
export function isNet(member: string): boolean {
  return member.includes("/");
}

/** The kernel set and element of one member that is no net: `ADDR`, or `ADDR,PROTOCOL,PORT`. */
export function memberElement(
  id: SetId,
  type: HashType,
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

function elementOfMember(type: HashType, member: string): NftElement {
  if (type === "address") return { key: hexAddr(member as Addr), keyEnd: undefined, verdict: undefined };
  const [addr = "", protocol = "", port = ""] = member.split(",");
  const key = hexAddr(addr as Addr) + padField(hex8(Number(protocol))) + padField(hex16(Number(port)));
  return { key, keyEnd: undefined, verdict: undefined };
}

const DIGITS = { 4: 8, 6: 32 } as const;

/** The inverse of `elementOfMember`; undefined for a key that no member has. */
function memberOfKey(type: HashType, family: Family, key: string): string | undefined {
  if (type === "address" && family === 4 && /^[0-9a-f]{8}$/.test(key)) {
    const value = Number.parseInt(key, 16);
    return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
  }
  const bytes = bytesFromHex(key.slice(0, DIGITS[family]));
  if (bytes === undefined || bytes.length * 2 !== DIGITS[family]) return undefined;
  const addr = addrFromBytes(bytes);
  if (type === "address") return key.length === DIGITS[family] ? addr : undefined;
  const rest = bytesFromHex(key.slice(DIGITS[family]));
  if (rest === undefined || rest.length !== 8 || [1, 2, 3, 6, 7].some((padding) => rest[padding] !== 0))
    return undefined;
  return `${addr},${rest[0]},${((rest[4] ?? 0) << 8) | (rest[5] ?? 0)}`;
}
