/** MAC addresses as text (`ee:ee:ee:ee:ee:ee`, lower case) and as bytes. */
import { BugError } from "../../lib/bug.ts";
import { bytesFromHex } from "../../lib/bytes.ts";
import type { Span } from "../netlink/reader.ts";

/** Six bytes; other text is a bug of the caller. */
export function macBytes(mac: string): Uint8Array {
  const bytes = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) ? bytesFromHex(mac.replaceAll(":", "")) : undefined;
  if (bytes === undefined) throw new BugError(`not a canonical MAC address: ${JSON.stringify(mac)}`);
  return bytes;
}

/** undefined unless the span has six bytes. */
export function decodeMac(span: Span | undefined): string | undefined {
  return span?.length === 6 ? span.hex().replace(/..(?!$)/g, "$&:") : undefined;
}
