/** Nets in the kernel's sets: whatever comes and goes, these hold what they would had it always been so, and are asked for the right bits. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { printRule } from "../../kernel/nftables/print.ts";
import { FAMILIES, type Family } from "../../net/addr.ts";
import { type Prefix, prefixFamily, prefixLength } from "../../net/prefix.ts";
import { formatKey } from "../../model/key.ts";
import { policyChain } from "./names.ts";
import { type Policy, type PolicyId, type SetId, type SetMembers } from "../../program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../program/program.ts";
import { DEFAULT_SETTINGS } from "../../program/settings.ts";
import { NftablesLowering } from "./lower.ts";
import { MANY_NETS, Nets } from "./nets.ts";
import type { NftRow } from "./rows.ts";
import { elementText, wantedElements } from "./sets.ts";

const ID = "s-0" as SetId;
const SOURCE = { kind: "GlobalNetworkPolicy", namespace: undefined, name: "p" } as const;
const POLICY = formatKey(SOURCE) as string as PolicyId;
const CHAIN = `chain ${policyChain(POLICY, "ingress", "accept")}`;

/** So many nets of the length, the first bits counted up. */
function netsOf(family: Family, length: number, count: number): Prefix[] {
  return Array.from({ length: count }, (_, i) => {
    const net =
      family === 4 ? `10.${i >> 8}.${i & 255}.${length === 24 ? 0 : 64}` : `fd00:0:0:${(i + 1).toString(16)}::`;
    return `${net}/${length}` as Prefix;
  });
}

function policyOf(not: boolean): Policy {
  const when = [{ not, any: [{ on: "set" as const, side: "source" as const, set: ID }] }];
  return {
    source: SOURCE,
    tier: "default",
    ingress: [{ id: { source: SOURCE, direction: "ingress", index: 0 }, when, action: "allow" }],
    egress: undefined,
    error: undefined,
  };
}

/** A node whose only policy allows what is in the set, or what is not. */
class Node {
  readonly nets: Set<Prefix>;
  readonly lowering = new NftablesLowering();
  readonly rows = new Map<string, NftRow>();
  /** By kernel set, what the changes so far leave in it. */
  readonly elements = new Map<string, Set<string>>();
  readonly #program: Program;

  constructor(nets: readonly Prefix[], not = false) {
    this.nets = new Set(nets);
    const members: SetMembers = { type: "address", hosts: new Set(), nets: this.nets };
    const stage = { tiers: [{ tier: "default", policies: [POLICY], otherwise: "deny" as const }], profiles: [] };
    const endpoint: Endpoint = {
      kind: "workload",
      source: { kind: "Pod", namespace: "a", name: "p" },
      addresses: [],
      stages: { normal: { ingress: { ...stage, otherwise: "deny" } } },
    };
    this.#program = {
      settings: DEFAULT_SETTINGS,
      sets: new Map([[ID, members]]),
      policies: new Map([[POLICY, policyOf(not)]]),
      endpoints: new Map([["cali1" as EndpointId, endpoint]]),
      routes: new Map(),
    };
    this.#take({ ...this.#program, members: new Map() });
  }

  /** Returns the ids of the rows that changed. */
  change(added: readonly Prefix[], removed: readonly Prefix[]): readonly string[] {
    for (const net of removed) this.nets.delete(net);
    for (const net of added) this.nets.add(net);
    const none = { policies: new Map(), endpoints: new Map(), routes: new Map() };
    return this.#take({ ...none, sets: this.#program.sets, members: new Map([[ID, { added, removed }]]) });
  }

  #take(delta: Parameters<NftablesLowering["lower"]>[1]): readonly string[] {
    const { rows, elements } = this.lowering.lower(this.#program, delta);
    for (const [id, owned] of rows) {
      if (owned === undefined) this.rows.delete(id);
      else this.rows.set(id, owned.row);
      if (owned === undefined) this.elements.delete(id.slice("set ".length));
    }
    for (const [set, change] of elements) {
      if (change.type === "all") this.elements.set(set, new Set(this.wanted(set)));
      else {
        const known = this.elements.get(set);
        for (const element of change.removed) expect(known?.delete(elementText(element))).toBe(true);
        for (const element of change.added) {
          expect(known?.has(elementText(element))).toBe(false);
          known?.add(elementText(element));
        }
      }
    }
    return [...rows.keys()];
  }

  wanted(set: string): readonly string[] {
    const wanted = wantedElements(this.#program, set, this.lowering.netsOf);
    const elements = [...(wanted?.elements() ?? [])];
    expect(elements.every((element) => wanted?.has(element) === true)).toBe(true);
    expect(wanted?.count()).toBe(elements.length);
    return elements.map(elementText).sort();
  }

  get sets(): Record<string, readonly string[]> {
    return Object.fromEntries([...this.elements].map(([set, texts]) => [set, [...texts].sort()]).sort());
  }

  get rules(): readonly string[] {
    const row = this.rows.get(CHAIN);
    return row?.type === "chain" ? row.rules.map((rule) => (rule === undefined ? "" : printRule(rule))) : [];
  }
}

test("lengths with many nets are asked by their first bits, in both families, and the rest is one set of intervals", () => {
  const many = [...netsOf(4, 26, MANY_NETS), ...netsOf(6, 64, MANY_NETS), ...netsOf(4, 32, MANY_NETS)];
  const node = new Node([...many, "192.0.2.0/24" as Prefix]);
  expect(node.rules.map((rule) => rule.replace(/ counter.*/, ""))).toEqual([
    "ip saddr @s-0-4",
    "ip saddr & 255.255.255.192 @s-0-4-nets-len26",
    "ip saddr @s-0-4-nets-len32",
    "ip saddr @s-0-4-nets-but26.32",
    "ip6 saddr @s-0-6",
    "ip6 saddr & ffff:ffff:ffff:ffff:: @s-0-6-nets-len64",
  ]);
  expect(node.sets["s-0-4-nets-but26.32"]).toEqual(["c0000200-c00002ff"]);
  expect(node.sets["s-0-4-nets-len26"]?.length).toBe(MANY_NETS);
  expect(node.sets["s-0-4-nets-len26"]).toContain("0a000140");
  expect(new Node(many, true).rules.map((rule) => rule.replace(/ counter.*/, ""))).toEqual([
    "ip saddr != @s-0-4 ip saddr & 255.255.255.192 != @s-0-4-nets-len26 ip saddr != @s-0-4-nets-len32",
    "ip6 saddr != @s-0-6 ip6 saddr & ffff:ffff:ffff:ffff:: != @s-0-6-nets-len64",
  ]);
});

test("a net of a length with many is one element and no rule; where many begin, the rest goes on in a set of another name", () => {
  const node = new Node([...netsOf(4, 24, MANY_NETS - 1), "192.0.2.0/25" as Prefix]);
  expect(node.rules.length).toBe(3);
  const next = "172.16.0.0/24" as Prefix;
  const rows = node.change([next], []);
  expect([...rows].sort()).toEqual([CHAIN, "set s-0-4-nets", "set s-0-4-nets-but24", "set s-0-4-nets-len24"]);
  expect(node.sets["s-0-4-nets-but24"]).toEqual(["c0000200-c000027f"]);
  expect(node.change(["172.16.1.0/24" as Prefix], [])).toEqual([]);
  expect(node.sets["s-0-4-nets-len24"]?.length).toBe(MANY_NETS + 1);
  // The last of the rest goes, and with it its set.
  expect([...node.change([], ["192.0.2.0/25" as Prefix])].sort()).toEqual([CHAIN, "set s-0-4-nets-but24"]);
  node.change([], [next, "172.16.1.0/24" as Prefix]);
  expect(Object.keys(node.sets)).toEqual(["s-0-4", "s-0-4-nets", "s-0-6"]);
});

test("no more than eight lengths have a set of their own, those with the most nets, and the name of the rest is one that the kernel takes", () => {
  const nets = Array.from({ length: 12 }, (_, i) => netsOf(6, 96 + i, MANY_NETS + i)).flat();
  const own = new Nets(6, nets);
  expect(own.lengths).toEqual([100, 101, 102, 103, 104, 105, 106, 107]);
  expect(own.parts.at(-1)).toBe("rest");
});

test("whatever comes and goes, sets and rules are those of a node that never had anything else", () => {
  const pools = [
    ...netsOf(4, 24, MANY_NETS + 3),
    ...netsOf(4, 26, MANY_NETS + 3),
    ...netsOf(6, 64, MANY_NETS + 3),
    ...(["10.0.0.0/16", "10.0.0.0/23", "192.0.2.1/32", "fd00::/48", "::/0", "0.0.0.0/0"] as string[] as Prefix[]),
  ];
  const first = pools.filter((net) => prefixLength(net) % 2 === 0 && prefixFamily(net) === 4);
  const step = fc.array(
    fc.oneof(
      // Around where many begin.
      fc
        .integer({ min: MANY_NETS - 4, max: MANY_NETS + 2 })
        .chain((at) => fc.constantFrom(0, MANY_NETS + 3, 2 * MANY_NETS + 6).map((from) => from + at)),
      fc.integer({ min: 3 * MANY_NETS + 9, max: pools.length - 1 }),
      fc.integer({ min: 0, max: pools.length - 1 }),
    ),
    { minLength: 1, maxLength: 8 },
  );
  fc.assert(
    fc.property(fc.boolean(), fc.array(step, { maxLength: 10 }), (not, steps) => {
      const node = new Node(first, not);
      for (const indices of steps) {
        const toggled = [...new Set(indices)].flatMap((index) => pools[index] ?? []);
        node.change(
          toggled.filter((net) => !node.nets.has(net)),
          toggled.filter((net) => node.nets.has(net)),
        );
        const fresh = new Node([...node.nets], not);
        expect(node.sets).toEqual(fresh.sets);
        expect(node.rules).toEqual(fresh.rules);
        for (const set of Object.keys(node.sets)) expect(node.sets[set]).toEqual([...fresh.wanted(set)]);
      }
      for (const family of FAMILIES)
        expect(node.lowering.netsOf(ID)?.has(family)).toBe([...node.nets].some((net) => prefixFamily(net) === family));
    }),
    { numRuns: 60 },
  );
});
