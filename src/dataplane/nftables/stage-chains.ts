/**
 * stage-chains: what one stage of an endpoint becomes: a chain for each tier, the first of which is the endpoint's own, and one for the
 * profiles and the end where a packet can get there.
 */
import type { Expr, NftRule } from "../../kernel/nftables/objects.ts";
import type { Direction } from "../../model/policy.ts";
import type { Policy, PolicyId, Stage } from "../../program/policy.ts";
import { clearMarks, hasMark } from "./marks.ts";
import type { Continuation } from "../uses.ts";
import { policyChain } from "./names.ts";
import { canPass, comment } from "./policy-chains.ts";

export interface StageContext {
  readonly direction: Direction;
  readonly continuation: Continuation;
  /** Name of the chain of tier i; the profiles have the number after the last tier's. */
  readonly chain: (part: number) => string;
  readonly policyOf: (id: PolicyId) => Policy;
}

export function lowerStage(stage: Stage, context: StageContext): Map<string, NftRule[]> {
  const chains = new Map<string, NftRule[]>();
  const end = stage.tiers.length;
  let reached = true;
  for (const [i, tier] of stage.tiers.entries()) {
    if (!reached) break;
    const next = goTo(context.chain(i + 1));
    const last: NftRule =
      tier.otherwise === "pass"
        ? { expressions: next, comment: undefined }
        : dropped(`${context.direction} no rule of tier ${tier.tier} matched`);
    chains.set(context.chain(i), [...runPolicies(tier.policies, next, context), last]);
    reached = tier.otherwise === "pass" || tier.policies.some((id) => callOf(id, context).passes);
  }
  if (reached) chains.set(context.chain(end), lowerEnd(stage, context));
  const first = chains.get(context.chain(0)) ?? [];
  if (readsMarks(stage, context)) first.unshift({ expressions: clearMarks(), comment: undefined });
  return chains;
}

/** A mark that somebody else has set must not count as a decision of ours. */
function readsMarks(stage: Stage, context: StageContext): boolean {
  const ids = [...stage.tiers.flatMap((tier) => tier.policies), ...stage.profiles];
  return ids.length > 0 && (context.continuation === "continue" || ids.some((id) => callOf(id, context).passes));
}

/** Asks the policies one after the other; one that decides ends the stage, one that passes goes on with `next`. */
function runPolicies(ids: readonly PolicyId[], next: readonly Expr[], context: StageContext): NftRule[] {
  return ids.flatMap((id) => {
    const { rules, passes } = callOf(id, context);
    return passes
      ? [...rules, { expressions: [...hasMark("passed"), ...clearMarks(), ...next], comment: undefined }]
      : rules;
  });
}

/** How a policy is asked, wherever it is: the same rules for every stage. */
interface Call {
  readonly rules: readonly NftRule[];
  /** Whether it can pass. */
  readonly passes: boolean;
}

const CALLS = new WeakMap<Policy, Map<string, Call>>();

function callOf(id: PolicyId, { direction, continuation, policyOf }: StageContext): Call {
  const policy = policyOf(id);
  let calls = CALLS.get(policy);
  if (calls === undefined) CALLS.set(policy, (calls = new Map()));
  const use = `${direction} ${continuation}`;
  const known = calls.get(use);
  if (known !== undefined) return known;
  const chain = policyChain(id, direction, continuation);
  const rules: NftRule[] = [{ expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment: undefined }];
  if (continuation === "continue")
    rules.push({
      expressions: [...hasMark("allowed"), ...clearMarks(), { op: "verdict", verdict: { type: "return" } }],
      comment: undefined,
    });
  const call = { rules, passes: canPass(policy, direction) };
  calls.set(use, call);
  return call;
}

function lowerEnd(stage: Stage, context: StageContext): NftRule[] {
  const { direction, continuation } = context;
  const isPlain = stage.tiers.length === 0 && stage.profiles.length === 0;
  const end: NftRule =
    stage.otherwise === "deny"
      ? dropped(`${direction} end`)
      : {
          expressions: [{ op: "counter" }, ...allowedAtEnd(continuation)],
          comment: `${direction} ${isPlain ? "not isolated" : "end"}`,
        };
  // A profile that passes leaves nothing to ask.
  const rest = end.expressions.filter((expr) => expr.op !== "counter");
  return [...runPolicies(stage.profiles, rest.length === 0 ? RETURN : rest, context), end];
}

const RETURN: readonly Expr[] = [{ op: "verdict", verdict: { type: "return" } }];

/** A chain that ends goes back to whoever jumped to it. What no rule allowed is tracked as everything else is. */
function allowedAtEnd(continuation: Continuation): Expr[] {
  return continuation === "accept" ? [{ op: "verdict", verdict: { type: "accept" } }] : [];
}

function goTo(chain: string): Expr[] {
  return [{ op: "verdict", verdict: { type: "goto", chain } }];
}

function dropped(text: string): NftRule {
  return { expressions: [{ op: "counter" }, { op: "verdict", verdict: { type: "drop" } }], comment: comment(text) };
}
