/** Declarations of sets and maps, in both directions: flags, key type and length, value type, the fields of a concatenation. */
import type { Span } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
import type { KeyField, NftSet } from "./objects.ts";
import {
  BYTEORDER_BIG,
  BYTEORDER_HOST,
  DATA_TYPE_VERDICT,
  KEY_FIELDS,
  NFT_SET_CONCAT,
  NFT_SET_INTERVAL,
  NFT_SET_MAP,
  NFTA_LIST_ELEM,
  NFTA_SET_DATA_LEN,
  NFTA_SET_DATA_TYPE,
  NFTA_SET_DESC,
  NFTA_SET_DESC_CONCAT,
  NFTA_SET_FIELD_LEN,
  NFTA_SET_FLAGS,
  NFTA_SET_ID,
  NFTA_SET_KEY_LEN,
  NFTA_SET_KEY_TYPE,
  NFTA_SET_USERDATA,
  TYPE_BITS,
  UDATA_SET_KEYBYTEORDER,
} from "./wire.ts";

/** By type number. */
const FIELD_NAMES: ReadonlyMap<number, KeyField> = new Map(
  (["ipv4_addr", "ipv6_addr", "ifname", "iface_index", "nf_proto", "inet_proto", "inet_service"] as const).map(
    (field) => [KEY_FIELDS[field].type, field],
  ),
);

/** Bytes of a key: the field's own length, or, in a concatenation, each field padded to 4. */
export function keyLength(key: readonly KeyField[]): number {
  const [only] = key;
  if (key.length === 1 && only !== undefined) return KEY_FIELDS[only].length;
  return key.reduce((sum, field) => sum + ((KEY_FIELDS[field].length + 3) & ~3), 0);
}

/** Everything of NEWSET but table and name. `id` must be unique in the transaction. */
export function encodeSet(w: Writer, set: NftSet, id: number): void {
  const ranges = set.interval ? NFT_SET_INTERVAL | (set.key.length > 1 ? NFT_SET_CONCAT : 0) : 0;
  w.u32Be(NFTA_SET_FLAGS, ranges | (set.verdictMap ? NFT_SET_MAP : 0));
  w.u32Be(
    NFTA_SET_KEY_TYPE,
    set.key.reduce((type, field) => (type << TYPE_BITS) | KEY_FIELDS[field].type, 0),
  );
  w.u32Be(NFTA_SET_KEY_LEN, keyLength(set.key));
  if (set.verdictMap) {
    w.u32Be(NFTA_SET_DATA_TYPE, DATA_TYPE_VERDICT);
    w.u32Be(NFTA_SET_DATA_LEN, 0);
  }
  w.u32Be(NFTA_SET_ID, id);
  // Without it `nft` shows interface names of sets reversed.
  const host = set.key.length === 1 && (set.key[0] === "ifname" || set.key[0] === "iface_index");
  w.bytesOf(
    NFTA_SET_USERDATA,
    Uint8Array.of(UDATA_SET_KEYBYTEORDER, 4, host ? BYTEORDER_HOST : BYTEORDER_BIG, 0, 0, 0),
  );
  if (set.interval && set.key.length > 1) encodeConcatenation(w, set.key);
}

function encodeConcatenation(w: Writer, key: readonly KeyField[]): void {
  const description = w.open(NFTA_SET_DESC);
  const list = w.open(NFTA_SET_DESC_CONCAT);
  for (const field of key) {
    const element = w.open(NFTA_LIST_ELEM);
    w.u32Be(NFTA_SET_FIELD_LEN, KEY_FIELDS[field].length);
    w.close(element);
  }
  w.close(list);
  w.close(description);
}

/** The set as declared; undefined when a flag, type or length is not one of `NftSet`. */
export function decodeSet(attributes: ReadonlyMap<number, Span>): NftSet | undefined {
  const flagsSpan = attributes.get(NFTA_SET_FLAGS);
  const flags = flagsSpan === undefined ? 0 : flagsSpan.u32Be();
  const key = decodeKeyType(attributes.get(NFTA_SET_KEY_TYPE)?.u32Be());
  if (flags === undefined || key === undefined || attributes.get(NFTA_SET_KEY_LEN)?.u32Be() !== keyLength(key))
    return undefined;
  if ((flags & ~(NFT_SET_INTERVAL | NFT_SET_MAP | NFT_SET_CONCAT)) !== 0) return undefined;
  const interval = (flags & NFT_SET_INTERVAL) !== 0;
  const verdictMap = (flags & NFT_SET_MAP) !== 0;
  if (((flags & NFT_SET_CONCAT) !== 0) !== (interval && key.length > 1)) return undefined;
  if (verdictMap && attributes.get(NFTA_SET_DATA_TYPE)?.u32Be() !== DATA_TYPE_VERDICT) return undefined;
  return { key, interval, verdictMap };
}

function decodeKeyType(type: number | undefined): KeyField[] | undefined {
  if (type === undefined || type === 0) return undefined;
  const fields: KeyField[] = [];
  for (let rest = type; rest !== 0; rest >>>= TYPE_BITS) {
    const field = FIELD_NAMES.get(rest & ((1 << TYPE_BITS) - 1));
    if (field === undefined) return undefined;
    fields.unshift(field);
  }
  return fields;
}
