/** uses: in which ways the stages of endpoints use a policy, which decides what it is compiled to. */
import type { Direction, Hook } from "../model/policy.ts";
import { allowedAt } from "../program/path.ts";
import type { PolicyId } from "../program/policy.ts";
import {
  changedNames,
  type ChangedStage,
  DIRECTIONS,
  type Endpoint,
  policiesNamedBy,
  stagedOf,
  stagesOf,
} from "../program/program.ts";

/**
 * What *allowed* means at a stage: the hook ends with it (`accept`), the caller goes on to the next step of the path (`continue`), or the
 * packet is not tracked and this hook ends (`untracked`). `staged`: the stage is asked to count alone, and nothing follows, whatever it says.
 */
export type Continuation = "accept" | "continue" | "untracked" | "staged";

/** One way in which a policy is used. */
export interface Use {
  readonly direction: Direction;
  readonly continuation: Continuation;
}

type Allowed = ReturnType<typeof allowedAt>;

/** Looked up once for each stage that there can be. */
const ALLOWED: { readonly [K in Endpoint["kind"]]: { [H in Hook]?: { [D in Direction]?: Allowed } } } = {
  workload: {},
  host: {},
};

/** What *allowed* means at the stage. */
export function continuationOf(
  kind: Endpoint["kind"],
  hook: Hook,
  direction: Direction,
): Exclude<Continuation, "staged"> {
  if (hook === "untracked") return "untracked";
  const known = (ALLOWED[kind][hook] ??= {});
  return (known[direction] ??= allowedAt(kind, hook, direction));
}

const CONTINUATIONS: readonly Continuation[] = ["accept", "continue", "untracked", "staged"];
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

/** By stage that changed: the policies that it names and did not name before, and the other way round. */
export function changedUses(stages: readonly ChangedStage[]): ChangedUse[] {
  const changes: ChangedUse[] = [];
  for (const stage of stages) {
    const { kind, which, hook, direction } = stage;
    const { added: came, removed: went } = changedNames(stage.before, stage.now);
    const continuation = which === "staged" ? which : continuationOf(kind, hook, direction);
    if (came.length + went.length > 0) changes.push({ hook, use: { direction, continuation }, came, went });
  }
  return changes;
}

/** The policies that any stage of the endpoint names, staged ones too. */
export function namedBy(endpoint: Endpoint | undefined): ReadonlySet<PolicyId> {
  const names = new Set<PolicyId>();
  if (endpoint === undefined) return names;
  for (const places of [stagesOf(endpoint), stagedOf(endpoint)])
    for (const { stage } of places) for (const name of policiesNamedBy(stage)) names.add(name);
  return names;
}
