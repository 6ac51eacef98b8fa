/**
 * stage-chains: what one stage of an endpoint becomes: a chain for each tier, the first of which is the endpoint's own, and one for the
 * profiles and the end where a packet can get there.
 */
import type { Expr, NftRule } from "../../kernel/nftables/objects.ts";
import type { Direction } from "../../model/policy.ts";
import type { Policy, PolicyId, Stage } from "../../program/policy.ts";
import { clearMarks, hasMark } from "./marks.ts";
import { type Continuation, policyChain } from "./names.ts";
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
  const calls = callsOf(context);
  const tiers = stage.tiers.map((tier) => ({ ...tier, calls: tier.policies.map(calls) }));
  const profiles = stage.profiles.map(calls);
  let reached = true;
  for (const [i, tier] of tiers.entries()) {
    if (!reached) break;
    const next = goTo(context.chain(i + 1));
    const last: NftRule =
      tier.otherwise === "pass"
        ? { expressions: next, comment: undefined }
        : dropped(`${context.direction} no rule of tier ${tier.tier} matched`);
    chains.set(context.chain(i), [...runPolicies(tier.calls, next), last]);
    reached = tier.otherwise === "pass" || tier.calls.some(({ passes }) => passes);
  }
  if (reached) chains.set(context.chain(end), lowerEnd(stage, profiles, context));
  const first = chains.get(context.chain(0)) ?? [];
  if (readsMarks([...tiers.flatMap((tier) => tier.calls), ...profiles], context))
    first.unshift({ expressions: clearMarks(), comment: undefined });
  return chains;
}

/** A mark that somebody else has set must not count as a decision of ours. */
function readsMarks(calls: readonly Call[], { continuation }: StageContext): boolean {
  return calls.length > 0 && (continuation === "continue" || calls.some(({ passes }) => passes));
}

/** Asks the policies one after the other; one that decides ends the stage, one that passes goes on with `next`. */
function runPolicies(calls: readonly Call[], next: readonly Expr[]): NftRule[] {
  return calls.flatMap(({ rules, passes }) =>
    passes ? [...rules, { expressions: [...hasMark("passed"), ...clearMarks(), ...next], comment: undefined }] : rules,
  );
}

/** How a policy is asked, wherever it is: the same rules for every stage. */
interface Call {
  readonly rules: readonly NftRule[];
  /** Whether it can pass. */
  readonly passes: boolean;
}

const CALLS = new WeakMap<Policy, Map<string, Call>>();

function callsOf({ direction, continuation, policyOf }: StageContext): (id: PolicyId) => Call {
  const use = `${direction} ${continuation}`;
  return (id) => {
    const policy = policyOf(id);
    let calls = CALLS.get(policy);
    if (calls === undefined) CALLS.set(policy, (calls = new Map()));
    let call = calls.get(use);
    if (call === undefined) calls.set(use, (call = makeCall(id, policy, direction, continuation)));
    return call;
  };
}

function makeCall(id: PolicyId, policy: Policy, direction: Direction, continuation: Continuation): Call {
  const chain = policyChain(id, direction, continuation);
  const rules: NftRule[] = [{ expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment: undefined }];
  if (continuation === "continue")
    rules.push({
      expressions: [...hasMark("allowed"), ...clearMarks(), { op: "verdict", verdict: { type: "return" } }],
      comment: undefined,
    });
  return { rules, passes: canPass(policy, direction) };
}

function lowerEnd(stage: Stage, profiles: readonly Call[], context: StageContext): NftRule[] {
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
  return [...runPolicies(profiles, rest.length === 0 ? RETURN : rest), end];
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
