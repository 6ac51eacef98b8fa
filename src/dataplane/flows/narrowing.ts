/**
 * Narrowing: whether a change of the program can deny something that was allowed. When it cannot be told, it can.
 *
 * Pure but for its own index of the program, so that the work is proportional to the change. A rule that allows narrows when it matches
 * less, one that denies when it matches more; of one that passes nothing is known.
 */
import { equal } from "../../lib/equal.ts";
import { isStagedKey } from "../../model/kinds/staged.ts";
import type { Clause, Policy, PolicyId, Rule, SetId } from "../../program/policy.ts";
import {
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  type MemberChange,
  type ProgramDelta,
  stagesOf,
} from "../../program/program.ts";

/** What a new member of a set may do, and one that is gone, by the rules that name it: true when it may deny. */
interface SetUse {
  readonly set: SetId;
  readonly added: boolean;
  readonly removed: boolean;
}

interface Known {
  readonly policy: Policy;
  readonly uses: readonly SetUse[];
  readonly looksAtSourcePorts: boolean;
}

/** How many rules narrow. */
interface Counts {
  added: number;
  removed: number;
  rules: number;
}

export class Narrowing {
  readonly #endpoints = new Map<EndpointId, Endpoint>();
  readonly #policies = new Map<PolicyId, Known>();
  readonly #sets = new Map<SetId, Counts>();
  #bySourcePort = 0;

  /** Whether a rule does, of whatever policy. */
  get looksAtSourcePorts(): boolean {
    return this.#bySourcePort > 0;
  }

  /** Takes a change in; true when it may deny. */
  take(delta: ProgramDelta): boolean {
    // Sets first, as the rules were that named them: a rule that changes is looked at itself.
    const narrows = [
      [...delta.sets.keys()].some((id) => this.#setNarrows(id, delta.members.get(id))),
      delta.settings !== undefined,
    ];
    for (const [id, policy] of delta.policies)
      narrows.push(this.#takePolicy(id, policy !== undefined && isStagedKey(policy.source) ? undefined : policy));
    for (const [id, endpoint] of delta.endpoints) narrows.push(this.#takeEndpoint(id, endpoint));
    return narrows.includes(true);
  }

  #setNarrows(id: SetId, members: MemberChange | undefined): boolean {
    const counts = this.#sets.get(id);
    if (counts === undefined) return false;
    // It came, it went, or it is of another type.
    if (members === undefined) return true;
    return (counts.added > 0 && members.added.length > 0) || (counts.removed > 0 && members.removed.length > 0);
  }

  /** A policy that comes or goes is also a change of the endpoints that name it, or not. */
  #takePolicy(id: PolicyId, policy: Policy | undefined): boolean {
    const before = this.#policies.get(id);
    for (const use of before?.uses ?? []) this.#count(use, -1);
    if (before?.looksAtSourcePorts === true) this.#bySourcePort--;
    this.#policies.delete(id);
    if (policy === undefined) return false;
    const uses = usesOf(policy);
    for (const use of uses) this.#count(use, 1);
    const looksAtSourcePorts = rulesOf(policy).some(namesSourcePort);
    if (looksAtSourcePorts) this.#bySourcePort++;
    this.#policies.set(id, { policy, uses, looksAtSourcePorts });
    if (before === undefined) return false;
    return DIRECTIONS.some((direction) => !allowsNoLess(before.policy[direction] ?? [], policy[direction] ?? []));
  }

  #count({ set, added, removed }: SetUse, by: 1 | -1): void {
    const counts = this.#sets.get(set) ?? { added: 0, removed: 0, rules: 0 };
    counts.rules += by;
    if (added) counts.added += by;
    if (removed) counts.removed += by;
    if (counts.rules === 0) this.#sets.delete(set);
    else this.#sets.set(set, counts);
  }

  /** A host endpoint that is gone may leave its interface to the one of every interface. */
  #takeEndpoint(id: EndpointId, endpoint: Endpoint | undefined): boolean {
    const before = this.#endpoints.get(id);
    if (endpoint === undefined) {
      this.#endpoints.delete(id);
      return before?.kind === "host";
    }
    this.#endpoints.set(id, endpoint);
    if (endpoint.kind === "host") return !equal(decidingOf(before), decidingOf(endpoint));
    // Flows of an address that comes anew are as new as the address: DEL has ended those of an earlier holder.
    if (before === undefined || before.kind === "host" || before.addresses.length === 0) return false;
    return stagesOf(endpoint).some(({ hook, direction, stage }) => {
      const isOpen = stage.otherwise === "allow" && stage.tiers.length === 0 && stage.profiles.length === 0;
      const old = before.stages[hook]?.[direction];
      return !isOpen && old !== stage && !equal(old, stage);
    });
  }
}

/** What is asked to count alone denies nothing. */
function decidingOf(endpoint: Endpoint | undefined): Endpoint | undefined {
  if (endpoint?.staged === undefined) return endpoint;
  const { staged: _, ...deciding } = endpoint;
  return deciding;
}

/** Whether the second list allows all that the first did: rules that allow came or match more, rules that deny went or match less. */
function allowsNoLess(before: readonly Rule[], now: readonly Rule[]): boolean {
  let at = 0;
  for (const rule of now) {
    while (at < before.length && !isNoLess(before[at], rule) && isAction(before[at], "deny")) at++;
    if (at < before.length && isNoLess(before[at], rule)) at++;
    else if (!isAction(rule, "allow")) return false;
  }
  return before.slice(at).every((rule) => isAction(rule, "deny"));
}

/** Rules that log change nothing. */
function isAction(rule: Rule | undefined, action: "allow" | "deny"): boolean {
  return rule?.action === action || rule?.action === "log";
}

/** Whether the rule in its place allows all that the other did. */
function isNoLess(before: Rule | undefined, now: Rule): boolean {
  if (before?.action !== now.action || before.when.length !== now.when.length) return false;
  if (equal(before.when, now.when)) return true;
  if (now.action !== "allow" && now.action !== "deny") return false;
  const [small, large] = now.action === "allow" ? [before, now] : [now, before];
  return small.when.every((clause, i) => {
    const other = large.when[i];
    if (other === undefined || clause.not !== other.not) return false;
    return clause.not ? hasAll(clause, other) : hasAll(other, clause);
  });
}

/** Whether the first clause has all atoms of the second. */
function hasAll(first: Clause, second: Clause): boolean {
  const atoms = new Set(first.any.map((atom) => JSON.stringify(atom)));
  return second.any.every((atom) => atoms.has(JSON.stringify(atom)));
}

function rulesOf({ ingress = [], egress = [] }: Policy): readonly Rule[] {
  return [...ingress, ...egress];
}

function namesSourcePort({ when }: Rule): boolean {
  return when.some(({ any }) =>
    any.some((atom) => (atom.on === "ports" || atom.on === "named-port") && atom.side === "source"),
  );
}

function usesOf(policy: Policy): readonly SetUse[] {
  return rulesOf(policy).flatMap((rule) => rule.when.flatMap((clause) => usesIn(rule, clause)));
}

function usesIn({ action }: Rule, { not, any }: Clause): readonly SetUse[] {
  if (action === "log") return [];
  return any.flatMap((atom) => {
    if (atom.on !== "set" && atom.on !== "named-port") return [];
    // One more member: the rule matches more, or less where it is negated.
    const added = action === "pass" || (action === "deny") !== not;
    const removed = action === "pass" || (action === "allow") !== not;
    return [{ set: atom.set, added, removed }];
  });
}
