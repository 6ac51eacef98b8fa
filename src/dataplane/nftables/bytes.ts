/** Set keys and compare data as the hex text of kernel/nftables/objects.ts. */
import { type Addr, addrBytes, type Family } from "../../net/addr.ts";

const HEX: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

const DOT = 46;
const ZERO = 48;

/** Called once for each member of each set. */
export function hexAddr(addr: Addr): string {
  if (addr.includes(":")) return hex(addrBytes(addr));
  let text = "";
  let byte = 0;
  for (let i = 0; i < addr.length; i++) {
    const code = addr.charCodeAt(i);
    if (code === DOT) {
      text += HEX[byte];
      byte = 0;
    } else byte = byte * 10 + code - ZERO;
  }
  return text + HEX[byte];
}

/** NFPROTO_IPV4 or NFPROTO_IPV6 of linux/netfilter.h. */
export function hexFamily(family: Family): string {
  return family === 4 ? "02" : "0a";
}

/** One byte. */
export function hex8(value: number): string {
  return value.toString(16).padStart(2, "0");
}

/** Two bytes, network order. */
export function hex16(value: number): string {
  return value.toString(16).padStart(4, "0");
}

/** Interface name as the kernel keeps it: 16 bytes, zero padded. */
export function hexInterface(name: string): string {
  return hex(new TextEncoder().encode(name)).padEnd(32, "0");
}

/** The name's own bytes only: for comparing a prefix. */
export function hexText(text: string): string {
  return hex(new TextEncoder().encode(text));
}

/** A field of a concatenated key: padded with zeros to a multiple of 4 bytes. */
export function padField(field: string): string {
  return field.padEnd(Math.ceil(field.length / 8) * 8, "0");
}
