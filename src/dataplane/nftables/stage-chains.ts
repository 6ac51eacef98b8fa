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
import type { ChainRow } from "./rows.ts";

export interface StageContext {
  readonly direction: Direction;
  readonly continuation: Continuation;
  /** Name of the chain of the stage, or of a tier. */
  readonly chain: (tier?: string) => string;
  readonly callsOf: CallsOf;
}

/** What a place was, and was lowered to, since when no policy has begun or ceased to pass. */
export interface EarlierPlace {
  readonly stage: Stage | undefined;
  readonly staged: Stage | undefined;
  readonly rulesOf: (chain: string) => Rules | undefined;
}

type Rules = ChainRow["rules"];

/** How a policy is asked, wherever it is. */
export interface Call {
  readonly jump: NftRule;
  /** Whether it can pass. */
  readonly passes: boolean;
}

/** How policies are asked where they are used in that way. */
export type CallsOf = (direction: Direction, continuation: Continuation) => (id: PolicyId) => Call;

/** A stage, and before it what is asked to count alone; at least one of them is there. A tier that is the same object as before keeps its rules. */
export function lowerPlace(
  stage: Stage | undefined,
  staged: Stage | undefined,
  context: StageContext,
  stagedChain: StageContext["chain"],
  earlier: EarlierPlace | undefined,
): Map<string, Rules> {
  const rulesOf = earlier?.rulesOf ?? nothingKnown;
  const chains: Map<string, Rules> =
    stage === undefined ? new Map([[context.chain(), []]]) : lowerStage(stage, context, earlier?.stage, rulesOf);
  if (staged === undefined) return chains;
  const first = chains.get(context.chain()) ?? [];
  chains.set(context.chain(), [jumpTo(stagedChain()), ...(equal(first[0], CLEAR) ? [] : [CLEAR]), ...first]);
  const counting: StageContext = { ...context, continuation: "staged", chain: stagedChain };
  for (const [name, rules] of lowerStage(staged, counting, earlier?.staged, rulesOf)) chains.set(name, rules);
  return chains;
}

const nothingKnown: EarlierPlace["rulesOf"] = () => undefined;
const CLEAR: NftRule = { expressions: clearMarks(), comment: undefined };

function lowerStage(
  stage: Stage,
  context: StageContext,
  before: Stage | undefined,
  rulesOf: EarlierPlace["rulesOf"],
): Map<string, Rules> {
  const { direction, continuation, chain } = context;
  const isByMark = continuation === "continue" || continuation === "staged";
  const closing = continuation === "staged" ? decidedWithoutEffect : dropped;
  const callOf = context.callsOf(direction, continuation);
  const all = stage.tiers.map((binding) => {
    const name = chain(binding.tier);
    const known = before?.tiers.includes(binding) === true ? rulesOf(name) : undefined;
    if (known !== undefined) return { binding, name, known, calls: NO_CALLS, passes: known.includes(PASSED) };
    const calls = binding.policies.map(callOf);
    return { binding, name, known, calls, passes: calls.some(canPass) };
  });
  const profiles = stage.profiles.map(callOf);
  const last = all.findIndex(({ binding, passes }) => binding.otherwise === "deny" && !passes);
  const tiers = last < 0 ? all : all.slice(0, last + 1);
  const marks = (rule: NftRule): NftRule[] => (isByMark ? [rule] : []);
  const first: NftRule[] = [];
  // A mark that somebody else has set must not count as a decision of ours.
  const asks = profiles.length > 0 || tiers.some(({ binding }) => binding.policies.length > 0);
  if (asks && (isByMark || profiles.some(canPass) || tiers.some(canPass))) first.push(CLEAR);
  const own = chain();
  const chains = new Map<string, Rules>([[own, first]]);
  const earlier = before === undefined ? undefined : rulesOf(own);
  for (const { binding, name, known, calls } of tiers) {
    const { tier, otherwise } = binding;
    const end = otherwise === "pass" ? [] : [closing(`${direction} no rule of tier ${tier} matched`)];
    if (last === 0) {
      const asked = known === undefined ? calls : binding.policies.map(callOf);
      first.push(...runPolicies(asked, PASSED, marks(ALLOWED)), ...end);
    } else {
      chains.set(name, known ?? [...runPolicies(calls, PASSED, marks(ALLOWED_IN_TIER)), ...end]);
      first.push(jumpAgain(name, earlier), ...marks(ALLOWED));
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

const NO_CALLS: readonly Call[] = [];

function canPass({ passes }: Pick<Call, "passes">): boolean {
  return passes;
}

const RETURN: readonly Expr[] = [{ op: "verdict", verdict: { type: "return" } }];
/** After whatever may have allowed by a mark: the stage ends. In a tier's own chain the mark is left for the stage's to see. */
const ALLOWED: NftRule = { expressions: [...hasMark("allowed"), ...clearMarks(), ...RETURN], comment: undefined };
const ALLOWED_IN_TIER: NftRule = { expressions: [...hasMark("allowed"), ...RETURN], comment: undefined };

const PASSED = passedTo(RETURN);

function passedTo(next: readonly Expr[]): NftRule {
  return { expressions: [...hasMark("passed"), ...clearMarks(), ...next], comment: undefined };
}

/** A rule without a match that jumps to the chain. */
export function jumpTo(chain: string): NftRule {
  return { expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment: undefined };
}

/** The rule that jumped there before, so that chains are compared by the identity of their rules. */
function jumpAgain(chain: string, earlier: Rules | undefined): NftRule {
  for (const rule of earlier ?? []) {
    const [only] = rule?.expressions.length === 1 ? rule.expressions : [];
    if (rule !== undefined && only?.op === "verdict" && only.verdict.type === "jump" && only.verdict.chain === chain)
      return rule;
  }
  return jumpTo(chain);
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
  return shared(`${continuation} ${direction} ${isPlain ? "not isolated" : "end"}`, () => ({
    expressions: [{ op: "counter" }, ...allowedAtEnd(continuation)],
    comment: `${direction} ${isPlain ? "not isolated" : "end"}`,
  }));
}

/** A chain that ends goes back to whoever jumped to it. What no rule allowed is tracked as everything else is. */
function allowedAtEnd(continuation: Continuation): Expr[] {
  return continuation === "accept" ? [{ op: "verdict", verdict: { type: "accept" } }] : [];
}

/** The mark ends the stage. */
function decidedWithoutEffect(text: string): NftRule {
  return { expressions: [{ op: "counter" }, ...setMark("allowed"), ...RETURN], comment: comment(text) };
}

function dropped(text: string): NftRule {
  return shared(`drop ${text}`, () => ({
    expressions: [{ op: "counter" }, { op: "verdict", verdict: { type: "drop" } }],
    comment: comment(text),
  }));
}

/** One object for all endpoints of which it says the same. */
const SHARED = new Map<string, NftRule>();
const MOST_SHARED = 1_000;

function shared(key: string, make: () => NftRule): NftRule {
  const known = SHARED.get(key);
  if (known !== undefined) return known;
  const rule = make();
  if (SHARED.size >= MOST_SHARED) SHARED.clear();
  SHARED.set(key, rule);
  return rule;
}
