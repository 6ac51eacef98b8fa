/** Nets: which of many ranges contain an address, without looking at each. */
import { type Addr, familyOf } from "../net/addr.ts";
import { type Prefix, prefixFamily, prefixLength, prefixOf } from "../net/prefix.ts";

/** The ranges around an address, from the widest to the narrowest. */
export type Containing = (addr: Addr) => readonly Prefix[];

export function netIndex(nets: Iterable<Prefix>): Containing {
  const known = new Set(nets);
  const lengths = { 4: new Set<number>(), 6: new Set<number>() };
  for (const net of known) lengths[prefixFamily(net)].add(prefixLength(net));
  const sorted = { 4: [...lengths[4]].sort((a, b) => a - b), 6: [...lengths[6]].sort((a, b) => a - b) };
  return (addr) => sorted[familyOf(addr)].map((length) => prefixOf(addr, length)).filter((net) => known.has(net));
}
