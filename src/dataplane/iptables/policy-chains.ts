/** policy-chains: what a policy becomes: one chain for each direction and each thing that *allowed* means where it is used. */
import { makeRule, quoted, type Match, type Rule, type Target } from "../../kernel/iptables/rule.ts";
import { formatKey, formatName } from "../../model/key.ts";
import type { Direction } from "../../model/policy.ts";
import type { Family } from "../../net/addr.ts";
import type { Policy, PolicyId, Rule as PolicyRule } from "../../program/policy.ts";
import type { Continuation } from "../uses.ts";
import { comment, logPrefixOf } from "../nftables/policy-chains.ts";
import { hasMark, mark } from "./marks.ts";
import { lowerMatch, type Matches } from "./match.ts";
import { policyChain, ruleChain } from "./names.ts";

/** xt_log_info of linux/netfilter/xt_LOG.h has 30 bytes with the NUL. */
const MOST_LOG_PREFIX = 29;
export const ACCEPT: Target = { do: "target", text: "ACCEPT" };
export const DROP: Target = { do: "target", text: "DROP" };
export const RETURN: Target = { do: "target", text: "RETURN" };
const NO_TRACKING: Target = { do: "target", text: "CT --notrack" };
const ANY: Match = {};

export interface PolicyUse {
  readonly family: Family;
  readonly direction: Direction;
  readonly continuation: Continuation;
  readonly logPrefix: string;
}

/** The policy's own chain, and those of its rules that need one. undefined: the policy has no say in the direction. */
export function lowerPolicyChain(policy: Policy, use: PolicyUse): ReadonlyMap<string, readonly Rule[]> | undefined {
  const written = policy[use.direction];
  if (written === undefined) return undefined;
  const chain = policyChain(formatKey(policy.source) as string as PolicyId, use.direction, use.continuation);
  const chains = new Map<string, readonly Rule[]>();
  const rules: Rule[] = [];
  chains.set(chain, rules);
  for (const rule of written) {
    const matches = lowerMatch(rule, use.family);
    if (matches.alternatives.length === 0) continue;
    rules.push(...lowerRule(rule, matches, { policy, use, chain, chains }));
    rules.push(...decided(rule, use.continuation));
  }
  return chains;
}

interface Context {
  readonly policy: Policy;
  readonly use: PolicyUse;
  readonly chain: string;
  /** Chains that a rule needs are added. */
  readonly chains: Map<string, readonly Rule[]>;
}

function lowerRule(rule: PolicyRule, { exceptions, alternatives }: Matches, context: Context): Rule[] {
  const { chain, chains, policy, use } = context;
  const text = comment(`${rule.action} ${formatName(rule.id.source)} ${use.direction} rule ${rule.id.index + 1}`);
  let action = lowerAction(rule, policy, use);
  let own = text as string | undefined;
  const goesOn = action !== ACCEPT && action !== DROP;
  const isOnce = goesOn && alternatives.length > 1;
  if (isOnce) {
    // A packet that several of them match goes to the action with the first, and from there back to the policy.
    const once = ruleChain(chain, rule.id.index, true);
    chains.set(once, [makeRule(ANY, action, text)]);
    action = { do: "goto", chain: once };
    own = undefined;
  }
  const matching = alternatives.map((match) => makeRule(match, action, own));
  if (exceptions.length === 0 && !isOnce) return matching;
  const inner = ruleChain(chain, rule.id.index, false);
  chains.set(inner, [...exceptions.map((match) => makeRule(match, RETURN)), ...matching]);
  return [makeRule(ANY, { do: "jump", chain: inner })];
}

function lowerAction({ action }: PolicyRule, policy: Policy, { continuation, logPrefix }: PolicyUse): Target {
  switch (action) {
    // Of a staged one the mark says that it has decided, whatever that is.
    case "allow":
      return continuation === "accept" ? ACCEPT : mark("allowed");
    case "deny":
      return continuation === "staged" ? mark("allowed") : DROP;
    case "pass":
      return mark("passed");
    case "log": {
      if (continuation === "staged") return undefined;
      const prefix = logPrefixOf(policy, logPrefix);
      const short = prefix.length <= MOST_LOG_PREFIX ? prefix : `${prefix.slice(0, MOST_LOG_PREFIX - 2)}: `;
      return { do: "target", text: `LOG --log-prefix ${quoted(short)}` };
    }
  }
}

/** What follows for a packet that the rule has marked. */
function decided({ action }: PolicyRule, continuation: Continuation): Rule[] {
  if (action === "pass") return [makeRule(hasMark("passed"), RETURN)];
  const isMarked = continuation === "staged" ? action !== "log" : action === "allow" && continuation !== "accept";
  if (!isMarked) return [];
  const allowed = hasMark("allowed");
  // The mark tells the later hooks, which see a packet without connection, that policy has allowed it.
  return continuation !== "untracked"
    ? [makeRule(allowed, RETURN)]
    : [makeRule(allowed, NO_TRACKING), makeRule(allowed, ACCEPT)];
}
