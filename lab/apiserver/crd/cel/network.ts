/**
 * Network: the CEL functions of Kubernetes for addresses and prefixes: `ip`, `isIP`, `cidr`, `isCIDR` and the methods of their values.
 *
 * Source: apiserver pkg/cel/library/{ip,cidr}.go.
 */
import type { Environment } from "@marcbachmann/cel-js";
import { type Addr, addrBytes, addrToInteger, bitsOf, familyOf, parseAddr } from "../../../../src/net/addr.ts";
import { prefixAddr, prefixContains, prefixOf } from "../../../../src/net/prefix.ts";
import { nameOf } from "./source.ts";

class Ip {
  readonly addr: Addr;
  constructor(addr: Addr) {
    this.addr = addr;
  }
}

/** A prefix as it was written: host bits are kept. */
class Cidr {
  readonly addr: Addr;
  readonly length: number;
  constructor(addr: Addr, length: number) {
    this.addr = addr;
    this.length = length;
  }

  contains(addr: Addr): boolean {
    return prefixContains(prefixOf(this.addr, this.length), addr);
  }
}

/** The namespace of `ip.isCanonical`. */
class IpNamespace {}

const SYNC = { async: false };

export function registerNetworkFunctions(environment: Environment): void {
  const add = (signature: string, handler: (...args: never[]) => unknown): void =>
    void environment.registerFunction(signature, handler, SYNC);
  environment.registerType("net.IP", Ip);
  environment.registerType("net.CIDR", Cidr);
  environment.registerType("net.IPNamespace", IpNamespace);
  environment.registerConstant("ip", "net.IPNamespace", new IpNamespace());
  environment.registerOperator("net.IP == net.IP", (a: Ip, b: Ip) => a.addr === b.addr);
  environment.registerOperator(
    "net.CIDR == net.CIDR",
    (a: Cidr, b: Cidr) => a.addr === b.addr && a.length === b.length,
  );

  add("ip(string): net.IP", readIp);
  add("isIP(string): bool", (text: string) => ipOf(text) !== undefined);
  add("net.IPNamespace.isCanonical(string): bool", (_: IpNamespace, text: string) => readIp(text).addr === text);
  add(`${nameOf("string")}(net.IP): string`, (ip: Ip) => ip.addr);
  add("net.IP.family(): int", (ip: Ip) => BigInt(familyOf(ip.addr)));
  add("net.IP.isUnspecified(): bool", (ip: Ip) => addrToInteger(ip.addr) === 0n);
  add("net.IP.isLoopback(): bool", (ip: Ip) => isLoopback(ip.addr));
  add("net.IP.isLinkLocalMulticast(): bool", (ip: Ip) => isLinkLocalMulticast(ip.addr));
  add("net.IP.isLinkLocalUnicast(): bool", (ip: Ip) => isLinkLocalUnicast(ip.addr));
  add("net.IP.isGlobalUnicast(): bool", (ip: Ip) => isGlobalUnicast(ip.addr));

  add("cidr(string): net.CIDR", readCidr);
  add("isCIDR(string): bool", (text: string) => cidrOf(text) !== undefined);
  add(`${nameOf("string")}(net.CIDR): string`, (cidr: Cidr) => `${cidr.addr}/${cidr.length}`);
  add("net.CIDR.ip(): net.IP", (cidr: Cidr) => new Ip(cidr.addr));
  add("net.CIDR.prefixLength(): int", (cidr: Cidr) => BigInt(cidr.length));
  add(
    "net.CIDR.masked(): net.CIDR",
    (cidr: Cidr) => new Cidr(prefixAddr(prefixOf(cidr.addr, cidr.length)), cidr.length),
  );
  add("net.CIDR.containsIP(net.IP): bool", (cidr: Cidr, ip: Ip) => cidr.contains(ip.addr));
  add("net.CIDR.containsIP(string): bool", (cidr: Cidr, text: string) => cidr.contains(readIp(text).addr));
  add("net.CIDR.containsCIDR(net.CIDR): bool", covers);
  add("net.CIDR.containsCIDR(string): bool", (cidr: Cidr, text: string) => covers(cidr, readCidr(text)));
}

function covers(outer: Cidr, inner: Cidr): boolean {
  return outer.length <= inner.length && outer.contains(inner.addr);
}

/** Kubernetes takes no IPv4 address in IPv6 form. */
function ipOf(text: string): Ip | undefined {
  const addr = parseAddr(text);
  if (!addr.ok || (familyOf(addr.value) === 6 && addrToInteger(addr.value) >> 32n === 0xffffn)) return undefined;
  return new Ip(addr.value);
}

function readIp(text: string): Ip {
  const ip = ipOf(text);
  if (ip === undefined)
    throw new Error(
      `IP Address ${JSON.stringify(text)} parse error during conversion from string: must be like 10.0.0.1 or fd00::1`,
    );
  return ip;
}

function cidrOf(text: string): Cidr | undefined {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const ip = ipOf(match?.[1] ?? "");
  const length = Number(match?.[2] ?? "");
  return ip === undefined || length > bitsOf(familyOf(ip.addr)) ? undefined : new Cidr(ip.addr, length);
}

function readCidr(text: string): Cidr {
  const cidr = cidrOf(text);
  if (cidr === undefined)
    throw new Error(
      `network address parse error during conversion from string: ${JSON.stringify(text)}: must be like 10.0.0.0/16 or fd00::/64`,
    );
  return cidr;
}

function isLoopback(addr: Addr): boolean {
  return familyOf(addr) === 4 ? addrBytes(addr)[0] === 127 : addr === "::1";
}

function isMulticast(addr: Addr): boolean {
  const first = addrBytes(addr)[0] ?? 0;
  return familyOf(addr) === 4 ? first >> 4 === 0xe : first === 0xff;
}

function isLinkLocalMulticast(addr: Addr): boolean {
  const [first = 0, second = 0, third = 0] = addrBytes(addr);
  return familyOf(addr) === 4 ? first === 224 && second === 0 && third === 0 : first === 0xff && (second & 0x0f) === 2;
}

function isLinkLocalUnicast(addr: Addr): boolean {
  const [first = 0, second = 0] = addrBytes(addr);
  return familyOf(addr) === 4 ? first === 169 && second === 254 : first === 0xfe && (second & 0xc0) === 0x80;
}

function isGlobalUnicast(addr: Addr): boolean {
  return (
    addrToInteger(addr) !== 0n &&
    addr !== "255.255.255.255" &&
    !isLoopback(addr) &&
    !isMulticast(addr) &&
    !isLinkLocalUnicast(addr)
  );
}
