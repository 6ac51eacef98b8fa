/** Tables: the current program, changed in place once per flush; passes on only rows that differ from what was there. */
import { equal } from "../lib/equal.ts";
import type { Policy, PolicyId, SetId, SetMembers } from "../program/policy.ts";
import type { Delta, Endpoint, EndpointId, Program, ProgramDelta, Settings } from "../program/program.ts";
import type { Route, RouteId } from "../program/route.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";
import type { SetsDelta } from "./sets.ts";

export interface Changes {
  readonly sets: SetsDelta;
  readonly policies: Delta<PolicyId, Policy>;
  readonly endpoints: Delta<EndpointId, Endpoint>;
  readonly routes: Delta<RouteId, Route>;
  readonly settings: Settings;
}

export class Tables implements Program {
  settings = DEFAULT_SETTINGS;
  readonly sets = new Map<SetId, SetMembers>();
  readonly policies = new Map<PolicyId, Policy>();
  readonly endpoints = new Map<EndpointId, Endpoint>();
  readonly routes = new Map<RouteId, Route>();

  apply(changes: Changes): ProgramDelta {
    // Sets change in place and arrive only when they changed: there is no earlier state to compare with.
    for (const [id, members] of changes.sets.sets) write(this.sets, id, members);
    const isNew = changes.settings !== this.settings;
    this.settings = changes.settings;
    return {
      ...(isNew ? { settings: changes.settings } : {}),
      sets: changes.sets.sets,
      members: changes.sets.members,
      policies: applyTable(this.policies, changes.policies),
      endpoints: applyTable(this.endpoints, changes.endpoints, sameEndpoint),
      routes: applyTable(this.routes, changes.routes),
    };
  }
}

/** Stages that are equal are the same object. */
function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return (
    a.stages === b.stages &&
    a.staged === b.staged &&
    a.kind === b.kind &&
    equal(a.addresses, b.addresses) &&
    equal(a.sources, b.sources) &&
    equal(a.source, b.source)
  );
}

function applyTable<K, V>(
  table: Map<K, V>,
  changes: Delta<K, V>,
  isSame: (a: V, b: V) => boolean = equal,
): Delta<K, V> {
  const real = new Map<K, V | undefined>();
  for (const [key, value] of changes) {
    const before = table.get(key);
    if (value === undefined ? before === undefined : before !== undefined && isSame(before, value)) continue;
    write(table, key, value);
    real.set(key, value);
  }
  return real;
}

function write<K, V>(table: Map<K, V>, key: K, value: V | undefined): void {
  if (value === undefined) table.delete(key);
  else table.set(key, value);
}
