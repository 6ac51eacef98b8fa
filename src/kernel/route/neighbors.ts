/** Neighbours: which MAC an address on an interface has (ARP and NDP). */
import { type Addr, addrBytes, type Family, familyOf } from "../../net/addr.ts";
import type { Message } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
import { decodeAddr } from "./addresses.ts";
import { decodeMac, macBytes } from "./mac.ts";
import {
  ADDRESS_FAMILY,
  familyOfNumber,
  NDA_DST,
  NDA_LLADDR,
  NDMSG,
  NUD_NOARP,
  NUD_PERMANENT,
  NUD_REACHABLE,
} from "./wire.ts";

export interface Neighbor {
  readonly interfaceIndex: number;
  readonly addr: Addr;
  /** undefined while it is being looked for. */
  readonly mac: string | undefined;
  /** Does not age. */
  readonly permanent: boolean;
}

export function encodeNeighbor(
  w: Writer,
  interfaceIndex: number,
  addr: Addr,
  mac: string | undefined,
  permanent: boolean,
): void {
  const at = w.header(NDMSG);
  w.putU8(at, ADDRESS_FAMILY[familyOf(addr)]);
  w.putU32(at + 4, interfaceIndex);
  w.putU16(at + 8, permanent ? NUD_PERMANENT : NUD_REACHABLE);
  w.bytesOf(NDA_DST, addrBytes(addr));
  if (mac !== undefined) w.bytesOf(NDA_LLADDR, macBytes(mac));
}

export function encodeNeighborQuery(w: Writer, family: Family): void {
  w.putU8(w.header(NDMSG), ADDRESS_FAMILY[family]);
}

/** undefined when the message is malformed, of another family, or of the kernel's own making (multicast, loopback). */
export function decodeNeighbor({ body }: Message): Neighbor | undefined {
  const family = familyOfNumber(body.u8());
  const interfaceIndex = body.u32(4);
  const state = body.u16(8);
  const attributes = body.after(NDMSG)?.attributes();
  if (family === undefined || interfaceIndex === undefined || state === undefined || attributes === undefined)
    return undefined;
  const addr = decodeAddr(attributes.get(NDA_DST), family);
  if (addr === undefined || (state & NUD_NOARP) !== 0) return undefined;
  return { interfaceIndex, addr, mac: decodeMac(attributes.get(NDA_LLADDR)), permanent: (state & NUD_PERMANENT) !== 0 };
}
