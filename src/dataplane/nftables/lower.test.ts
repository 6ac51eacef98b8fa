import { expect, test } from "bun:test";
import fc from "fast-check";
import type { NftElement, NftRule } from "../../kernel/nftables/objects.ts";
import { addrFromBytes, type Addr } from "../../net/addr.ts";
import {
  formatAddrPort,
  type Policy,
  type PolicyId,
  type SetId,
  type SetMembers,
  type TierBinding,
} from "../../program/policy.ts";
import type { Prefix } from "../../net/prefix.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { DEFAULT_SETTINGS } from "../../program/settings.ts";
import { type NftChange, NftablesLowering } from "./lower.ts";
import { isSettled, PendingElements } from "./pending-elements.ts";
import { KeyDigest } from "../../kernel/nftables/key-digest.ts";
import { elementText, kernelSetsOf, memberElement, netsByFamily, type WantedElements, wantedElements } from "./sets.ts";

const ID = "s-0" as SetId;

function programOf(members: SetMembers): Program {
  const sets = new Map([[ID, members]]);
  return { settings: DEFAULT_SETTINGS, sets, policies: new Map(), endpoints: new Map(), routes: new Map() };
}

function deltaOf(members: SetMembers, change?: { added: string[]; removed: string[] }): ProgramDelta {
  return {
    sets: new Map([[ID, members]]),
    policies: new Map(),
    endpoints: new Map(),
    routes: new Map(),
    members: change === undefined ? new Map() : new Map([[ID, change]]),
  };
}

/** The elements of one of its kernel sets, as they are once the set is lowered. */
function wantedIn(members: SetMembers, kernelSet: string): WantedElements | undefined {
  const lowering = new NftablesLowering();
  lowering.lower(programOf(members), deltaOf(members));
  return wantedElements(programOf(members), kernelSet, lowering.netsOf);
}

/** A set that tells how often it was gone through. */
class Counting<T extends string> extends Set<T> {
  walks = 0;
  override [Symbol.iterator](): SetIterator<T> {
    this.walks++;
    return super[Symbol.iterator]();
  }
}

test("a member that changes is one element, and nobody goes through the set", () => {
  const lowering = new NftablesLowering();
  const live = new Counting(["10.0.0.1", "10.0.0.2", "fd00::1"] as Addr[]);
  const members: SetMembers = { type: "address", hosts: live, nets: new Set() };
  const first = lowering.lower(programOf(members), deltaOf(members));
  expect([...first.rows.keys()].filter((id) => id.startsWith("set s-"))).toEqual(["set s-0-4", "set s-0-6"]);
  expect([...first.elements]).toEqual([
    ["s-0-4", { type: "all" }],
    ["s-0-6", { type: "all" }],
  ]);
  const change = { added: ["10.0.0.3"], removed: ["fd00::1"] };
  const next = lowering.lower(programOf(members), deltaOf(members, change));
  expect(next.rows.size).toBe(0);
  expect([...next.elements]).toEqual([
    ["s-0-4", { type: "some", added: [expect.objectContaining({ key: "0a000003" })], removed: [] }],
    [
      "s-0-6",
      { type: "some", added: [], removed: [expect.objectContaining({ key: "fd000000000000000000000000000001" })] },
    ],
  ]);
  expect(live.walks).toBe(0);
});

test("a net that changes is the intervals beside it, nobody goes through the set, and rules are lowered only for the first and last of a family", () => {
  const lowering = new NftablesLowering();
  const nets = new Counting(["10.0.0.0/24", "10.0.2.0/24"] as string[] as Prefix[]);
  const members: SetMembers = { type: "address", hosts: new Set(), nets };
  lowering.lower(programOf(members), deltaOf(members));
  const element = (key: string, keyEnd: string): NftElement => ({ key, keyEnd, verdict: undefined });
  const { walks } = nets;
  nets.add("10.0.1.0/24" as Prefix);
  const joined = lowering.lower(programOf(members), deltaOf(members, { added: ["10.0.1.0/24"], removed: [] }));
  expect(joined.rows.size).toBe(0);
  expect([...joined.elements]).toEqual([
    [
      "s-0-4-nets",
      {
        type: "some",
        added: [element("0a000000", "0a0002ff")],
        removed: [element("0a000000", "0a0000ff"), element("0a000200", "0a0002ff")],
      },
    ],
  ]);
  expect(nets.walks).toBe(walks);
  nets.add("fd00::/64" as Prefix);
  const other = lowering.lower(programOf(members), deltaOf(members, { added: ["fd00::/64"], removed: [] }));
  expect([[...other.rows.keys()], [...other.elements]]).toEqual([
    ["set s-0-6-nets"],
    [["s-0-6-nets", { type: "all" }]],
  ]);
  const six = wantedElements(programOf(members), "s-0-6-nets", lowering.netsOf);
  expect([...(six?.elements() ?? [])].map(elementText)).toEqual([
    "fd000000000000000000000000000000-fd00000000000000ffffffffffffffff",
  ]);
  nets.delete("fd00::/64" as Prefix);
  const gone = lowering.lower(programOf(members), deltaOf(members, { added: [], removed: ["fd00::/64"] }));
  expect([[...gone.rows], [...gone.elements]]).toEqual([[["set s-0-6-nets", undefined]], []]);
  expect(wantedElements(programOf(members), "s-0-6-nets", lowering.netsOf)).toBeUndefined();
});

const addr = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map((bytes) => addrFromBytes(bytes));

test("every member has one element in the set of its family, and is found again by its key", () => {
  fc.assert(
    fc.property(fc.uniqueArray(addr), fc.nat(255), fc.nat(65_535), (addresses, protocol, port) => {
      const withPorts = new Set(addresses.map((each) => formatAddrPort(each, protocol as never, port)));
      for (const members of [
        { type: "address", hosts: new Set(addresses), nets: new Set<Prefix>() },
        { type: "address-port", members: withPorts },
      ] as const) {
        let count = 0;
        for (const { name } of kernelSetsOf(ID, members.type, netsByFamily(members))) {
          const wanted = wantedIn(members, name);
          const [whole, byElement] = [new KeyDigest(1), new KeyDigest(1)];
          for (const _ of wanted?.digest?.(whole) ?? []);
          for (const element of wanted?.elements() ?? []) {
            count++;
            expect(wanted?.has(element)).toBe(true);
            for (const word of element.key.match(/.{8}/g) ?? []) byElement.word(Number.parseInt(word, 16));
            byElement.end();
          }
          expect(whole.isSame(byElement)).toBe(true);
        }
        expect(count).toBe(addresses.length);
        for (const member of members.type === "address" ? members.hosts : members.members) {
          const { set, element } = memberElement(ID, members.type, member);
          expect(wantedIn(members, set)?.has(element)).toBe(true);
          // The same key with something where the kernel has padding, or another length, is no member's.
          expect(wantedIn(members, set)?.has({ ...element, key: `${element.key}00000001` })).toBe(false);
        }
      }
    }),
  );
});

test("nets that overlap or touch are one element, hosts and nets are kept apart, and a family without nets has no set for them", () => {
  const nets = ["10.0.0.0/25", "10.0.0.128/25", "10.0.0.64/26", "10.1.0.0/16", "fd00::/64"] as string[] as Prefix[];
  const host = "10.9.0.1" as Addr;
  const keys = (members: SetMembers): Record<string, string[]> => {
    const names = kernelSetsOf(ID, members.type, netsByFamily(members)).map(({ name }) => name);
    return Object.fromEntries(
      names.map((name) => [name, [...(wantedIn(members, name)?.elements() ?? [])].map(elementText)]),
    );
  };
  const merged = ["0a000000-0a0000ff", "0a010000-0a01ffff"];
  expect(keys({ type: "address", hosts: new Set([host]), nets: new Set(nets.slice(0, 4)) })).toEqual({
    "s-0-4": ["0a090001"],
    "s-0-4-nets": merged,
    "s-0-6": [],
  });
  const all = { type: "nets", nets: new Set(nets) } as const;
  expect(Object.keys(keys(all))).toEqual(["s-0-4", "s-0-6"]);
  expect(keys(all)["s-0-4"]).toEqual(merged);
});

test("whatever comes and goes while a set is filled in slices, the kernel ends with what is wanted", () => {
  const member = fc.integer({ min: 0, max: 30 }).map((number) => `10.0.0.${number}` as Addr);
  const step = fc.record({ change: fc.array(member, { maxLength: 6 }), most: fc.integer({ min: 1, max: 8 }) });
  fc.assert(
    fc.property(fc.uniqueArray(member), fc.array(step, { maxLength: 12 }), (first, steps) => {
      const live = new Set<Addr>(first);
      const members: SetMembers = { type: "address", hosts: live, nets: new Set() };
      const [set] = kernelSetsOf(ID, members.type, netsByFamily(members));
      const wanted = wantedIn(members, "s-0-4");
      if (set === undefined || wanted === undefined) throw new Error("no set");
      const pending = new PendingElements();
      pending.fill(set.name, "set s-0", set.is, wanted.elements());
      const kernel = new Set<string>();
      const commit = (most: number): void => {
        const entry = pending.get(set.name);
        if (entry === undefined) throw new Error("no entry");
        pending.pull(entry, most);
        const [add, remove, unsure] = [entry.add, entry.remove, entry.unsure].map((map) => [...map.values()]) as [
          NftElement[],
          NftElement[],
          NftElement[],
        ];
        for (const element of unsure) kernel.add(elementText(element));
        for (const element of [...unsure, ...remove]) {
          // The kernel refuses to delete what is not there.
          expect(kernel.delete(elementText(element))).toBe(true);
        }
        for (const element of add) kernel.add(elementText(element));
        pending.committed(set.name, add, remove, unsure);
      };
      for (const { change, most } of steps) {
        const toggled = [...new Set(change)];
        const removed = toggled.filter((each) => live.delete(each));
        const added = toggled.filter((each) => !removed.includes(each));
        for (const each of added) live.add(each);
        const elements = (list: readonly Addr[]): NftElement[] =>
          list.map((each) => memberElement(ID, "address", each).element);
        pending.change(set.name, elements(added), elements(removed));
        commit(most);
      }
      for (let i = 0; i < 40; i++) commit(1);
      const entry = pending.get(set.name);
      expect(entry !== undefined && isSettled(entry)).toBe(true);
      expect([...kernel].sort()).toEqual([...wanted.elements()].map(elementText).sort());
    }),
  );
});

test("of an endpoint that has another policy in one tier, only the chain of that tier changes, and of tiers that change places only the stage's", () => {
  const idOf = (name: string): PolicyId => `GlobalNetworkPolicy//${name}` as PolicyId;
  const policies = new Map(
    ["a", "b", "c", "d"].map((name): [PolicyId, Policy] => {
      const source = { kind: "GlobalNetworkPolicy", namespace: undefined, name } as const;
      return [idOf(name), { source, tier: "t", ingress: [], egress: undefined, error: undefined }];
    }),
  );
  const tierOf = (tier: string, otherwise: "deny" | "pass", ...names: string[]): TierBinding => ({
    tier,
    policies: names.map(idOf),
    otherwise,
  });
  const endpointOf = (...tiers: TierBinding[]): Endpoint => ({
    kind: "workload",
    source: { kind: "Pod", namespace: "a", name: "p" },
    addresses: ["10.65.0.1" as Addr],
    stages: {
      normal: {
        ingress: { tiers, profiles: [], otherwise: "allow" },
        egress: { tiers: [], profiles: [], otherwise: "allow" },
      },
    },
  });
  const lowering = new NftablesLowering();
  let rows: NftChange["rows"] = new Map();
  const changed = (endpoint: Endpoint, first: ReadonlyMap<PolicyId, Policy>): string[] => {
    const endpoints = new Map([["cali1" as EndpointId, endpoint]]);
    const program = { settings: DEFAULT_SETTINGS, sets: new Map(), policies, endpoints, routes: new Map() };
    const delta = { sets: new Map(), members: new Map(), policies: first, endpoints, routes: new Map() };
    ({ rows } = lowering.lower(program, delta));
    return [...rows.keys()];
  };
  const jumps = (): readonly unknown[] => {
    const row = rows.get("chain cali-tw-1")?.row;
    const to = (rule: NftRule | undefined, tier: string): boolean =>
      JSON.stringify(rule?.expressions).includes(`"cali-tw-1/t-${tier}"`);
    const rules = row?.type === "chain" ? row.rules : [];
    return ["t0", "t1"].map((tier) => rules.find((rule) => to(rule, tier)));
  };
  const t0 = tierOf("t0", "pass", "a");
  const t2 = tierOf("t2", "deny", "c");
  expect(changed(endpointOf(t0, tierOf("t1", "pass", "b"), t2), policies)).toContain("chain cali-tw-1");
  const [first, second] = jumps();
  expect(changed(endpointOf(t0, tierOf("t1", "pass", "b"), t2), new Map())).toEqual([]);
  const t1 = tierOf("t1", "pass", "b", "d");
  expect(changed(endpointOf(t0, t1, t2), new Map()).filter((id) => !id.includes("cali-pi-"))).toEqual([
    "chain cali-tw-1/t-t1",
  ]);
  expect(changed(endpointOf(t1, t0, t2), new Map())).toEqual(["chain cali-tw-1"]);
  // Its rules are compared by identity: the jumps are those of before.
  expect(first).toBeDefined();
  expect(jumps()[0]).toBe(first);
  expect(jumps()[1]).toBe(second);
  expect(changed(endpointOf(t1, t2), new Map()).filter((id) => id.includes("cali-tw-"))).toEqual([
    "chain cali-tw-1/t-t0",
    "chain cali-tw-1",
  ]);
  // A tier that nothing can follow is asked in the stage's own chain.
  expect(changed(endpointOf(t2), new Map()).filter((id) => id.includes("cali-tw-"))).toEqual([
    "chain cali-tw-1/t-t1",
    "chain cali-tw-1/t-t2",
    "chain cali-tw-1",
  ]);
});

test("an endpoint that changes again and again has the rows of one that was always so", () => {
  const idOf = (name: string): PolicyId => `GlobalNetworkPolicy//${name}` as PolicyId;
  const otherwise = fc.constantFrom("deny" as const, "pass" as const);
  const tierOf = (tier: string, ...of: string[]) =>
    fc.record({ tier: fc.constant(tier), policies: fc.shuffledSubarray(of.map(idOf)), otherwise });
  const stage = fc.record({
    tiers: fc.tuple(tierOf("t0", "a", "b"), tierOf("t1", "c")).chain((tiers) => fc.shuffledSubarray(tiers)),
    profiles: fc.subarray([idOf("d")]),
    otherwise: fc.constantFrom("allow" as const, "deny" as const),
  });
  const places = fc.record({ normal: fc.record({ ingress: stage, egress: stage }) });
  const hostPlaces = fc.record({
    normal: fc.record({ ingress: stage, egress: stage }),
    untracked: fc.record({ ingress: stage, egress: stage }, { requiredKeys: [] }),
  });
  const addresses = fc.subarray(["10.65.0.1", "fd00::1"] as string[] as Addr[]);
  const source = { kind: "Pod", namespace: "a", name: "p" } as const;
  const endpoint: fc.Arbitrary<Endpoint> = fc.oneof(
    fc.record({ kind: fc.constant("workload" as const), source: fc.constant(source), addresses, stages: places }),
    fc.record({
      kind: fc.constant("workload" as const),
      source: fc.constant(source),
      addresses,
      stages: places,
      staged: places,
      sources: fc.constant(["10.9.0.0/24"] as string[] as Prefix[]),
    }),
    fc.record({ kind: fc.constant("host" as const), source: fc.constant(source), addresses, stages: hostPlaces }),
  );
  const policyOf = (name: string, action: "allow" | "pass"): Policy => {
    const key = { kind: "GlobalNetworkPolicy", namespace: undefined, name } as const;
    const rules = (["ingress", "egress"] as const).map((direction) => [
      { id: { source: key, direction, index: 0 }, when: [], action },
    ]);
    return { source: key, tier: "t", ingress: rules[0], egress: rules[1], error: undefined };
  };
  const action = fc.constantFrom("allow" as const, "pass" as const);
  const step = fc.record({ endpoint: fc.option(endpoint, { nil: undefined }), keeps: fc.boolean(), action });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 6 }), (steps) => {
      const lowering = new NftablesLowering();
      const rows = new Map<string, unknown>();
      let last: Endpoint | undefined;
      for (const { endpoint: next, keeps, action: of } of steps) {
        // With stages and addresses that are the same objects, as the calculation leaves them.
        const now =
          keeps && next?.kind === "workload" && last?.kind === "workload"
            ? {
                ...next,
                addresses: last.addresses,
                stages: { normal: { ...last.stages.normal, ingress: next.stages.normal?.ingress } },
              }
            : next;
        last = now as Endpoint | undefined;
        const id = "cali1" as EndpointId;
        const policies = new Map(["a", "b", "c", "d"].map((name) => [idOf(name), policyOf(name, of)] as const));
        const endpoints = new Map(last === undefined ? [] : [[id, last] as const]);
        const program = { settings: DEFAULT_SETTINGS, sets: new Map(), policies, endpoints, routes: new Map() };
        const delta = {
          sets: new Map(),
          members: new Map(),
          policies,
          endpoints: new Map([[id, last]]),
          routes: new Map(),
        };
        for (const [rowId, owned] of lowering.lower(program, delta).rows)
          if (owned === undefined) rows.delete(rowId);
          else rows.set(rowId, owned.row);
        const fresh = new NftablesLowering().lower(program, delta).rows;
        const expected = [...fresh].flatMap(([rowId, owned]) =>
          owned === undefined ? [] : [[rowId, owned.row] as const],
        );
        expect([...rows.keys()].sort()).toEqual(expected.map(([rowId]) => rowId).sort());
        expect(rows).toEqual(new Map(expected));
      }
    }),
  );
});
