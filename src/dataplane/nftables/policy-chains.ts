/** policy-chains: what a policy becomes: one chain for each direction and each thing that *allowed* means where it is used. */
import type { Expr, NftRule } from "../../kernel/nftables/objects.ts";
import { invariant } from "../../lib/bug.ts";
import { formatName } from "../../model/key.ts";
import type { Direction } from "../../model/policy.ts";
import type { Policy, Rule, SetId, SetMembers } from "../../program/policy.ts";
import { clearMarks, setMark } from "./marks.ts";
import { lowerMatch, type PortSet } from "./match.ts";

/**
 * What *allowed* means at a stage: the hook ends with it (`accept`), the caller goes on to the next step of the path (`continue`), or the
 * packet is not tracked and this hook ends (`untracked`).
 */
export type Continuation = "accept" | "continue" | "untracked";

export interface PolicyChain {
  readonly rules: readonly NftRule[];
  readonly portSets: ReadonlyMap<string, PortSet>;
}

/** undefined: the policy has no say in the direction. */
export function lowerPolicyChain(
  policy: Policy,
  direction: Direction,
  continuation: Continuation,
  sets: ReadonlyMap<SetId, SetMembers>,
): PolicyChain | undefined {
  const written = policy[direction];
  if (written === undefined) return undefined;
  const portSets = new Map<string, PortSet>();
  const rules: NftRule[] = [];
  const setOf = (id: SetId): SetMembers => {
    const set = sets.get(id);
    invariant(set !== undefined, `the program names set ${id} but has it not`);
    return set;
  };
  for (const rule of written) {
    for (const alternative of lowerMatch(rule, setOf)) {
      for (const [name, set] of alternative.portSets) portSets.set(name, set);
      rules.push({
        expressions: [...alternative.expressions, { op: "counter" }, ...lowerAction(rule, continuation)],
        comment: comment(`${rule.action} ${formatName(rule.id.source)} ${direction} rule ${rule.id.index + 1}`),
      });
    }
  }
  return { rules, portSets };
}

/** Whether a rule of the policy passes packets on to the next tier. */
export function canPass(policy: Policy, direction: Direction): boolean {
  return (policy[direction] ?? []).some((rule) => rule.action === "pass");
}

function lowerAction({ action }: Rule, continuation: Continuation): Expr[] {
  switch (action) {
    case "allow":
      return allowed(continuation);
    case "deny":
      return [{ op: "verdict", verdict: { type: "drop" } }];
    case "pass":
      return [...setMark("passed"), { op: "verdict", verdict: { type: "return" } }];
    case "log":
      return [{ op: "log", prefix: LOG_PREFIX }];
  }
}

/** Upstream: FELIX_LOGPREFIX. */
const LOG_PREFIX = "calico-packet: ";

function allowed(continuation: Continuation): Expr[] {
  switch (continuation) {
    case "accept":
      return [{ op: "verdict", verdict: { type: "accept" } }];
    case "continue":
      return [...setMark("allowed"), { op: "verdict", verdict: { type: "return" } }];
    case "untracked":
      return untracked();
  }
}

/** The mark tells the later hooks, which see a packet without connection, that policy has allowed it. */
export function untracked(): Expr[] {
  return [...clearMarks(), ...setMark("allowed"), { op: "notrack" }, { op: "verdict", verdict: { type: "accept" } }];
}

/** At most 128 bytes of UTF-8, the limit of nftables' comments; names are ASCII. */
export function comment(text: string): string {
  return text.length <= 127 ? text : `${text.slice(0, 60)}…${text.slice(-60)}`;
}
