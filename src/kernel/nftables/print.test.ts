import { expect, test } from "bun:test";
import type { Expr, NftRule, NftTableState } from "./objects.ts";
import { printElement, printSetType, printValue } from "./print-values.ts";
import { printCommands, printRule, printTable } from "./print.ts";

const rule = (...expressions: Expr[]): NftRule => ({ expressions, comment: undefined });
const meta = (key: "nfproto" | "l4proto" | "iifname" | "oifname" | "mark", register = 0): Expr => ({
  op: "meta",
  key,
  register,
});
const equals = (data: string, register = 0): Expr => ({ op: "cmp", compare: "eq", register, data });
const payload = (base: "network" | "transport", offset: number, length: number, register = 0): Expr => ({
  op: "payload",
  base,
  offset,
  length,
  register,
});
const accept: Expr = { op: "verdict", verdict: { type: "accept" } };

const RULES: readonly (readonly [NftRule, string])[] = [
  [rule(), ""],
  [rule(meta("iifname"), equals("63616c6931323300".padEnd(32, "0")), accept), 'iifname "cali123" accept'],
  [rule(meta("nfproto"), equals("02"), accept), "meta nfproto ipv4 accept"],
  [
    rule(meta("nfproto"), equals("02"), payload("network", 12, 4), equals("0a000001"), accept),
    "ip saddr 10.0.0.1 accept",
  ],
  [
    rule(meta("nfproto"), equals("0a"), payload("network", 24, 16), { op: "lookup", set: "s", register: 0, not: true }),
    "ip6 daddr != @s",
  ],
  // The protocol was compared two words earlier: it stays, and is still known.
  [
    rule(meta("l4proto"), equals("11"), { op: "counter" }, payload("transport", 0, 2), equals("0035")),
    "meta l4proto udp counter udp sport 53",
  ],
  [
    rule(
      meta("l4proto"),
      { op: "cmp", compare: "neq", register: 0, data: "06" },
      payload("transport", 2, 2),
      equals("0050"),
    ),
    "meta l4proto != tcp th dport 80",
  ],
  [
    rule(payload("transport", 2, 2), { op: "range", compare: "eq", register: 0, from: "0050", to: "005a" }),
    "th dport 80-90",
  ],
  [rule(payload("transport", 2, 2), { op: "cmp", compare: "gte", register: 0, data: "0400" }), "th dport >= 1024"],
  [rule(payload("network", 0, 3), equals("450000")), "@nh,0,24 0x450000"],
  [rule({ op: "verdict-map", map: "m", register: 5 }), "reg 5 vmap @m"],
  [
    rule(
      { op: "ct", key: "state", register: 0 },
      { op: "bitwise", source: 0, destination: 0, mask: "01000000", xor: "00000000" },
      equals("00000000"),
    ),
    "ct state ! invalid",
  ],
  [
    rule(meta("mark"), equals("01000000"), { op: "verdict", verdict: { type: "goto", chain: "x" } }),
    "meta mark 0x00000001 goto x",
  ],
  [rule(meta("l4proto"), equals("06"), { op: "flow-offload", flowtable: "f" }), "meta l4proto tcp flow add @f"],
];

test("rules", () => {
  for (const [wanted, text] of RULES) expect(printRule(wanted)).toBe(text);
  expect(printRule({ expressions: [accept], comment: 'say "no"' })).toBe('accept comment "say \\"no\\""');
});

test("a lookup takes the fields loaded next to each other since the last comparison", () => {
  const expressions: Expr[] = [
    payload("transport", 2, 2, 4),
    equals("0050", 4),
    meta("iifname"),
    { op: "lookup", set: "a", register: 0, not: false },
  ];
  expect(printRule({ expressions, comment: undefined })).toBe("th dport 80 iifname @a");
});

test("values", () => {
  expect(printValue("ipv6_addr", "fd00".padEnd(32, "0"))).toBe("fd00::");
  expect(printValue("ipv4_addr", "0a")).toBe("0x0a");
  expect(printValue("inet_proto", "32")).toBe("50");
  expect(printValue("ct_state", "09000000")).toBe("invalid,new");
  expect(printValue("ct_state", "00010000")).toBe("0x00010000");
  expect(printValue("ifname", "63616c69")).toBe('"cali*"');
});

test("elements and set types", () => {
  const networks = { key: ["ipv4_addr"], interval: true, verdictMap: false } as const;
  expect(printSetType(networks)).toBe("type ipv4_addr; flags interval;");
  const element = (key: string, keyEnd: string): string => printElement(networks, { key, keyEnd, verdict: undefined });
  expect(element("0a000000", "0a0000ff")).toBe("10.0.0.0/24");
  expect(element("0a000001", "0a000001")).toBe("10.0.0.1");
  expect(element("0a000001", "0a000002")).toBe("10.0.0.1-10.0.0.2");
  expect(element("00000000", "ffffffff")).toBe("0.0.0.0/0");
  const map = { key: ["ifname", "inet_proto", "inet_service"], interval: true, verdictMap: true } as const;
  const key = "61".padEnd(32, "0");
  expect(
    printElement(map, {
      key: `${key}0600000000500000`,
      keyEnd: `${key}06000000005a0000`,
      verdict: { type: "jump", chain: "c" },
    }),
  ).toBe('"a" . tcp . 80-90 : jump c');
});

test("a table with what cannot be expressed, elements in order", () => {
  const set = { key: ["inet_service"], interval: false, verdictMap: false } as const;
  const element = (key: string) => ({ key, keyEnd: undefined, verdict: undefined });
  const state = {
    flags: ["owner", "persist"],
    owner: 7,
    chains: new Map([
      [
        "c",
        {
          base: { hook: "input", priority: 0, policy: "accept" },
          rules: [
            { rule: undefined, handle: 1n, packets: 0n, bytes: 0n },
            { rule: rule(accept), handle: 2n, packets: 0n, bytes: 0n },
          ],
        } as const,
      ],
    ]),
    sets: new Map([
      ["z", { is: undefined, elements: [] }],
      ["a", { is: set, elements: [element("01bb"), element("0050")] }],
    ]),
  } satisfies NftTableState;
  expect(printTable({ family: "ip", name: "t" }, state)).toBe(`table ip t {
  flags owner,persist
  set a {
    type inet_service;
    elements = {
      80,
      443,
    }
  }
  set z {
    # cannot be expressed
  }
  chain c {
    type filter hook input priority 0; policy accept;
    # a rule that cannot be expressed
    accept
  }
}
`);
});

test("commands", () => {
  const is = { key: ["ipv4_addr"], interval: false, verdictMap: true } as const;
  const elements = [{ key: "0a000001", keyEnd: undefined, verdict: { type: "drop" } }] as const;
  const text = printCommands({ family: "inet", name: "t" }, [
    { do: "add-table" },
    { do: "own-table" },
    { do: "add-set", set: "m", is },
    { do: "add-elements", set: "m", is, elements },
    { do: "delete-elements", set: "m", is, elements },
    { do: "delete-set", set: "m" },
    { do: "add-chain", chain: "c", base: undefined },
    { do: "flush-chain", chain: "c" },
    { do: "delete-chain", chain: "c" },
    { do: "delete-table" },
  ]);
  expect(text).toBe(`add table inet t
add table inet t { flags owner,persist; }
add map inet t m { type ipv4_addr : verdict; }
add element inet t m { 10.0.0.1 : drop }
delete element inet t m { 10.0.0.1 : drop }
delete set inet t m
add chain inet t c
flush chain inet t c
delete chain inet t c
delete table inet t
`);
});
