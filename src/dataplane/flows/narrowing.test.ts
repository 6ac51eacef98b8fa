import { expect, test } from "bun:test";
import type { Action } from "../../model/policy.ts";
import type { Addr } from "../../net/addr.ts";
import { TCP } from "../../net/protocol.ts";
import type { Atom, Policy, PolicyId, Rule, SetId, SetMembers, Stage } from "../../program/policy.ts";
import type { Endpoint, EndpointId, ProgramDelta } from "../../program/program.ts";
import { DEFAULT_SETTINGS } from "../../program/settings.ts";
import { Narrowing } from "./narrowing.ts";

const KEY = { kind: "NetworkPolicy", namespace: "a", name: "p" } as const;
const P = "p" as PolicyId;
const S = "s" as SetId;
const POD = "cali1" as EndpointId;

function delta(some: Partial<ProgramDelta>): ProgramDelta {
  const none = new Map<never, never>();
  return { sets: none, policies: none, endpoints: none, routes: none, members: none, ...some };
}

function rule(action: Action, atoms: readonly Atom[] = [], not = false): Rule {
  const when = atoms.length === 0 ? [] : [{ not, any: atoms }];
  return { id: { source: KEY, direction: "ingress", index: 0 }, when, action };
}

const port = (from: number): Atom => ({ on: "ports", side: "destination", protocol: TCP, from, to: from });
const inSet: Atom = { on: "set", side: "source", set: S };

function policies(...ingress: readonly Rule[]): Partial<ProgramDelta> {
  const policy: Policy = { source: KEY, tier: "default", ingress, egress: undefined, error: undefined };
  return { policies: new Map([[P, policy]]) };
}

const SOME: SetMembers = { type: "address", hosts: new Set(["10.0.0.1" as Addr]), nets: new Set() };

function members(added: readonly string[], removed: readonly string[]): Partial<ProgramDelta> {
  return { sets: new Map([[S, SOME]]), members: new Map([[S, { added, removed }]]) };
}

function stage(...names: readonly PolicyId[]): Stage {
  const tiers = names.length === 0 ? [] : [{ tier: "default", policies: names, otherwise: "deny" as const }];
  return { tiers, profiles: [], otherwise: "allow" };
}

function endpoints(kind: Endpoint["kind"], ingress: Stage, addresses = ["10.0.0.9"]): Partial<ProgramDelta> {
  const endpoint = { kind, source: KEY, addresses: addresses as Addr[], stages: { normal: { ingress } } };
  return { endpoints: new Map([[POD, endpoint]]) };
}

/** Whether the last of the changes may deny. */
function narrows(...changes: readonly Partial<ProgramDelta>[]): boolean {
  const narrowing = new Narrowing();
  return changes.map((change) => narrowing.take(delta(change))).at(-1) ?? false;
}

const [allow80, allow81, deny] = [rule("allow", [port(80)]), rule("allow", [port(81)]), rule("deny", [port(82)])];

test("rules: what only allows more, and what may deny", () => {
  const from = (...before: readonly Rule[]) => ({
    to: (...now: readonly Rule[]) => narrows(policies(...before), policies(...now)),
  });
  expect(from(allow80).to(allow80, allow81)).toBe(false);
  expect(from(allow80).to(allow81, allow80)).toBe(false);
  expect(from(deny, allow80).to(allow80)).toBe(false);
  expect(from(allow80, deny).to(allow81, allow80)).toBe(false);
  expect(from(allow80).to(allow80, rule("log"))).toBe(false);
  expect(from(allow80, allow81).to(allow80)).toBe(true);
  expect(from(allow80).to(allow81)).toBe(true);
  expect(from(allow80).to(deny, allow80)).toBe(true);
  expect(from(allow80, deny).to(deny, allow80)).toBe(true);
  expect(from(allow80).to(rule("pass"), allow80)).toBe(true);
  const both = [port(80), port(81)];
  expect(from(allow80).to(rule("allow", both))).toBe(false);
  expect(from(rule("allow", both)).to(allow80)).toBe(true);
  expect(from(rule("deny", both)).to(rule("deny", [port(80)]))).toBe(false);
  expect(from(rule("deny", [port(80)])).to(rule("deny", both))).toBe(true);
  expect(from(rule("allow", both, true)).to(rule("allow", [port(80)], true))).toBe(false);
  expect(from(rule("allow", [port(80)], true)).to(rule("allow", both, true))).toBe(true);
  expect(from(rule("pass", [port(80)])).to(rule("pass", both))).toBe(true);
});

test("members: by what the rules that name the set do with them", () => {
  const cases: readonly (readonly [Rule, boolean, boolean])[] = [
    [rule("allow", [inSet]), false, true],
    [rule("allow", [inSet], true), true, false],
    [rule("deny", [inSet]), true, false],
    [rule("deny", [inSet], true), false, true],
    [rule("pass", [inSet]), true, true],
    [rule("log", [inSet]), false, false],
    [allow80, false, false],
  ];
  for (const [each, added, removed] of cases) {
    expect(narrows(policies(each), members(["10.0.0.1"], []))).toBe(added);
    expect(narrows(policies(each), members([], ["10.0.0.1"]))).toBe(removed);
  }
  expect(narrows(policies(rule("allow", [inSet])), { sets: new Map([[S, undefined]]) })).toBe(true);
  expect(narrows(policies(rule("allow", [inSet])), { policies: new Map([[P, undefined]]) }, members([], ["x"]))).toBe(
    false,
  );
});

test("endpoints: a new pod has no flows yet; other stages may deny, and so may any change of a host endpoint", () => {
  const isolated = endpoints("workload", stage(P));
  expect(narrows(isolated)).toBe(false);
  expect(narrows(endpoints("workload", stage(), []), isolated)).toBe(false);
  expect(narrows(isolated, endpoints("workload", stage(P), ["10.0.0.9", "fd00::9"]))).toBe(false);
  expect(narrows(isolated, endpoints("workload", stage()))).toBe(false);
  expect(narrows(endpoints("workload", stage()), isolated)).toBe(true);
  expect(narrows(isolated, endpoints("workload", stage("q" as PolicyId)))).toBe(true);
  expect(narrows(isolated, { endpoints: new Map([[POD, undefined]]) })).toBe(false);
  expect(narrows(endpoints("host", stage()))).toBe(true);
  expect(narrows(endpoints("host", stage()), { endpoints: new Map([[POD, undefined]]) })).toBe(true);
  expect(narrows({ settings: DEFAULT_SETTINGS })).toBe(true);
});

test("staged policies deny nothing", () => {
  const source = { ...KEY, kind: "StagedNetworkPolicy" } as const;
  const staged = (...ingress: readonly Rule[]): Partial<ProgramDelta> => ({
    policies: new Map([[P, { source, tier: "default", ingress, egress: undefined, error: undefined }]]),
  });
  expect(narrows(policies(allow80), policies(deny))).toBe(true);
  expect(narrows(staged(allow80), staged(deny))).toBe(false);
  expect(narrows(staged(rule("allow", [inSet])), members([], ["10.0.0.1"]))).toBe(false);
  const host = { kind: "host", source: KEY, addresses: [], stages: { normal: { ingress: stage(P) } } } as const;
  const counting = { ...host, staged: { normal: { ingress: stage("q" as PolicyId) } } };
  expect(narrows({ endpoints: new Map([[POD, host]]) }, { endpoints: new Map([[POD, counting]]) })).toBe(false);
});

test("rules that look at source ports are counted", () => {
  const narrowing = new Narrowing();
  narrowing.take(delta(policies(rule("allow", [{ on: "ports", side: "source", protocol: TCP, from: 1, to: 2 }]))));
  expect(narrowing.looksAtSourcePorts).toBe(true);
  narrowing.take(delta(policies(allow80)));
  expect(narrowing.looksAtSourcePorts).toBe(false);
});
