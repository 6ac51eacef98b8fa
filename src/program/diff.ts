/** Diff: the change that turns one program into another, found by comparing everything: for tests, start of day and people. */
import { equal } from "../lib/equal.ts";
import type { SetId, SetMembers } from "./policy.ts";
import type { Delta, MemberChange, Program, ProgramDelta } from "./program.ts";

export function diffPrograms(before: Program, after: Program): ProgramDelta {
  const sets = diffTable(before.sets, after.sets, sameMembers);
  const members = new Map<SetId, MemberChange>();
  for (const [id, now] of sets) {
    const old = before.sets.get(id);
    if (now === undefined || old === undefined || now.type === "ranges" || old.type !== now.type) continue;
    members.set(id, diffMembers(old.members, now.members));
  }
  return {
    sets,
    members,
    policies: diffTable(before.policies, after.policies, equal),
    endpoints: diffTable(before.endpoints, after.endpoints, equal),
    routes: diffTable(before.routes, after.routes, equal),
  };
}

export function isEmptyDelta(delta: ProgramDelta): boolean {
  return delta.sets.size + delta.policies.size + delta.endpoints.size + delta.routes.size === 0;
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
  if (a.type === "ranges" || b.type === "ranges") return equal(a, b);
  if (a.type !== b.type || a.members.size !== b.members.size) return false;
  const members: ReadonlySet<string> = b.members;
  return [...a.members].every((member) => members.has(member));
}

function diffMembers(before: ReadonlySet<string>, after: ReadonlySet<string>): MemberChange {
  return {
    added: [...after].filter((member) => !before.has(member)),
    removed: [...before].filter((member) => !after.has(member)),
  };
}
