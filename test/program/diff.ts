/** Diff: the change that turns one program into another, found by comparing everything: the oracle of what the graph reports. */
import { equal } from "../../src/lib/equal.ts";
import type { SetId, SetMembers } from "../../src/program/policy.ts";
import type { Delta, MemberChange, Program, ProgramDelta } from "../../src/program/program.ts";

export function diffPrograms(before: Tables, after: Tables): ProgramDelta {
  const sets = diffTable(before.sets, after.sets, sameMembers);
  const members = new Map<SetId, MemberChange>();
  for (const [id, now] of sets) {
    const old = before.sets.get(id);
    if (now === undefined || old === undefined || now.type === "nets" || old.type !== now.type) continue;
    members.set(id, diffMembers(membersOf(old), membersOf(now)));
  }
  return {
    sets,
    members,
    policies: diffTable(before.policies, after.policies, equal),
    endpoints: diffTable(before.endpoints, after.endpoints, equal),
    routes: diffTable(before.routes, after.routes, equal),
  };
}

export type Tables = Omit<Program, "settings">;

export function isEmptyDelta(delta: ProgramDelta): boolean {
  return delta.sets.size + delta.policies.size + delta.endpoints.size + delta.routes.size === 0;
}

/** The members of a set by their text, which says what each is. */
export function membersOf(set: SetMembers): ReadonlySet<string> {
  switch (set.type) {
    case "address":
      return new Set([...set.hosts, ...set.nets]);
    case "nets":
      return set.nets;
    case "address-port":
      return set.members;
  }
}

function diffTable<K, V>(
  before: ReadonlyMap<K, V>,
  after: ReadonlyMap<K, V>,
  same: (a: V, b: V) => boolean,
): Delta<K, V> {
  const delta = new Map<K, V | undefined>();
  for (const key of before.keys()) if (!after.has(key)) delta.set(key, undefined);
  for (const [key, value] of after) {
    const old = before.get(key);
    if (old === undefined || !same(old, value)) delta.set(key, value);
  }
  return delta;
}

function sameMembers(a: SetMembers, b: SetMembers): boolean {
  const [left, right] = [membersOf(a), membersOf(b)];
  return a.type === b.type && left.size === right.size && [...left].every((member) => right.has(member));
}

function diffMembers(before: ReadonlySet<string>, after: ReadonlySet<string>): MemberChange {
  return {
    added: [...after].filter((member) => !before.has(member)),
    removed: [...before].filter((member) => !after.has(member)),
  };
}
