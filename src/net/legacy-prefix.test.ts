import { expect, test } from "bun:test";
import { parseLegacyPrefix, warningsOfLegacyPrefix } from "./legacy-prefix.ts";

/** Text, the result of ParseCIDRSloppy of k8s.io/utils (empty: refused), and the warnings of GetWarningsForCIDR of Kubernetes 1.34. */
const CASES: readonly (readonly [string, string, ...string[]])[] = [
  ["10.0.0.0/8", "10.0.0.0/8"],
  [
    "10.0.0.5/8",
    "10.0.0.0/8",
    'f: CIDR value "10.0.0.5/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.5/32"?)',
  ],
  [
    "010.0.0.0/8",
    "10.0.0.0/8",
    'f: non-standard CIDR value "010.0.0.0/8" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  [
    "10.0.0.0/08",
    "10.0.0.0/8",
    'f: non-standard CIDR value "10.0.0.0/08" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  [
    "0010.01.002.0003/008",
    "10.0.0.0/8",
    'f: CIDR value "0010.01.002.0003/008" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.2.3/32"?)',
    'f: non-standard CIDR value "0010.01.002.0003/008" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  ["10.0.0.0/33", ""],
  ["10.0.0.0/", ""],
  ["/8", ""],
  ["10.0.0.0", ""],
  ["300.0.0.0/8", ""],
  ["10.0.0/8", ""],
  ["10.0.0.0.0/8", ""],
  ["fd00::/8", "fd00::/8"],
  ["FD00::/8", "fd00::/8", 'f: IPv6 CIDR value "FD00::/8" should be in RFC 5952 canonical format ("fd00::/8")'],
  ["fd00:0::/8", "fd00::/8", 'f: IPv6 CIDR value "fd00:0::/8" should be in RFC 5952 canonical format ("fd00::/8")'],
  [
    "fd00:0000:0:0::1/64",
    "fd00::/64",
    'f: CIDR value "fd00:0000:0:0::1/64" is ambiguous in this context (should be "fd00::/64" or "fd00::1/128"?)',
  ],
  [
    "0000fd00::/8",
    "fd00::/8",
    'f: non-standard CIDR value "0000fd00::/8" will be considered invalid in a future Kubernetes release: use "fd00::/8"',
  ],
  [
    "::ffff:10.0.0.0/104",
    "10.0.0.0/8",
    'f: non-standard CIDR value "::ffff:10.0.0.0/104" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  [
    "::ffff:10.0.0.5/104",
    "10.0.0.0/8",
    'f: CIDR value "::ffff:10.0.0.5/104" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.5/128"?)',
    'f: non-standard CIDR value "::ffff:10.0.0.5/104" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  [
    "::ffff:a00:1/128",
    "10.0.0.1/32",
    'f: non-standard CIDR value "::ffff:a00:1/128" will be considered invalid in a future Kubernetes release: use "10.0.0.1/32"',
  ],
  [
    "::ffff:10.0.0.0/80",
    "::/80",
    'f: CIDR value "::ffff:10.0.0.0/80" is ambiguous in this context (should be "::/80" or "10.0.0.0/128"?)',
    'f: non-standard CIDR value "::ffff:10.0.0.0/80" will be considered invalid in a future Kubernetes release: use "::/80"',
  ],
  [
    "::ffff:10.0.0.0/96",
    "0.0.0.0/0",
    'f: CIDR value "::ffff:10.0.0.0/96" is ambiguous in this context (should be "0.0.0.0/0" or "10.0.0.0/128"?)',
    'f: non-standard CIDR value "::ffff:10.0.0.0/96" will be considered invalid in a future Kubernetes release: use "0.0.0.0/0"',
  ],
  [
    "::ffff:010.0.0.0/104",
    "10.0.0.0/8",
    'f: non-standard CIDR value "::ffff:010.0.0.0/104" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  ["fe80::%eth0/64", ""],
  ["::/0", "::/0"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["::1/128", "::1/128"],
  [
    "1:2:3:4:5:6:7:8/64",
    "1:2:3:4::/64",
    'f: CIDR value "1:2:3:4:5:6:7:8/64" is ambiguous in this context (should be "1:2:3:4::/64" or "1:2:3:4:5:6:7:8/128"?)',
  ],
  [
    "1:2:3:4:5:6:1.2.3.4/128",
    "1:2:3:4:5:6:102:304/128",
    'f: IPv6 CIDR value "1:2:3:4:5:6:1.2.3.4/128" should be in RFC 5952 canonical format ("1:2:3:4:5:6:102:304/128")',
  ],
  ["1::2::3/64", ""],
  [" 10.0.0.0/8", ""],
  ["10.0.0.0/+8", ""],
  ["10.0.0.0/8 ", ""],
  [
    "2001:db8::0/32",
    "2001:db8::/32",
    'f: IPv6 CIDR value "2001:db8::0/32" should be in RFC 5952 canonical format ("2001:db8::/32")',
  ],
  [
    "2001:DB8::/32",
    "2001:db8::/32",
    'f: IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format ("2001:db8::/32")',
  ],
  ["0x10.0.0.0/8", ""],
  [
    "10.0.0.0/000000008",
    "10.0.0.0/8",
    'f: non-standard CIDR value "10.0.0.0/000000008" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  [
    "00000000010.0.0.0/8",
    "10.0.0.0/8",
    'f: non-standard CIDR value "00000000010.0.0.0/8" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"',
  ],
  ["fd00::/129", ""],
  [
    "::ffff:0:0/96",
    "0.0.0.0/0",
    'f: non-standard CIDR value "::ffff:0:0/96" will be considered invalid in a future Kubernetes release: use "0.0.0.0/0"',
  ],
  [
    "::ffff:10.1.2.3/120",
    "10.1.2.0/24",
    'f: CIDR value "::ffff:10.1.2.3/120" is ambiguous in this context (should be "10.1.2.0/24" or "10.1.2.3/128"?)',
    'f: non-standard CIDR value "::ffff:10.1.2.3/120" will be considered invalid in a future Kubernetes release: use "10.1.2.0/24"',
  ],
  [
    "::fffe:10.0.0.0/104",
    "::fffe:a00:0/104",
    'f: IPv6 CIDR value "::fffe:10.0.0.0/104" should be in RFC 5952 canonical format ("::fffe:a00:0/104")',
  ],
  ["1.2.3.4/32", "1.2.3.4/32"],
  [
    "::ffff:1.2.3.4/90",
    "::ffc0:0:0/90",
    'f: CIDR value "::ffff:1.2.3.4/90" is ambiguous in this context (should be "::ffc0:0:0/90" or "1.2.3.4/128"?)',
    'f: non-standard CIDR value "::ffff:1.2.3.4/90" will be considered invalid in a future Kubernetes release: use "::ffc0:0:0/90"',
  ],
];

test.each(CASES)("%j means %j", (text, network, ...warnings) => {
  const parsed = parseLegacyPrefix(text);
  expect(parsed.ok ? String(parsed.value.prefix) : "").toBe(network);
  expect(warningsOfLegacyPrefix("f", text)).toEqual(warnings);
});
