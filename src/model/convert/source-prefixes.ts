/**
 * Source prefixes: the prefixes from which a workload asks to send besides its own addresses (`allowSpoofedSourcePrefixes`, and a Pod's annotation): as few
 * as say the same, disjoint, and never a loopback address, which stands for the node itself (POL-25). An entry that cannot be read allows nothing.
 */
import { unwrap } from "../../lib/result.ts";
import { FAMILIES } from "../../net/addr.ts";
import { parseNet, parsePrefix, type Prefix, prefixRange, rangesToPrefixes, subtractRanges } from "../../net/prefix.ts";

/** What comes from ::1 the kernel drops by itself (RFC 4291 §2.5.3). */
const LOOPBACK = [prefixRange(unwrap(parsePrefix("127.0.0.0/8")))];

/** undefined: none. Sorted, IPv4 first. */
export function sourcePrefixesOf(texts: readonly unknown[]): readonly Prefix[] | undefined {
  const ranges = texts.flatMap((text) => {
    const net = parseNet(String(text));
    return net.ok ? [prefixRange(net.value)] : [];
  });
  const prefixes = FAMILIES.flatMap((family) =>
    rangesToPrefixes(
      subtractRanges(
        ranges.filter((range) => range.family === family),
        LOOPBACK,
      ),
    ),
  );
  return prefixes.length === 0 ? undefined : prefixes;
}
