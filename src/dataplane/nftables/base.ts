/**
 * base: the fixed part of the table: the hooks, the two checks before anything else, and the dispatch to endpoints.
 *
 * Before translation and routing, what a pod sends to a loopback address is dropped: the host ends of pods have `route_localnet`, so
 * that what the node sends from 127.0.0.1 through a translation finds its way back, and it would let pods reach what listens there.
 *
 * Order in forward and input (docs/semantics.md): an unknown `cali*` interface or a source that is not the endpoint's own is
 * dropped; established flows are accepted; the endpoint's egress stage runs; then its destination's ingress stage. Egress
 * returns by `goto` to the dispatch of the destination, it does not accept, because same-node traffic needs both verdicts.
 * Traffic that the node itself sends to its pods has no hook here: Kubernetes asks that it always pass.
 */
import type { Expr, NftRule, NftSet, NftVerdict } from "../../kernel/nftables/objects.ts";
import type { Family } from "../../net/addr.ts";
import { FAMILIES } from "../../net/addr.ts";
import { ICMPV6 } from "../../net/protocol.ts";
import { hex8, hexText } from "./bytes.ts";
import { isFamily, isProtocol, loadAddr } from "./match.ts";
import {
  FORWARD,
  FROM_ENDPOINT,
  INPUT,
  INTERFACE_PREFIX,
  NEIGHBOR_DISCOVERY,
  PREROUTING,
  sourcesSet,
  TO_ENDPOINT,
  TO_WORKLOAD,
} from "./names.ts";
import { chainId, type NftRow, setId } from "./rows.ts";

export const VERDICT_MAP: NftSet = { key: ["ifname"], interval: false, verdictMap: true };

export function sourcesOf(family: Family): NftSet {
  return { key: ["ifname", family === 4 ? "ipv4_addr" : "ipv6_addr"], interval: false, verdictMap: false };
}

/** `NF_CT_STATE_BIT` of linux/netfilter/nf_conntrack_common.h, as the u32 in host order (little-endian) that the kernel compares. */
const INVALID = "01000000";
const ESTABLISHED_OR_RELATED = "06000000";
const ZERO = "00000000";

function rule(comment: string | undefined, ...parts: readonly (readonly Expr[])[]): NftRule {
  return { expressions: parts.flat(), comment };
}

export function verdict(verdict: NftVerdict): Expr[] {
  return [{ op: "verdict", verdict }];
}

const COUNTER: readonly Expr[] = [{ op: "counter" }];

function interfaceIsOurs(key: "iifname" | "oifname"): Expr[] {
  return [
    { op: "meta", key, register: 0 },
    { op: "cmp", compare: "eq", register: 0, data: hexText(INTERFACE_PREFIX) },
  ];
}

function connectionIs(mask: string): Expr[] {
  return [
    { op: "ct", key: "state", register: 0 },
    { op: "bitwise", source: 0, destination: 0, mask, xor: ZERO },
    { op: "cmp", compare: "neq", register: 0, data: ZERO },
  ];
}

/** The interface name takes slots 0 to 3, the address the slots after it. */
function sourceIsForeign(family: Family): Expr[] {
  return [
    { op: "meta", key: "nfproto", register: 0 },
    { op: "cmp", compare: "eq", register: 0, data: family === 4 ? "02" : "0a" },
    ...interfaceIsOurs("iifname"),
    loadAddr("source", family, 4),
    { op: "lookup", set: sourcesSet(family), register: 0, not: true },
  ];
}

function sourceIs6(prefix: "link-local" | "unspecified"): Expr[] {
  const load = loadAddr("source", 6, 0);
  if (prefix === "unspecified") return [load, { op: "cmp", compare: "eq", register: 0, data: ZERO.repeat(4) }];
  return [
    load,
    { op: "bitwise", source: 0, destination: 0, mask: `ffc00000${ZERO.repeat(3)}`, xor: ZERO.repeat(4) },
    { op: "cmp", compare: "eq", register: 0, data: `fe800000${ZERO.repeat(3)}` },
  ];
}

function icmp6Type(from: number, to: number): Expr[] {
  return [
    ...isProtocol(ICMPV6, "eq"),
    { op: "payload", base: "transport", offset: 0, length: 1, register: 0 },
    { op: "range", compare: "eq", register: 0, from: hex8(from), to: hex8(to) },
  ];
}

/** As on the wire: 127.0.0.0/8, by the first byte. A packet from outside for ::1 is dropped by the kernel before any rule (RFC 4291 §2.5.3). */
function preroutingRules(): NftRule[] {
  const toLoopback: Expr[] = [
    { op: "payload", base: "network", offset: 16, length: 1, register: 0 },
    { op: "cmp", compare: "eq", register: 0, data: "7f" },
  ];
  return [
    rule(
      "loopback destination",
      interfaceIsOurs("iifname"),
      isFamily(4),
      toLoopback,
      COUNTER,
      verdict({ type: "drop" }),
    ),
  ];
}

const SPOOFED = "unknown interface or spoofed source";

function forwardRules(): NftRule[] {
  return [
    ...FAMILIES.map((family) => rule(SPOOFED, sourceIsForeign(family), COUNTER, verdict({ type: "drop" }))),
    rule(undefined, connectionIs(ESTABLISHED_OR_RELATED), verdict({ type: "accept" })),
    rule(
      "invalid connection state",
      interfaceIsOurs("iifname"),
      connectionIs(INVALID),
      COUNTER,
      verdict({ type: "drop" }),
    ),
    rule(undefined, [
      { op: "meta", key: "iifname", register: 0 },
      { op: "verdict-map", map: FROM_ENDPOINT, register: 0 },
    ]),
    rule(undefined, interfaceIsOurs("oifname"), verdict({ type: "goto", chain: TO_WORKLOAD })),
  ];
}

function inputRules(): NftRule[] {
  const toDiscovery = verdict({ type: "goto", chain: NEIGHBOR_DISCOVERY });
  return [
    rule(undefined, isFamily(6), interfaceIsOurs("iifname"), sourceIs6("link-local"), toDiscovery),
    rule(undefined, isFamily(6), interfaceIsOurs("iifname"), sourceIs6("unspecified"), toDiscovery),
    ...FAMILIES.map((family) => rule(SPOOFED, sourceIsForeign(family), COUNTER, verdict({ type: "drop" }))),
    rule(undefined, connectionIs(ESTABLISHED_OR_RELATED), verdict({ type: "accept" })),
    rule(undefined, interfaceIsOurs("iifname"), icmp6Type(135, 136), verdict({ type: "accept" })),
    rule(
      "invalid connection state",
      interfaceIsOurs("iifname"),
      connectionIs(INVALID),
      COUNTER,
      verdict({ type: "drop" }),
    ),
    rule(undefined, [
      { op: "meta", key: "iifname", register: 0 },
      { op: "verdict-map", map: FROM_ENDPOINT, register: 0 },
    ]),
  ];
}

/** RFC 4861 and RFC 3810: what a host must be able to say to its router from a link-local or unspecified source. */
function discoveryRules(): NftRule[] {
  return [
    rule(undefined, icmp6Type(130, 133), verdict({ type: "accept" })),
    rule(undefined, icmp6Type(135, 136), verdict({ type: "accept" })),
    rule(undefined, icmp6Type(143, 143), verdict({ type: "accept" })),
    rule("link-local source", COUNTER, verdict({ type: "drop" })),
  ];
}

function toWorkloadRules(): NftRule[] {
  return [
    rule(
      "invalid connection state",
      interfaceIsOurs("oifname"),
      connectionIs(INVALID),
      COUNTER,
      verdict({ type: "drop" }),
    ),
    rule(undefined, [
      { op: "meta", key: "oifname", register: 0 },
      { op: "verdict-map", map: TO_ENDPOINT, register: 0 },
    ]),
    rule("unknown interface", interfaceIsOurs("oifname"), COUNTER, verdict({ type: "drop" })),
    rule(undefined, verdict({ type: "accept" })),
  ];
}

/** NF_IP_PRI_RAW of linux/netfilter_ipv4.h: before connection tracking and translation. */
const PRIORITY_RAW = -300;

/** The rows that exist whatever the program says. */
export function baseRows(): Map<string, NftRow> {
  const rows = new Map<string, NftRow>();
  for (const family of FAMILIES)
    rows.set(setId(sourcesSet(family)), { type: "set", set: sourcesSet(family), is: sourcesOf(family) });
  for (const map of [FROM_ENDPOINT, TO_ENDPOINT]) rows.set(setId(map), { type: "set", set: map, is: VERDICT_MAP });
  const chain = (name: string, rules: NftRule[], hook?: "prerouting" | "forward" | "input"): void => {
    const base =
      hook === undefined
        ? undefined
        : ({ hook, priority: hook === "prerouting" ? PRIORITY_RAW : 0, policy: "accept" } as const);
    rows.set(chainId(name), { type: "chain", chain: name, base, rules });
  };
  chain(NEIGHBOR_DISCOVERY, discoveryRules());
  chain(TO_WORKLOAD, toWorkloadRules());
  chain(PREROUTING, preroutingRules(), "prerouting");
  chain(FORWARD, forwardRules(), "forward");
  chain(INPUT, inputRules(), "input");
  return rows;
}
