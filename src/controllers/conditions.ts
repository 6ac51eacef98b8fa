/**
 * conditions: what a policy's status says, from the policy itself and from what the nodes say of it: `Accepted`, and for kinds that are
 * enforced `Programmed`.
 */
import { isReportedKey } from "../model/kinds/node-policy-status.ts";
import type { Condition, PolicyFacts } from "./acceptance.ts";

/** Names of nodes, by what they say of one policy. A node that has seen it and selects nothing with it is in none. */
export interface Tally {
  /** How many nodes say anything. */
  readonly nodes: number;
  readonly programmed: number;
  /** With the reason. */
  readonly refused: readonly { readonly node: string; readonly reason: string }[];
  /** They have not seen it yet, or the kernel does not have it yet. */
  readonly pending: readonly string[];
  /** Their policies are too many to be listed. */
  readonly silent: readonly string[];
}

type Finding = Pick<Condition, "status" | "reason" | "message">;

/** Names of nodes in a message. */
const MOST_NAMES = 3;

/**
 * All conditions of the policy as they should be, others' included; undefined when they are stored so. The time of a condition is since when
 * it holds of this generation.
 */
export function conditionsOf(
  policy: PolicyFacts,
  tally: Tally,
  { tierExists, now }: { readonly tierExists: boolean; readonly now: string },
): readonly Condition[] | undefined {
  const findings: (readonly [string, Finding])[] = [["Accepted", accepted(policy, tierExists)]];
  if (isReportedKey(policy.key)) findings.push(["Programmed", programmed(policy, tally)]);
  const next = [...policy.conditions];
  let isNew = false;
  for (const [type, finding] of findings) {
    const at = next.findIndex((condition) => condition.type === type);
    const before = next[at];
    const isOfGeneration = before?.observedGeneration === policy.generation;
    const { status, reason, message } = finding;
    if (isOfGeneration && before.status === status && before.reason === reason && before.message === message) continue;
    const lastTransitionTime = isOfGeneration && before.status === status ? before.lastTransitionTime : now;
    const condition = { type, ...finding, observedGeneration: policy.generation, lastTransitionTime };
    next.splice(at < 0 ? next.length : at, 1, condition);
    isNew = true;
  }
  return isNew ? next : undefined;
}

function accepted({ key, error, inPart, tier }: PolicyFacts, tierExists: boolean): Finding {
  const isEnforced = isReportedKey(key);
  if (error !== undefined) {
    const effect = isEnforced ? "It denies everything to and from what it selects: " : "";
    return { status: "False", reason: "Invalid", message: `${effect}${error}` };
  }
  if (!tierExists) {
    const effect = isEnforced ? "; the policy comes after all other tiers" : "";
    return { status: "False", reason: "TierNotFound", message: `There is no tier ${JSON.stringify(tier)}${effect}` };
  }
  if (inPart !== undefined) return { status: "True", reason: "EnforcedInPart", message: inPart };
  return { status: "True", reason: "Valid", message: "The policy is valid" };
}

function programmed({ error }: PolicyFacts, { nodes, programmed: count, refused, pending, silent }: Tally): Finding {
  const on = `on ${count} of ${count + refused.length + pending.length} nodes`;
  if (nodes === 0) return { status: "Unknown", reason: "NoNodes", message: "No node has said what it has programmed" };
  if (error !== undefined)
    return { status: "False", reason: "NotAccepted", message: `programmed ${on} as a policy that denies everything` };
  const [first] = refused;
  if (first !== undefined) {
    const names = listed(refused.map(({ node }) => node));
    return { status: "False", reason: "Refused", message: `programmed ${on}; refused by ${names}: ${first.reason}` };
  }
  if (pending.length > 0)
    return { status: "False", reason: "Pending", message: `programmed ${on}; not known yet of ${listed(pending)}` };
  if (silent.length > 0)
    return { status: "Unknown", reason: "TooMany", message: `too many policies to be listed by ${listed(silent)}` };
  if (count === 0) return { status: "True", reason: "Programmed", message: "selects no endpoint on any node" };
  return { status: "True", reason: "Programmed", message: `programmed ${on}` };
}

function listed(nodes: readonly string[]): string {
  const sorted = [...nodes].sort();
  const more = sorted.length - MOST_NAMES;
  return `${sorted.slice(0, MOST_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
