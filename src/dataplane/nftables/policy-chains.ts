/** policy-chains: what a policy becomes: one chain for each direction and each thing that *allowed* means where it is used. */
import type { Expr, NftRule } from "../../kernel/nftables/objects.ts";
import { formatKey, formatName } from "../../model/key.ts";
import type { Kind } from "../../model/kind.ts";
import type { Direction } from "../../model/policy.ts";
import type { Policy, PolicyId, Rule, SetId } from "../../program/policy.ts";
import { clearMarks, setMark } from "./marks.ts";
import { lowerMatch, type NamedSet, type PortSet } from "./match.ts";
import type { Continuation } from "../uses.ts";
import { logChain, policyChain } from "./names.ts";

export interface PolicyChains {
  /** The policy's own chain, and one for each logging rule that is several rules of nftables. */
  readonly chains: ReadonlyMap<string, readonly NftRule[]>;
  readonly portSets: ReadonlyMap<string, PortSet>;
}

/** undefined: the policy has no say in the direction. */
export function lowerPolicyChain(
  policy: Policy,
  direction: Direction,
  continuation: Continuation,
  setOf: (id: SetId) => NamedSet,
  logPrefix: string,
): PolicyChains | undefined {
  const written = policy[direction];
  if (written === undefined) return undefined;
  const chain = policyChain(formatKey(policy.source) as string as PolicyId, direction, continuation);
  const prefix = logPrefixOf(policy, logPrefix);
  const chains = new Map<string, readonly NftRule[]>();
  const portSets = new Map<string, PortSet>();
  const rules: NftRule[] = [];
  chains.set(chain, rules);
  for (const rule of written) {
    const alternatives = lowerMatch(rule, setOf);
    for (const alternative of alternatives) for (const [name, set] of alternative.portSets) portSets.set(name, set);
    const text = comment(`${rule.action} ${formatName(rule.id.source)} ${direction} rule ${rule.id.index + 1}`);
    const action = lowerAction(rule, continuation, prefix);
    if (rule.action !== "log" || alternatives.length <= 1) {
      rules.push(...alternatives.map(({ expressions }) => counted(expressions, action, text)));
      continue;
    }
    // A packet that several of them match is logged once.
    const own = logChain(chain, rule.id.index);
    const end: readonly Expr[] = [...action, { op: "verdict", verdict: { type: "return" } }];
    chains.set(
      own,
      alternatives.map(({ expressions }) => counted(expressions, end, text)),
    );
    rules.push({ expressions: [{ op: "verdict", verdict: { type: "jump", chain: own } }], comment: undefined });
  }
  return { chains, portSets };
}

function counted(match: readonly Expr[], action: readonly Expr[], text: string): NftRule {
  return { expressions: [...match, { op: "counter" }, ...action], comment: text };
}

/** Whether a rule of the policy passes packets on to the next tier. */
export function canPass(policy: Policy, direction: Direction): boolean {
  return (policy[direction] ?? []).some((rule) => rule.action === "pass");
}

function lowerAction({ action }: Rule, continuation: Continuation, prefix: string): Expr[] {
  const isStaged = continuation === "staged";
  switch (action) {
    case "allow":
      return allowed(continuation);
    case "deny":
      return isStaged ? allowed(continuation) : [{ op: "verdict", verdict: { type: "drop" } }];
    case "pass":
      return [...setMark("passed"), { op: "verdict", verdict: { type: "return" } }];
    case "log":
      return isStaged ? [] : [{ op: "log", prefix }];
  }
}

/** Upstream: felix/types (KindShortName). */
const KIND_WORDS: { readonly [K in Kind]?: string } = {
  NetworkPolicy: "np",
  GlobalNetworkPolicy: "gnp",
  KubernetesNetworkPolicy: "knp",
  ClusterNetworkPolicy: "kcnp",
  AdminNetworkPolicy: "kanp",
  BaselineAdminNetworkPolicy: "kbanp",
  Profile: "pro",
};
/** NF_LOG_PREFIXLEN of linux/netfilter/nf_log.h, with the final zero. */
const MOST_PREFIX = 127;

/** Upstream: felix/rules/policy.go (generateLogPrefix). The kernel takes no longer one, and counts bytes. */
export function logPrefixOf({ source, tier }: Pick<Policy, "source" | "tier">, format: string): string {
  const words: Readonly<Record<string, string>> = {
    "%t": tier,
    "%k": KIND_WORDS[source.kind] ?? source.kind,
    "%n": source.name,
    "%p": formatName(source),
  };
  const text = format.replace(/%[tknp]/g, (word) => words[word] ?? word).replace(/[^ -~]/g, "?");
  return `${text.slice(0, MOST_PREFIX - 2)}: `;
}

function allowed(continuation: Continuation): Expr[] {
  switch (continuation) {
    case "accept":
      return [{ op: "verdict", verdict: { type: "accept" } }];
    // Of a staged one the mark says that it has decided, whatever that is.
    case "continue":
    case "staged":
      return [...setMark("allowed"), { op: "verdict", verdict: { type: "return" } }];
    case "untracked":
      // The mark tells the later hooks, which see a packet without connection, that policy has allowed it.
      return [
        ...clearMarks(),
        ...setMark("allowed"),
        { op: "notrack" },
        { op: "verdict", verdict: { type: "accept" } },
      ];
  }
}

/** At most 128 bytes of UTF-8, the limit of nftables' comments; names are ASCII. */
export function comment(text: string): string {
  return text.length <= 127 ? text : `${text.slice(0, 60)}…${text.slice(-60)}`;
}
