/** fnv32: the 32 bit FNV-1 hash of a text's UTF-8 bytes; stable over versions, not for secrets. Source: draft-eastlake-fnv. */
export function fnv32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash, 0x01000193) ^ byte;
  return hash >>> 0;
}
