/** Decisions: under which chain and comment the kernel counts each rule that a fate says has matched. */
import { continuationOf } from "../../src/dataplane/uses.ts";
import { policyChain, stageChain } from "../../src/dataplane/nftables/names.ts";
import { formatKey, formatName, type Key } from "../../src/model/key.ts";
import type { Direction } from "../../src/model/policy.ts";
import type { Fate, StageVerdict } from "../../src/program/path-evaluate.ts";
import type { PolicyId } from "../../src/program/policy.ts";
import type { Program } from "../../src/program/program.ts";

/** `CHAIN: COMMENT` for rules and stages, `: NAME` for a step of the path that dropped the packet. */
export function decisionsOf(fate: Fate, program: Program): string[] {
  const stages = fate.verdicts.flatMap((each) => stageDecisions(each, program));
  return fate.action === "drop" && fate.step !== undefined ? [...stages, `: ${fate.step}`] : stages;
}

function stageDecisions({ endpoint: id, hook, direction, verdict }: StageVerdict, program: Program): string[] {
  const endpoint = program.endpoints.get(id);
  const stage = endpoint?.stages[hook]?.[direction];
  if (endpoint === undefined || stage === undefined) throw new Error(`no ${hook} ${direction} stage of ${id}`);
  const continuation = continuationOf(endpoint.kind, hook, direction);
  const rule = (action: string, policy: Key, index: number, of: Direction): string =>
    `${policyChain(formatKey(policy) as string as PolicyId, of, continuation)}: ${action} ${formatName(policy)} ${of} rule ${index + 1}`;
  const chain = (tier?: string): string => stageChain(id, endpoint, hook, direction, tier);
  const passed = (verdict.trace ?? []).map((step) => rule(step.action, step.policy, step.index, step.direction));
  const { reason } = verdict;
  switch (reason.type) {
    case "rule":
      return [...passed, rule(verdict.action, reason.policy, reason.index, reason.direction)];
    case "no-rule-matched": {
      const [first] = stage.tiers;
      const canPass = (policy: PolicyId): boolean =>
        program.policies.get(policy)?.[direction]?.some(({ action }) => action === "pass") === true;
      const isAlone = first?.tier === reason.tier && !first.policies.some(canPass);
      return [
        ...passed,
        `${chain(isAlone ? undefined : reason.tier)}: ${direction} no rule of tier ${reason.tier} matched`,
      ];
    }
    case "not-isolated":
      return [...passed, `${chain()}: ${direction} not isolated`];
    case "end":
      return [...passed, `${chain()}: ${direction} end`];
    default:
      throw new Error(`a stage does not decide by ${reason.type}`);
  }
}
