/**
 * stage-chains: what one stage of an endpoint becomes: a chain that asks one tier after the other, each of which has its own, then the
 * profiles. So tiers that change places, come or go are a change of one chain. A tier that nothing can follow needs no chain of its own.
 */
import type { Expr, NftRule } from "../../kernel/nftables/objects.ts";
import { equal } from "../../lib/equal.ts";
import type { Direction } from "../../model/policy.ts";
import type { PolicyId, Stage } from "../../program/policy.ts";
import { clearMarks, hasMark, setMark } from "./marks.ts";
import type { Continuation } from "../uses.ts";
import { comment } from "./policy-chains.ts";

export interface StageContext {
  readonly direction: Direction;
  readonly continuation: Continuation;
  /** Name of the chain of the stage, or of a tier. */
  readonly chain: (tier?: string) => string;
  readonly callsOf: CallsOf;
}

/** How a policy is asked, wherever it is. */
export interface Call {
  readonly jump: NftRule;
  /** Whether it can pass. */
  readonly passes: boolean;
}

/** How policies are asked where they are used in that way. */
export type CallsOf = (direction: Direction, continuation: Continuation) => (id: PolicyId) => Call;

/** A stage, and before it what is asked to count alone; at least one of them is there. */
export function lowerPlace(
  stage: Stage | undefined,
  staged: Stage | undefined,
  context: StageContext,
  stagedChain: StageContext["chain"],
): Map<string, NftRule[]> {
  const chains = stage === undefined ? new Map([[context.chain(), []]]) : lowerStage(stage, context);
  if (staged === undefined) return chains;
  const first = chains.get(context.chain()) ?? [];
  const clear: NftRule = { expressions: clearMarks(), comment: undefined };
  chains.set(context.chain(), [jumpTo(stagedChain()), ...(equal(first[0], clear) ? [] : [clear]), ...first]);
  for (const [name, rules] of lowerStage(staged, { ...context, continuation: "staged", chain: stagedChain }))
    chains.set(name, rules);
  return chains;
}

function lowerStage(stage: Stage, context: StageContext): Map<string, NftRule[]> {
  const { direction, continuation, chain } = context;
  const isByMark = continuation === "continue" || continuation === "staged";
  const closing = continuation === "staged" ? decidedWithoutEffect : dropped;
  const calls = context.callsOf(direction, continuation);
  const all = stage.tiers.map(({ tier, otherwise, policies }) => ({ tier, otherwise, calls: policies.map(calls) }));
  const profiles = stage.profiles.map(calls);
  const last = all.findIndex((tier) => tier.otherwise === "deny" && !tier.calls.some(({ passes }) => passes));
  const tiers = last < 0 ? all : all.slice(0, last + 1);
  const marks = (rule: NftRule): NftRule[] => (isByMark ? [rule] : []);
  const first: NftRule[] = [];
  if (readsMarks([...tiers.map((tier) => tier.calls), profiles], context))
    first.push({ expressions: clearMarks(), comment: undefined });
  const chains = new Map([[chain(), first]]);
  for (const tier of tiers) {
    const end = tier.otherwise === "pass" ? [] : [closing(`${direction} no rule of tier ${tier.tier} matched`)];
    if (last === 0) first.push(...runPolicies(tier.calls, PASSED, marks(ALLOWED)), ...end);
    else {
      chains.set(chain(tier.tier), [...runPolicies(tier.calls, PASSED, marks(ALLOWED_IN_TIER)), ...end]);
      first.push(jumpTo(chain(tier.tier)), ...marks(ALLOWED));
    }
  }
  if (last < 0) {
    const end = lowerEnd(stage, context);
    // A profile that passes leaves nothing to ask.
    const rest = end.expressions.filter(({ op }) => op !== "counter");
    first.push(...runPolicies(profiles, rest.length === 0 ? PASSED : passedTo(rest), marks(ALLOWED)), end);
  }
  return chains;
}

const RETURN: readonly Expr[] = [{ op: "verdict", verdict: { type: "return" } }];
/** After whatever may have allowed by a mark: the stage ends. In a tier's own chain the mark is left for the stage's to see. */
const ALLOWED: NftRule = { expressions: [...hasMark("allowed"), ...clearMarks(), ...RETURN], comment: undefined };
const ALLOWED_IN_TIER: NftRule = { expressions: [...hasMark("allowed"), ...RETURN], comment: undefined };

const PASSED = passedTo(RETURN);

function passedTo(next: readonly Expr[]): NftRule {
  return { expressions: [...hasMark("passed"), ...clearMarks(), ...next], comment: undefined };
}

export function jumpTo(chain: string): NftRule {
  return { expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment: undefined };
}

/** A mark that somebody else has set must not count as a decision of ours. */
function readsMarks(lists: readonly (readonly Call[])[], { continuation }: StageContext): boolean {
  return lists.some(
    (calls) =>
      calls.length > 0 &&
      (continuation === "continue" || continuation === "staged" || calls.some(({ passes }) => passes)),
  );
}

/** Asks the policies one after the other; `allowed` follows each where policies allow by a mark, and `passed` each that can pass. */
function runPolicies(calls: readonly Call[], passed: NftRule, allowed: readonly NftRule[]): NftRule[] {
  const rules: NftRule[] = [];
  for (const { jump, passes } of calls) {
    rules.push(jump, ...allowed);
    if (passes) rules.push(passed);
  }
  return rules;
}

function lowerEnd(stage: Stage, { direction, continuation }: StageContext): NftRule {
  if (stage.otherwise === "deny" && continuation !== "staged") return dropped(`${direction} end`);
  const isPlain = stage.otherwise === "allow" && stage.tiers.length === 0 && stage.profiles.length === 0;
  return {
    expressions: [{ op: "counter" }, ...allowedAtEnd(continuation)],
    comment: `${direction} ${isPlain ? "not isolated" : "end"}`,
  };
}

/** A chain that ends goes back to whoever jumped to it. What no rule allowed is tracked as everything else is. */
function allowedAtEnd(continuation: Continuation): Expr[] {
  return continuation === "accept" ? [{ op: "verdict", verdict: { type: "accept" } }] : [];
}

/** The mark ends the stage. */
function decidedWithoutEffect(text: string): NftRule {
  return { expressions: [{ op: "counter" }, ...setMark("allowed"), ...RETURN], comment: comment(text) };
}

/** One object for all endpoints of which it says the same. */
const DROPPED = new Map<string, NftRule>();
const MOST_DROPPED = 1_000;

function dropped(text: string): NftRule {
  const known = DROPPED.get(text);
  if (known !== undefined) return known;
  const rule: NftRule = {
    expressions: [{ op: "counter" }, { op: "verdict", verdict: { type: "drop" } }],
    comment: comment(text),
  };
  if (DROPPED.size >= MOST_DROPPED) DROPPED.clear();
  DROPPED.set(text, rule);
  return rule;
}
