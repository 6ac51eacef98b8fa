import { describe, expect, test } from "bun:test";
import { ENOENT, KernelError } from "../../src/kernel/errno.ts";
import { NftablesClient, NftCommitError } from "../../src/kernel/nftables/client.ts";
import type { Expr, NftCommand, NftElement, NftRule, NftSet, TableId } from "../../src/kernel/nftables/objects.ts";
import { printCommands, printTable } from "../../src/kernel/nftables/print.ts";
import { addrBytes, parseAddr } from "../../src/net/addr.ts";
import { bytesToHex } from "../../src/lib/bytes.ts";
import { unwrap } from "../../src/lib/result.ts";
import { type Kernel, type Namespace, onBothKernels, REAL } from "./fixture.ts";

const TABLE: TableId = { family: "inet", name: "calico-test" };

function withTable(run: (client: NftablesClient, namespace: Namespace) => void, kernel: Kernel = REAL): void {
  kernel.withNamespaces(["nft"], (namespace) => {
    const client = namespace.enter(() => new NftablesClient(kernel.sys, TABLE));
    try {
      run(client, namespace);
    } finally {
      client.close();
    }
  });
}

const ip = (text: string): string => bytesToHex(addrBytes(unwrap(parseAddr(text))));
const ifname = (name: string): string => Buffer.from(name).toString("hex").padEnd(32, "0");
const rule = (comment: string | undefined, ...expressions: Expr[]): NftRule => ({ expressions, comment });
const one = (key: string): NftElement => ({ key, keyEnd: undefined, verdict: undefined });
const range = (key: string, keyEnd: string): NftElement => ({ key, keyEnd, verdict: undefined });

const SETS: { readonly [name: string]: { readonly is: NftSet; readonly elements: readonly NftElement[] } } = {
  addresses: {
    is: { key: ["ipv4_addr"], interval: false, verdictMap: false },
    elements: [one(ip("10.0.0.1")), one(ip("10.0.0.2"))],
  },
  addresses6: { is: { key: ["ipv6_addr"], interval: false, verdictMap: false }, elements: [one(ip("fd00::1"))] },
  dispatch: {
    is: { key: ["ifname"], interval: false, verdictMap: true },
    elements: [{ key: ifname("cali0123456789a"), keyEnd: undefined, verdict: { type: "goto", chain: "web" } }],
  },
  sources: {
    is: { key: ["ifname", "ipv4_addr"], interval: false, verdictMap: false },
    elements: [one(ifname("cali1") + ip("10.0.0.1"))],
  },
  sources6: {
    is: { key: ["ifname", "ipv6_addr"], interval: false, verdictMap: false },
    elements: [one(ifname("cali1") + ip("fd00::1"))],
  },
  named: {
    is: { key: ["ipv4_addr", "inet_proto", "inet_service"], interval: false, verdictMap: false },
    elements: [one(`${ip("10.0.0.1")}0600000000500000`)],
  },
  networks: {
    is: { key: ["ipv4_addr"], interval: true, verdictMap: false },
    elements: [
      range(ip("10.0.0.0"), ip("10.0.0.255")),
      range(ip("10.0.1.0"), ip("10.0.1.9")),
      range(ip("224.0.0.0"), ip("255.255.255.255")),
    ],
  },
  networks6: {
    is: { key: ["ipv6_addr"], interval: true, verdictMap: false },
    elements: [range(ip("fd00::"), ip("fd00::ffff")), range(ip("fe00::"), "f".repeat(32))],
  },
  ports: {
    is: { key: ["inet_proto", "inet_service"], interval: true, verdictMap: false },
    elements: [range("0600000000500000", "0600000000500000"), range("1100000000350000", "1100000000400000")],
  },
};

const accept: Expr = { op: "verdict", verdict: { type: "accept" } };
const established: Expr[] = [
  { op: "ct", key: "state", register: 0 },
  { op: "bitwise", source: 0, destination: 0, mask: "06000000", xor: "00000000" },
  { op: "cmp", compare: "neq", register: 0, data: "00000000" },
];
const family = (number: "02" | "0a"): Expr[] => [
  { op: "meta", key: "nfproto", register: 0 },
  { op: "cmp", compare: "eq", register: 0, data: number },
];
const tcp: Expr[] = [
  { op: "meta", key: "l4proto", register: 0 },
  { op: "cmp", compare: "eq", register: 0, data: "06" },
];
const source: Expr = { op: "payload", base: "network", offset: 12, length: 4, register: 0 };
const source6: Expr = { op: "payload", base: "network", offset: 8, length: 16, register: 0 };
const port: Expr = { op: "payload", base: "transport", offset: 2, length: 2, register: 0 };

const RULES: readonly (readonly [NftRule, string])[] = [
  [
    rule("established first", ...established, { op: "counter" }, accept),
    'ct state established,related counter packets 0 bytes 0 accept comment "established first"',
  ],
  [
    rule(undefined, { op: "meta", key: "iifname", register: 0 }, { op: "verdict-map", map: "dispatch", register: 0 }),
    "iifname vmap @dispatch",
  ],
  [
    rule("ü ok", ...family("02"), source, { op: "lookup", set: "addresses", register: 0, not: false }, accept),
    'ip saddr @addresses accept comment "ü ok"',
  ],
  [
    rule(undefined, ...family("0a"), source6, { op: "lookup", set: "networks6", register: 0, not: true }, accept),
    "ip6 saddr != @networks6 accept",
  ],
  [
    rule(undefined, ...tcp, port, { op: "cmp", compare: "eq", register: 0, data: "0050" }, accept),
    "tcp dport 80 accept",
  ],
  [
    rule(undefined, ...tcp, port, { op: "range", compare: "neq", register: 0, from: "0050", to: "005a" }, accept),
    "tcp dport != 80-90 accept",
  ],
  [
    rule(
      undefined,
      { op: "meta", key: "l4proto", register: 0 },
      { op: "payload", base: "transport", offset: 2, length: 2, register: 1 },
      { op: "lookup", set: "ports", register: 0, not: false },
      accept,
    ),
    "meta l4proto . th dport @ports accept",
  ],
  [
    rule(
      undefined,
      ...family("02"),
      { op: "meta", key: "iifname", register: 0 },
      { ...source, register: 4 },
      { op: "lookup", set: "sources", register: 0, not: true },
      { op: "verdict", verdict: { type: "drop" } },
    ),
    "iifname . ip saddr != @sources drop",
  ],
  [
    rule(
      undefined,
      ...family("0a"),
      { op: "meta", key: "iifname", register: 0 },
      { ...source6, register: 4 },
      { op: "lookup", set: "sources6", register: 0, not: true },
      { op: "verdict", verdict: { type: "drop" } },
    ),
    "iifname . ip6 saddr != @sources6 drop",
  ],
  [
    rule(
      undefined,
      { op: "meta", key: "oifname", register: 0 },
      { op: "cmp", compare: "eq", register: 0, data: "63616c69" },
      { op: "verdict", verdict: { type: "jump", chain: "web" } },
    ),
    'oifname "cali*" jump web',
  ],
  [
    rule(
      undefined,
      { op: "meta", key: "mark", register: 0 },
      { op: "bitwise", source: 0, destination: 0, mask: "ff000000", xor: "00000000" },
      { op: "cmp", compare: "eq", register: 0, data: "10000000" },
      { op: "verdict", verdict: { type: "return" } },
    ),
    "meta mark & 0x000000ff == 0x00000010 return",
  ],
];

const COMMANDS: readonly NftCommand[] = [
  { do: "add-table" },
  { do: "add-chain", chain: "web", base: undefined },
  { do: "add-chain", chain: "forward", base: { hook: "forward", priority: -7, policy: "drop" } },
  ...Object.entries(SETS).flatMap(([set, { is, elements }]): NftCommand[] => [
    { do: "add-set", set, is },
    { do: "add-elements", set, is, elements },
  ]),
  ...RULES.map(([wanted]): NftCommand => ({ do: "add-rule", chain: "forward", rule: wanted })),
];

/** From this text nft 1.0.6 makes a rule with a byte order conversion (of one byte, without effect) that we would not write. */
const OTHER_FROM_TEXT = "meta l4proto . th dport @ports accept";
const SAME_FROM_TEXT = COMMANDS.filter(
  (command) => command.do !== "add-rule" || command.rule !== RULES.find(([, text]) => text === OTHER_FROM_TEXT)?.[0],
);

function sorted(elements: readonly NftElement[]): NftElement[] {
  return [...elements].sort((a, b) => (a.key < b.key ? -1 : 1));
}

describe("what is written", () => {
  test("is shown by nft as meant", () => {
    withTable((client, namespace) => {
      client.commit(COMMANDS);
      const listed = namespace.run(["nft", "list", "ruleset"]).replace(/\s+/g, " ");
      expect(listed).toContain("chain forward { type filter hook forward priority filter - 7; policy drop;");
      for (const [, text] of RULES) expect(listed).toContain(text);
      expect(listed).toContain('map dispatch { type ifname : verdict elements = { "cali0123456789a" : goto web } }');
      expect(listed).toContain('set sources { type ifname . ipv4_addr elements = { "cali1" . 10.0.0.1 } }');
      expect(listed).toContain('set sources6 { type ifname . ipv6_addr elements = { "cali1" . fd00::1 } }');
      expect(listed).toContain(
        "set named { type ipv4_addr . inet_proto . inet_service elements = { 10.0.0.1 . tcp . 80 } }",
      );
      expect(listed).toContain(
        "set networks { type ipv4_addr flags interval elements = { 10.0.0.0/24, 10.0.1.0-10.0.1.9, 224.0.0.0/3 } }",
      );
      expect(listed).toContain("set networks6 { type ipv6_addr flags interval elements = { fd00::/112, fe00::/7 } }");
      expect(listed).toContain(
        "set ports { type inet_proto . inet_service flags interval elements = { tcp . 80, udp . 53-64 } }",
      );
    });
  });

  test("what nft makes of its own text is read as the same objects", () => {
    withTable((client, namespace) => {
      client.commit(SAME_FROM_TEXT);
      const ours = client.read();
      const text = namespace.run(["nft", "-s", "list", "table", "inet", "calico-test"]);
      namespace.run(["nft", "delete", "table", "inet", "calico-test"]);
      namespace.run(["nft", "-f", "-"], text);
      const theirs = client.read();
      expect(theirs?.chains.get("forward")?.rules.map((one) => one.rule)).toEqual(
        ours?.chains.get("forward")?.rules.map((one) => one.rule) ?? [],
      );
      for (const name of Object.keys(SETS)) {
        expect(theirs?.sets.get(name)?.is).toEqual(ours?.sets.get(name)?.is);
        expect(sorted(theirs?.sets.get(name)?.elements ?? [])).toEqual(sorted(ours?.sets.get(name)?.elements ?? []));
      }
    });
  });

  test("the printed commands are accepted by nft, and mean the same", () => {
    withTable((client, namespace) => {
      namespace.run(["nft", "-f", "-"], printCommands(TABLE, SAME_FROM_TEXT));
      const theirs = client.read();
      namespace.run(["nft", "delete", "table", "inet", "calico-test"]);
      client.commit(SAME_FROM_TEXT);
      const ours = client.read();
      if (theirs === undefined || ours === undefined) throw new Error("no table");
      expect(printTable(TABLE, theirs)).toBe(printTable(TABLE, ours));
      expect(printTable(TABLE, ours)).not.toContain("cannot be expressed");
    });
  });
});

describe("what is not ours to say", () => {
  test("is undefined, not approximated", () => {
    withTable((client, namespace) => {
      namespace.run(
        ["nft", "-f", "-"],
        `table inet calico-test {
          set timed { type ipv4_addr; timeout 1h; }
          set catchall { type ipv4_addr; flags interval; elements = { * } }
          map data { type ipv4_addr : inet_service; }
          set mac { type ether_addr; }
          chain nat { type nat hook postrouting priority 100; }
          chain c { limit rate 1/second accept; ip saddr { 1.2.3.4, 1.2.3.5 } accept; tcp dport 80 ct mark 1 accept; tcp dport 80 accept; meta mark set 1; reject; }
        }`,
      );
      const state = client.read();
      for (const name of ["timed", "catchall", "data", "mac"])
        expect([name, state?.sets.get(name)?.is]).toEqual([name, undefined]);
      expect(state?.chains.get("nat")?.base).toBeUndefined();
      expect(state?.chains.get("nat")?.rules.map((one) => one.rule)).toEqual([undefined]);
      expect(state?.chains.get("c")?.rules.map((one) => one.rule !== undefined)).toEqual([
        false,
        true,
        false,
        true,
        false,
        false,
      ]);
      // The anonymous set of the second rule is of a kind that is never wanted.
      expect(
        [...(state?.sets ?? [])].filter(([name]) => name.startsWith("__set")).map(([, found]) => found.is),
      ).toEqual([undefined]);
    });
  });
});

onBothKernels((kernel) => {
  test("is read back as the same objects", () => {
    withTable((client) => {
      expect(client.read()).toBeUndefined();
      client.commit(COMMANDS);
      expect(client.writes).toBe(1);
      const state = client.read();
      expect(state?.chains.get("web")).toEqual({ base: undefined, rules: [] });
      expect(state?.chains.get("forward")?.base).toEqual({ hook: "forward", priority: -7, policy: "drop" });
      expect(state?.chains.get("forward")?.rules.map((one) => one.rule)).toEqual(RULES.map(([wanted]) => wanted));
      for (const [name, wanted] of Object.entries(SETS)) {
        const found = state?.sets.get(name);
        expect(found?.is).toEqual(wanted.is);
        expect(sorted(found?.elements ?? [])).toEqual(sorted(wanted.elements));
      }
    }, kernel);
  });

  describe("transactions", () => {
    test("are all or nothing, and the error names the command", () => {
      withTable((client) => {
        client.commit([{ do: "add-table" }, { do: "add-chain", chain: "a", base: undefined }]);
        const commands: NftCommand[] = [
          { do: "add-chain", chain: "b", base: undefined },
          { do: "add-rule", chain: "b", rule: rule(undefined, { op: "lookup", set: "none", register: 0, not: false }) },
          { do: "delete-chain", chain: "never" },
        ];
        try {
          client.commit(commands);
          expect.unreachable();
        } catch (error) {
          if (!(error instanceof NftCommitError)) throw error;
          expect({ index: error.index, errno: error.errno, command: error.command }).toEqual({
            index: 1,
            errno: ENOENT,
            command: commands[1] as NftCommand,
          });
          expect(error.message).toBe(
            'Cannot add rule to chain "b" (command 1 of the transaction) in table inet calico-test: ENOENT (no such file or directory)',
          );
        }
        expect([...(client.read()?.chains.keys() ?? [])]).toEqual(["a"]);
        expect(client.writes).toBe(1);
      }, kernel);
    });

    test("a loop of chains is refused as a whole", () => {
      withTable((client) => {
        const jump = (chain: string): NftRule => rule(undefined, { op: "verdict", verdict: { type: "jump", chain } });
        const commands: NftCommand[] = [
          { do: "add-table" },
          { do: "add-chain", chain: "a", base: { hook: "forward", priority: 0, policy: "accept" } },
          { do: "add-chain", chain: "b", base: undefined },
          { do: "add-rule", chain: "a", rule: jump("b") },
          { do: "add-rule", chain: "b", rule: jump("b") },
        ];
        expect(() => client.commit(commands)).toThrow(KernelError);
        expect(client.read()).toBeUndefined();
      }, kernel);
    });

    test("nothing to do is nothing sent", () => {
      withTable((client) => {
        client.commit([]);
        expect(client.writes).toBe(0);
      }, kernel);
    });

    test("rules, elements, sets, chains and the table go again", () => {
      withTable((client) => {
        client.commit(COMMANDS);
        client.commit([
          { do: "flush-chain", chain: "forward" },
          ...Object.entries(SETS).map(([set, { is, elements }]): NftCommand => ({
            do: "delete-elements",
            set,
            is,
            elements: elements.slice(0, 1),
          })),
        ]);
        const state = client.read();
        expect(state?.chains.get("forward")?.rules).toEqual([]);
        for (const [name, { elements }] of Object.entries(SETS))
          expect(sorted(state?.sets.get(name)?.elements ?? [])).toEqual(sorted(elements.slice(1)));
        client.commit([
          ...Object.keys(SETS).map((set): NftCommand => ({ do: "delete-set", set })),
          { do: "delete-chain", chain: "web" },
        ]);
        expect([...(client.read()?.sets.keys() ?? [])]).toEqual([]);
        client.commit([{ do: "delete-table" }]);
        expect(client.read()).toBeUndefined();
        client.commit([{ do: "add-table" }, { do: "delete-table" }, { do: "add-table" }]);
        expect(client.read()).toEqual({ flags: [], owner: undefined, chains: new Map(), sets: new Map() });
      }, kernel);
    });

    test("ranges may be added beside, between and after one another, one transaction each", () => {
      withTable((client, namespace) => {
        const is = SETS["networks"]?.is;
        if (is === undefined) throw new Error("no set");
        client.commit([{ do: "add-table" }, { do: "add-set", set: "r", is }]);
        const ranges = [
          range("00000006", "0000000a"),
          range("00000001", "00000005"),
          range("0000000b", "0000000b"),
          range("00000000", "00000000"),
          range("fffffff0", "ffffffff"),
          range("ffffffef", "ffffffef"),
        ];
        for (const element of ranges) client.commit([{ do: "add-elements", set: "r", is, elements: [element] }]);
        expect(sorted(client.read()?.sets.get("r")?.elements ?? [])).toEqual(sorted(ranges));
        if (kernel.name === "real")
          expect(namespace.run(["nft", "list", "set", "inet", "calico-test", "r"]).replace(/\s+/g, " ")).toContain(
            "elements = { 0.0.0.0, 0.0.0.1-0.0.0.5, 0.0.0.6-0.0.0.10, 0.0.0.11, 255.255.255.239, 255.255.255.240/28 }",
          );
        for (const element of ranges.slice(1))
          client.commit([{ do: "delete-elements", set: "r", is, elements: [element] }]);
        expect(client.read()?.sets.get("r")?.elements).toEqual(ranges.slice(0, 1));
      }, kernel);
    });

    test("ten thousand elements, and one more", () => {
      withTable((client) => {
        const is: NftSet = { key: ["ipv4_addr"], interval: false, verdictMap: false };
        const elements = Array.from({ length: 10_000 }, (_, i) => one((0x0a000000 + i).toString(16).padStart(8, "0")));
        client.commit([
          { do: "add-table" },
          { do: "add-set", set: "s", is },
          { do: "add-elements", set: "s", is, elements },
        ]);
        client.commit([{ do: "add-elements", set: "s", is, elements: [one("0b000000")] }]);
        const found = client.read()?.sets.get("s")?.elements ?? [];
        expect(found.length).toBe(10_001);
        expect(sorted(found)).toEqual([...elements, one("0b000000")]);
        client.commit([{ do: "delete-elements", set: "s", is, elements }]);
        expect(client.read()?.sets.get("s")?.elements).toEqual([one("0b000000")]);
      }, kernel);
    });
  });
});

test("a read right after a large load is whole, though the kernel is still making its hash table larger", () => {
  const is: NftSet = { key: ["ipv4_addr"], interval: false, verdictMap: false };
  const elements = Array.from({ length: 10_000 }, (_, i) => one((0x0a000000 + i).toString(16).padStart(8, "0")));
  withTable((client) => {
    for (let round = 0; round < 20; round++) {
      client.commit([
        { do: "add-table" },
        { do: "add-set", set: "s", is },
        { do: "add-elements", set: "s", is, elements },
      ]);
      const keys = (client.read()?.sets.get("s")?.elements ?? []).map((element) => element.key);
      expect({ told: keys.length, distinct: new Set(keys).size }).toEqual({ told: 10_000, distinct: 10_000 });
      client.commit([{ do: "delete-table" }]);
    }
    client.commit([{ do: "add-table" }]);
  });
});

test("counters are those of the packets that passed, by chain and rule", () => {
  withTable((client, namespace) => {
    const counted = rule(
      undefined,
      { op: "meta", key: "l4proto", register: 0 },
      { op: "cmp", compare: "eq", register: 0, data: "01" },
      { op: "counter" },
      accept,
    );
    const counted6 = rule(
      undefined,
      { op: "meta", key: "l4proto", register: 0 },
      { op: "cmp", compare: "eq", register: 0, data: "3a" },
      { op: "counter" },
      accept,
    );
    client.commit([
      { do: "add-table" },
      { do: "add-chain", chain: "in", base: { hook: "input", priority: 0, policy: "accept" } },
      { do: "add-rule", chain: "in", rule: rule(undefined, ...tcp, accept) },
      { do: "add-rule", chain: "in", rule: counted },
      { do: "add-rule", chain: "in", rule: counted6 },
    ]);
    namespace.run(["ping", "-c", "1", "-W", "2", "127.0.0.1"]);
    namespace.run(["ping", "-c", "1", "-W", "2", "::1"]);
    const counts = client
      .counters()
      .get("in")
      ?.map(({ packets }) => packets);
    // Request and reply both arrive.
    expect(counts?.[0]).toBe(0n);
    expect(counts?.[1]).toBe(2n);
    expect(counts?.[2]).toBeGreaterThanOrEqual(2n);
    expect(client.read()?.chains.get("in")?.rules[1]?.bytes).toBe(168n);
  });
});
