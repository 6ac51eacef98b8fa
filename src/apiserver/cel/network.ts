/** Network: addresses and prefixes in CEL, `ip()` and `cidr()` with their methods. Source: apiserver pkg/cel/library, ip.go and cidr.go. */
import type { Environment } from "@marcbachmann/cel-js";
import { unwrap } from "../../lib/result.ts";
import { type Addr, familyOf, parseAddr } from "../../net/addr.ts";
import { parsePrefix, type Prefix, prefixAddr, prefixContains, prefixCovers, prefixLength } from "../../net/prefix.ts";
import { definer } from "./define.ts";

class Ip {
  readonly addr: Addr;
  constructor(addr: Addr) {
    this.addr = addr;
  }
}

/** Unlike a Prefix it may have host bits. */
class Cidr {
  readonly addr: Addr;
  readonly prefix: Prefix;
  constructor(addr: Addr, prefix: Prefix) {
    this.addr = addr;
    this.prefix = prefix;
  }
}

/** Receiver of `ip.isCanonical()`. */
class IpNamespace {}

const MAPPED = unwrap(parsePrefix("::ffff:0:0/96"));
const LOOPBACK = ["127.0.0.0/8", "::1/128"].map((text) => unwrap(parsePrefix(text)));
const LINK_LOCAL = ["169.254.0.0/16", "fe80::/10"].map((text) => unwrap(parsePrefix(text)));
const LINK_LOCAL_MULTICAST = ["224.0.0.0/24", "ff02::/16", "ff12::/16", "ff22::/16", "ff32::/16"].map((text) => unwrap(parsePrefix(text)));
const MULTICAST = ["224.0.0.0/4", "ff00::/8"].map((text) => unwrap(parsePrefix(text)));
const NOT_GLOBAL = [...LOOPBACK, ...LINK_LOCAL, ...MULTICAST, ...["0.0.0.0/32", "255.255.255.255/32", "::/128"].map((text) => unwrap(parsePrefix(text)))];

/** undefined for what Kubernetes takes for no address; it refuses IPv4 written as IPv6, too. */
function readAddr(text: string): Addr | undefined {
  const addr = parseAddr(text);
  return addr.ok && !prefixContains(MAPPED, addr.value) ? addr.value : undefined;
}

function readCidr(text: string): Cidr | undefined {
  const prefix = parsePrefix(text);
  const addr = readAddr(text.slice(0, Math.max(text.indexOf("/"), 0)));
  return prefix.ok && addr !== undefined ? new Cidr(addr, prefix.value) : undefined;
}

function ipOf(text: string): Ip {
  const addr = readAddr(text);
  if (addr === undefined) throw new Error(`IP Address ${JSON.stringify(text)} parse error during conversion from string: must be an IPv4 or IPv6 address such as 10.0.0.1 or fd00::1`);
  return new Ip(addr);
}

function cidrOf(text: string): Cidr {
  const cidr = readCidr(text);
  if (cidr === undefined) throw new Error(`network address parse error during conversion from string: ${JSON.stringify(text)} must be CIDR text such as 10.0.0.0/24 or fd00::/64`);
  return cidr;
}

function within(ranges: readonly Prefix[]): (ip: Ip) => boolean {
  return ({ addr }) => ranges.some((range) => prefixContains(range, addr));
}

/** Adds the types and functions to the environment. */
export function declareNetwork(environment: Environment): void {
  const define = definer(environment);
  environment.registerType("net.IP", Ip).registerType("net.CIDR", Cidr).registerType("IpNamespace", IpNamespace).registerConstant("ip", "IpNamespace", new IpNamespace());
  environment.registerOperator("net.IP == net.IP", (a: Ip, b: Ip) => a.addr === b.addr);
  environment.registerOperator("net.CIDR == net.CIDR", (a: Cidr, b: Cidr) => a.addr === b.addr && a.prefix === b.prefix);
  define("isIP(string): bool", (text: string) => readAddr(text) !== undefined);
  define("ip(string): net.IP", ipOf);
  define("IpNamespace.isCanonical(string): bool", (_: IpNamespace, text: string) => ipOf(text).addr === text);
  define("string(net.IP): string", (ip: Ip) => ip.addr);
  define("net.IP.family(): int", (ip: Ip) => BigInt(familyOf(ip.addr)));
  define("net.IP.isUnspecified(): bool", (ip: Ip) => ip.addr === "0.0.0.0" || ip.addr === "::");
  define("net.IP.isLoopback(): bool", within(LOOPBACK));
  define("net.IP.isLinkLocalUnicast(): bool", within(LINK_LOCAL));
  define("net.IP.isLinkLocalMulticast(): bool", within(LINK_LOCAL_MULTICAST));
  define("net.IP.isGlobalUnicast(): bool", (ip: Ip) => !within(NOT_GLOBAL)(ip));
  define("isCIDR(string): bool", (text: string) => readCidr(text) !== undefined);
  define("cidr(string): net.CIDR", cidrOf);
  define("string(net.CIDR): string", (cidr: Cidr) => `${cidr.addr}/${prefixLength(cidr.prefix)}`);
  define("net.CIDR.ip(): net.IP", (cidr: Cidr) => new Ip(cidr.addr));
  define("net.CIDR.prefixLength(): int", (cidr: Cidr) => BigInt(prefixLength(cidr.prefix)));
  define("net.CIDR.masked(): net.CIDR", (cidr: Cidr) => new Cidr(prefixAddr(cidr.prefix), cidr.prefix));
  define("net.CIDR.containsIP(net.IP): bool", (cidr: Cidr, ip: Ip) => prefixContains(cidr.prefix, ip.addr));
  define("net.CIDR.containsIP(string): bool", (cidr: Cidr, text: string) => prefixContains(cidr.prefix, ipOf(text).addr));
  define("net.CIDR.containsCIDR(net.CIDR): bool", (outer: Cidr, inner: Cidr) => prefixCovers(outer.prefix, inner.prefix));
  define("net.CIDR.containsCIDR(string): bool", (outer: Cidr, text: string) => prefixCovers(outer.prefix, cidrOf(text).prefix));
}
