/**
 * Legacy prefix: CIDR text as Kubernetes' older fields (`ipBlock`) accept it: also with leading zeros, which are decimal, and with an
 * IPv4-mapped IPv6 address, which means the IPv4 range.
 *
 * Source: k8s.io/utils/net ParseCIDRSloppy; k8s.io/apimachinery/pkg/util/validation/ip.go, GetWarningsForCIDR.
 */
import { fail, ok, type ParseError, type Result } from "../lib/result.ts";
import { type Addr, parseAddr } from "./addr.ts";
import { parsePrefix, type Prefix, prefixLength, prefixOf } from "./prefix.ts";

export interface LegacyPrefix {
  /** What the text means, host bits cleared. */
  readonly prefix: Prefix;
  /** The address as written, in canonical form; IPv4 when it is IPv4-mapped. */
  readonly addr: Addr;
  /** Length of an address and of the prefix in the form as written: up to 128 also for an IPv4-mapped one. */
  readonly bits: 32 | 128;
  readonly length: number;
  /** False for text that a future Kubernetes refuses: leading zeros, an IPv4-mapped address. */
  readonly standard: boolean;
}

const MAPPED = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/;
const MAPPED_BITS = 96;

/** Fails on what ParseCIDRSloppy refuses. */
export function parseLegacyPrefix(text: string): Result<LegacyPrefix, ParseError> {
  const slash = text.indexOf("/");
  const written = slash < 0 ? "" : text.slice(0, slash);
  const lengthText = text.slice(slash + 1);
  const length = Number(lengthText);
  const addr = parseAddr(withoutLeadingZeros(written));
  const bits = written.includes(":") ? 128 : 32;
  if (!addr.ok || !/^\d+$/.test(lengthText) || length > bits) {
    return fail({ what: "prefix", found: text, wanted: "must be CIDR text such as 10.0.0.0/24 or fd00::/64" });
  }
  const prefix = prefixOf(addr.value, length);
  const four = length >= MAPPED_BITS ? mappedAddr(addr.value) : undefined;
  const standard = parsePrefix(text).ok && mappedAddr(addr.value) === undefined;
  if (four === undefined) return ok({ prefix, addr: mappedAddr(addr.value) ?? addr.value, bits, length, standard });
  return ok({ prefix: prefixOf(four, length - MAPPED_BITS), addr: four, bits, length, standard });
}

/** Also handles an embedded IPv4 address; a group of hex digits may have any length. */
function withoutLeadingZeros(text: string): string {
  return text.replace(/[0-9a-fA-F]+/g, (group) => group.replace(/^0+(?=.)/, ""));
}

/** The IPv4 address in an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2). */
function mappedAddr(addr: Addr): Addr | undefined {
  const [, high, low] = MAPPED.exec(addr) ?? [];
  if (high === undefined || low === undefined) return undefined;
  const value = Number.parseInt(high, 16) * 0x10000 + Number.parseInt(low, 16);
  const dotted = parseAddr([24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join("."));
  return dotted.ok ? dotted.value : undefined;
}

/** Kubernetes' warnings about text that it accepts, each beginning with the field; none for canonical text. */
export function warningsOfLegacyPrefix(field: string, text: string): string[] {
  const parsed = parseLegacyPrefix(text);
  if (!parsed.ok) return [];
  const { prefix, addr, bits, standard } = parsed.value;
  const quoted = JSON.stringify(text);
  const warnings: string[] = [];
  if (!prefix.startsWith(`${addr}/`))
    warnings.push(
      `${field}: CIDR value ${quoted} is ambiguous in this context (should be "${prefix}" or "${addr}/${bits}"?)`,
    );
  if (!standard)
    warnings.push(
      `${field}: non-standard CIDR value ${quoted} will be considered invalid in a future Kubernetes release: use "${prefix}"`,
    );
  const canonical = `${addr}/${prefixLength(prefix)}`;
  if (warnings.length === 0 && bits === 128 && text !== canonical)
    warnings.push(`${field}: IPv6 CIDR value ${quoted} should be in RFC 5952 canonical format ("${canonical}")`);
  return warnings;
}
