/**
 * sets: the program's sets as kernel sets, one of hosts and one of nets for each family, and their members as elements. Nothing is kept
 * here: what is wanted is the program's own Set, or the intervals of its nets, and is enumerated, counted and asked in place.
 */
import type { KeyDigest } from "../../kernel/nftables/key-digest.ts";
import type { NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { bytesFromHex } from "../../lib/bytes.ts";
import { type Addr, addrBytes, addrFromBytes, FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import { type Prefix, prefixAddr, prefixFamily, prefixLength } from "../../net/prefix.ts";
import type { SetId, SetMembers } from "../../program/policy.ts";
import type { Program } from "../../program/program.ts";
import { hex16, hex8, hexAddr, padField } from "./bytes.ts";
import { netsSetNames, parseSetName, setName } from "./names.ts";
import { elementOfInterval, keyOf, Nets, netsIn, type NetsPart } from "./nets.ts";

type HashType = "address" | "address-port";

export interface KernelSet {
  readonly name: string;
  readonly is: NftSet;
}

/** The nets of a set, by family; of a family without nets there is none. */
export type NetsByFamily = ReadonlyMap<Family, Nets>;

const NO_NETS: NetsByFamily = new Map();

export function netsByFamily(members: SetMembers): NetsByFamily {
  if (members.type === "address-port" || members.nets.size === 0) return NO_NETS;
  const byFamily = new Map<Family, Nets>();
  for (const family of FAMILIES) {
    const nets = netsIn(members.nets, family);
    if (nets.length > 0) byFamily.set(family, new Nets(family, nets));
  }
  return byFamily;
}

/** The kernel sets that hold the members. A family without nets needs none for them; hosts may come at any time. */
export function kernelSetsOf(id: SetId, type: SetMembers["type"], nets: NetsByFamily): KernelSet[] {
  return FAMILIES.flatMap((family) => {
    const hosts = type === "nets" ? [] : [{ name: setName(id, family), is: HASH_SETS[type][family] }];
    if (type === "address-port") return hosts;
    const names = netsSetNames(id, type, nets.get(family));
    return [
      ...hosts,
      ...Array.from(names, ([name, part]) => ({
        name,
        is: part === "rest" ? INTERVAL_SETS[family] : HASH_SETS.address[family],
      })),
    ];
  });
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

const INTERVAL_SETS: Readonly<Record<Family, NftSet>> = {
  4: { key: ["ipv4_addr"], interval: true, verdictMap: false },
  6: { key: ["ipv6_addr"], interval: true, verdictMap: false },
};

/** What is wanted in one kernel set, read from the program: it changes as that does. */
export interface WantedElements {
  /** In the order of the members. Hosts go on with those that come while they are iterated, nets are those of the begin. */
  elements(): IterableIterator<NftElement>;
  /** The same, with undefined where so many members in a row are of the other family that the thread may be given back. */
  filling(): IterableIterator<NftElement | undefined>;
  /** How many they are. */
  count(): number;
  has(element: Pick<NftElement, "key" | "keyEnd">): boolean;
  /** Adds the keys of all, a part at a time; undefined for intervals. */
  readonly digest?: ((into: KeyDigest) => Generator<undefined, void>) | undefined;
}

/** undefined: no set of the program has that kernel set. */
export function wantedElements(
  program: Program,
  kernelSet: string,
  netsOf: (id: SetId) => NetsByFamily | undefined,
): WantedElements | undefined {
  const name = parseSetName(kernelSet);
  const members = name === undefined ? undefined : program.sets.get(name.id);
  if (name === undefined || members === undefined) return undefined;
  const { id, family } = name;
  if (members.type === "address-port")
    return kernelSet === setName(id, family) ? hosts(members.type, members.members, family) : undefined;
  const own = netsOf(id)?.get(family);
  const part = netsSetNames(id, members.type, own).get(kernelSet);
  if (own !== undefined && part !== undefined)
    return part === "rest" ? intervals(own) : netsOfLength(members.nets, own, part);
  return members.type === "address" && kernelSet === setName(id, family)
    ? hosts(members.type, members.hosts, family)
    : undefined;
}

function hosts(type: HashType, known: ReadonlySet<string>, family: Family): WantedElements {
  return {
    *elements() {
      for (const member of known) if (familyOfMember(member) === family) yield elementOfMember(type, member);
    },
    filling: () =>
      fillingOf(
        known,
        (member) => familyOfMember(member) === family,
        (member) => elementOfMember(type, member),
      ),
    count() {
      let count = 0;
      for (const member of known) if (familyOfMember(member) === family) count++;
      return count;
    },
    has({ key }) {
      const text = memberOfKey(type, family, key);
      return text !== undefined && known.has(text);
    },
    *digest(into) {
      let count = 0;
      for (const member of known) {
        if (familyOfMember(member) !== family) continue;
        digestMember(type, member, into);
        if (++count % DIGESTED_AT_ONCE === 0) yield;
      }
    },
  };
}

const DIGESTED_AT_ONCE = 4_096;
const PASSED_AT_ONCE = 4_096;

function* fillingOf<T>(
  known: ReadonlySet<T>,
  isMeant: (member: T) => boolean,
  elementOf: (member: T) => NftElement,
): Generator<NftElement | undefined> {
  let others = 0;
  for (const member of known)
    if (isMeant(member)) yield elementOf(member);
    else if (++others % PASSED_AT_ONCE === 0) yield undefined;
}

/** As `elementOfMember` writes its key. */
function digestMember(type: HashType, member: string, into: KeyDigest): void {
  const [addr = "", protocol = "", port = ""] = type === "address" ? [member] : member.split(",");
  if (addr.includes(":")) {
    const bytes = addrBytes(addr as Addr);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += 4) into.word(view.getInt32(at, false));
  } else into.word(wordOf4(addr));
  if (type === "address-port") {
    into.word(Number(protocol) << 24);
    into.word(Number(port) << 16);
  }
  into.end();
}

const DOT = 46;
const ZERO = 48;

function wordOf4(addr: string): number {
  let word = 0;
  let byte = 0;
  for (let i = 0; i < addr.length; i++) {
    const code = addr.charCodeAt(i);
    if (code === DOT) {
      word = (word << 8) | byte;
      byte = 0;
    } else byte = byte * 10 + code - ZERO;
  }
  return (word << 8) | byte;
}

function intervals(nets: Nets): WantedElements {
  function* elements(): Generator<NftElement> {
    for (const interval of nets.intervals()) yield elementOfInterval(interval);
  }
  return {
    elements,
    filling: elements,
    count: () => nets.sizeOf("rest"),
    has: ({ key, keyEnd }) => keyEnd !== undefined && nets.hasInterval({ first: key, last: keyEnd }),
  };
}

/** Of the family and prefix length. */
function netsOfLength(known: ReadonlySet<Prefix>, nets: Nets, length: Exclude<NetsPart, "rest">): WantedElements {
  const { family } = nets;
  const isMeant = (net: Prefix): boolean => prefixLength(net) === length && prefixFamily(net) === family;
  return {
    *elements() {
      for (const net of known) if (isMeant(net)) yield keyOf(net);
    },
    filling: () => fillingOf(known, isMeant, keyOf),
    count: () => nets.sizeOf(length),
    has({ key, keyEnd }) {
      const addr = keyEnd === undefined ? memberOfKey("address", family, key) : undefined;
      return addr !== undefined && known.has(`${addr}/${length}` as Prefix);
    },
    *digest(into) {
      let count = 0;
      for (const net of known) {
        if (!isMeant(net)) continue;
        digestMember("address", prefixAddr(net), into);
        if (++count % DIGESTED_AT_ONCE === 0) yield;
      }
    },
  };
}

/** Whether the text of a member is that of a net. */
export function isNet(member: string): member is Prefix {
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
