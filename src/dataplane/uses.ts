/** uses: in which ways the stages of endpoints use a policy, which decides what it is compiled to. */
import { differences } from "../lib/common-ends.ts";
import type { Direction, Hook } from "../model/policy.ts";
import { allowedAt } from "../program/path.ts";
import type { PolicyId, Stage } from "../program/policy.ts";
import { DIRECTIONS, type Endpoint, HOOKS, policiesNamedBy, stagesOf } from "../program/program.ts";

/**
 * What *allowed* means at a stage: the hook ends with it (`accept`), the caller goes on to the next step of the path (`continue`), or the
 * packet is not tracked and this hook ends (`untracked`).
 */
export type Continuation = "accept" | "continue" | "untracked";

/** One way in which a policy is used. */
export interface Use {
  readonly direction: Direction;
  readonly continuation: Continuation;
}

/** What *allowed* means at the stage. */
export function continuationOf(kind: Endpoint["kind"], hook: Hook, direction: Direction): Continuation {
  return hook === "untracked" ? "untracked" : allowedAt(kind, hook, direction);
}

const CONTINUATIONS: readonly Continuation[] = ["accept", "continue", "untracked"];
/** Every way in which a policy can be used. */
export const USES: readonly Use[] = DIRECTIONS.flatMap((direction) =>
  CONTINUATIONS.map((continuation) => ({ direction, continuation })),
);

/** Tells the uses of all policies apart. */
export function useKey(policy: PolicyId, { direction, continuation }: Use): string {
  return `${direction} ${continuation} ${policy}`;
}

export interface ChangedUse {
  readonly hook: Hook;
  readonly use: Use;
  readonly came: readonly PolicyId[];
  readonly went: readonly PolicyId[];
}

/** By stage: the policies that it names and did not name before, and the other way round. */
export function changedUses(before: Endpoint | undefined, now: Endpoint | undefined): ChangedUse[] {
  const changes: ChangedUse[] = [];
  const kinds = new Set([before?.kind, now?.kind]);
  for (const kind of kinds) {
    if (kind === undefined) continue;
    for (const hook of HOOKS)
      for (const direction of DIRECTIONS) {
        const old = before?.kind === kind ? before.stages[hook]?.[direction] : undefined;
        const current = now?.kind === kind ? now.stages[hook]?.[direction] : undefined;
        if (old === current) continue;
        const { added: came, removed: went } = differences(namesOf(old), namesOf(current));
        const use = { direction, continuation: continuationOf(kind, hook, direction) };
        if (came.length + went.length > 0) changes.push({ hook, use, came, went });
      }
  }
  return changes;
}

function namesOf(stage: Stage | undefined): readonly PolicyId[] {
  return stage === undefined ? [] : [...new Set(policiesNamedBy(stage))];
}

/** The policies that any stage of the endpoint names. */
export function namedBy(endpoint: Endpoint | undefined): ReadonlySet<PolicyId> {
  return new Set(endpoint === undefined ? [] : stagesOf(endpoint).flatMap(({ stage }) => policiesNamedBy(stage)));
}
