/** Decisions: under which chain and comment the kernel counts each rule that a fate says has matched. */
import { continuationOf } from "../../src/dataplane/uses.ts";
import { policyChain, stageChain, stagedChain } from "../../src/dataplane/nftables/names.ts";
import { formatKey, formatName, type Key } from "../../src/model/key.ts";
import type { Direction } from "../../src/model/policy.ts";
import type { Fate, StageVerdict } from "../../src/program/path-evaluate.ts";
import type { PolicyId } from "../../src/program/policy.ts";
import type { Program } from "../../src/program/program.ts";

/** `CHAIN: COMMENT` for rules and stages, `: NAME` for a step of the path that dropped the packet. */
export function decisionsOf(fate: Fate, program: Program): string[] {
  const stages = fate.verdicts.flatMap((each) => stageDecisions(each, program, "stages"));
  return fate.action === "drop" && fate.step !== undefined ? [...stages, `: ${fate.step}`] : stages;
}

/** The same of what is counted as staged. */
export function stagedDecisionsOf(fate: Fate, program: Program): string[] {
  return fate.staged.flatMap((each) => stageDecisions(each, program, "staged"));
}

function stageDecisions(
  { endpoint: id, hook, direction, verdict }: StageVerdict,
  program: Program,
  which: "stages" | "staged",
): string[] {
  const endpoint = program.endpoints.get(id);
  const stage = endpoint?.[which]?.[hook]?.[direction];
  if (endpoint === undefined || stage === undefined) throw new Error(`no ${hook} ${direction} stage of ${id}`);
  const continuation = which === "staged" ? which : continuationOf(endpoint.kind, hook, direction);
  const rule = (action: string, policy: Key, index: number, of: Direction): string =>
    `${policyChain(formatKey(policy) as string as PolicyId, of, continuation)}: ${action} ${formatName(policy)} ${of} rule ${index + 1}`;
  const chain = (tier?: string): string =>
    (which === "staged" ? stagedChain : stageChain)(id, endpoint, hook, direction, tier);
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

/** What each packet adds one to, in the words of `Counters`: rules by policy, ends by endpoint. */
export function countedKeys(fate: Fate): string[] {
  return [...fate.verdicts.map(keysOf("decided")), ...fate.staged.map(keysOf("staged"))].flat();
}

function keysOf(which: string): (verdict: StageVerdict) => string[] {
  return ({ endpoint, hook, direction, verdict: { action, reason, trace = [] } }) => {
    const rule = (did: string, policy: Key, index: number): string =>
      `${which} ${did} ${formatKey(policy)} ${direction} ${index + 1}`;
    const end = (words: string): string => `${which} ${action} ${endpoint} ${hook} ${direction} ${words}`;
    const passed = trace.map((step) => rule(step.action, step.policy, step.index));
    switch (reason.type) {
      case "rule":
        return [...passed, rule(action, reason.policy, reason.index)];
      case "no-rule-matched":
        return [...passed, end(`no rule of tier ${reason.tier} matched`)];
      case "not-isolated":
        return [...passed, end("not isolated")];
      default:
        return [...passed, end("end")];
    }
  };
}
