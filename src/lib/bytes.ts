/** bytes: byte strings to lower-case hex text and back. */

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

/** Lower-case hex of `bytes[from..to)`. */
export function bytesToHex(bytes: Uint8Array, from = 0, to = bytes.length): string {
  let text = "";
  for (let i = from; i < to; i++) text += HEX[bytes[i] ?? 0];
  return text;
}

function nibble(code: number): number {
  // '0' to '9', then 'a' to 'f'.
  if (code >= 48 && code <= 57) return code - 48;
  if (code >= 97 && code <= 102) return code - 87;
  return -1;
}

/** Writes the bytes of lower-case hex text at `at`; the number of bytes, or undefined when the text is not such hex (or does not fit). */
export function hexInto(hex: string, target: Uint8Array, at: number): number | undefined {
  const length = hex.length >> 1;
  if (hex.length % 2 !== 0 || at + length > target.length) return undefined;
  for (let i = 0; i < length; i++) {
    const value = (nibble(hex.charCodeAt(2 * i)) << 4) | nibble(hex.charCodeAt(2 * i + 1));
    if (value < 0) return undefined;
    target[at + i] = value;
  }
  return length;
}

/** The bytes of lower-case hex text; undefined when it is not such hex. */
export function bytesFromHex(hex: string): Uint8Array | undefined {
  const bytes = new Uint8Array(hex.length >> 1);
  return hexInto(hex, bytes, 0) === undefined ? undefined : bytes;
}
