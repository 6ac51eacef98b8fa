/**
 * stage-chains: what one stage of an endpoint becomes: a chain for each tier, the first of which is the endpoint's own, and one for the
 * profiles and the end where a packet can get there.
 */
import { makeRule, type Match, type Rule, type Target } from "../../kernel/iptables/rule.ts";
import type { Direction } from "../../model/policy.ts";
import type { Policy, PolicyId, Stage } from "../../program/policy.ts";
import { policiesNamedBy } from "../../program/program.ts";
import type { Continuation } from "../uses.ts";
import { canPass, comment } from "../nftables/policy-chains.ts";
import { CLEAR, hasMark } from "./marks.ts";
import { CLEAR_CHAIN, policyChain } from "./names.ts";
import { ACCEPT, DROP } from "./policy-chains.ts";

export interface StageContext {
  readonly direction: Direction;
  readonly continuation: Continuation;
  /** Name of the chain of tier i; the profiles have the number after the last tier's. */
  readonly chain: (part: number) => string;
  readonly policyOf: (id: PolicyId) => Policy;
}

const ANY: Match = {};
/** Back to the base chain, with clean marks. */
const LEAVE: Target = { do: "goto", chain: CLEAR_CHAIN };

/** A stage, and before it what is asked to count alone; at least one of them is there. */
export function lowerPlace(
  stage: Stage | undefined,
  staged: Stage | undefined,
  context: StageContext,
  stagedChain: StageContext["chain"],
): ReadonlyMap<string, readonly Rule[]> {
  const chains = new Map<string, readonly Rule[]>(
    stage === undefined ? [[context.chain(0), []]] : lowerStage(stage, context),
  );
  if (staged === undefined) return chains;
  const first = chains.get(context.chain(0)) ?? [];
  const clear = makeRule(ANY, CLEAR);
  const ask = makeRule(ANY, { do: "jump", chain: stagedChain(0) });
  chains.set(context.chain(0), [ask, ...(first[0]?.text === clear.text ? [] : [clear]), ...first]);
  for (const [name, rules] of lowerStage(staged, { ...context, continuation: "staged", chain: stagedChain }))
    chains.set(name, rules);
  return chains;
}

function lowerStage(stage: Stage, context: StageContext): ReadonlyMap<string, readonly Rule[]> {
  const denied = context.continuation === "staged" ? LEAVE : DROP;
  const chains = new Map<string, readonly Rule[]>();
  const end = stage.tiers.length;
  // A mark that somebody else has set must not count as a decision of ours.
  let begin = policiesNamedBy(stage).length > 0 ? [makeRule(ANY, CLEAR)] : [];
  let reached = true;
  for (const [i, tier] of stage.tiers.entries()) {
    if (!reached) break;
    const next: Target = { do: "goto", chain: context.chain(i + 1) };
    const last =
      tier.otherwise === "pass"
        ? makeRule(ANY, next)
        : makeRule(ANY, denied, comment(`${context.direction} no rule of tier ${tier.tier} matched`));
    chains.set(context.chain(i), [...begin, ...runPolicies(tier.policies, next, context), last]);
    const passes = tier.policies.some((id) => canPass(context.policyOf(id), context.direction));
    begin = passes ? [makeRule(ANY, CLEAR)] : [];
    reached = tier.otherwise === "pass" || passes;
  }
  if (reached) chains.set(context.chain(end), [...begin, ...lowerEnd(stage, context)]);
  return chains;
}

/** Asks the policies one after the other; one that decides ends the stage, one that passes goes on with `next`. */
function runPolicies(ids: readonly PolicyId[], next: Target, context: StageContext): Rule[] {
  const { direction, continuation, policyOf } = context;
  return ids.flatMap((id) => {
    const rules = [makeRule(ANY, { do: "jump", chain: policyChain(id, direction, continuation) })];
    if (continuation === "continue" || continuation === "staged") rules.push(makeRule(hasMark("allowed"), LEAVE));
    if (canPass(policyOf(id), direction)) rules.push(makeRule(hasMark("passed"), next));
    return rules;
  });
}

/** A profile that passes leaves nothing to ask. */
function lowerEnd(stage: Stage, context: StageContext): Rule[] {
  const { direction, continuation } = context;
  const isPlain = stage.tiers.length === 0 && stage.profiles.length === 0;
  const isDenied = stage.otherwise === "deny";
  const words = isPlain && !isDenied ? "not isolated" : "end";
  // A chain that ends goes back to whoever jumped to it. What no rule allowed is tracked as everything else is.
  const action =
    continuation === "staged" ? undefined : isDenied ? DROP : continuation === "accept" ? ACCEPT : undefined;
  return [...runPolicies(stage.profiles, action ?? LEAVE, context), makeRule(ANY, action, `${direction} ${words}`)];
}
