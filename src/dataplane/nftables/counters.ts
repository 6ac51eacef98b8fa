/** counters: what the rules of our table have counted, read back in steps. */
import { Breath } from "../../host/breath.ts";
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import type { NftChainState } from "../../kernel/nftables/objects.ts";
import { StepReader } from "../../kernel/nftables/step-reader.ts";
import type { Program } from "../../program/program.ts";
import { type Counters, countersOf, type CountedChains } from "../counters.ts";
import { logChain, policyChain, stageChain, stagedChain, TABLE } from "./names.ts";

/** Rejects with KernelError when the table cannot be read. What changes meanwhile may be missing. */
export async function readCounters(sys: Sys, clock: Clock, program: Program): Promise<Counters> {
  const reader = new StepReader(sys, TABLE);
  try {
    const breath = new Breath(clock);
    const steps = reader.chains();
    for (;;) {
      const step = steps.next();
      if (step.done === true) return countersOf(program, countedChains(step.value));
      await breath.after(1);
    }
  } finally {
    reader.close();
  }
}

export function countedChains(chains: ReadonlyMap<string, NftChainState>): CountedChains {
  return {
    rulesOf: (chain) =>
      (chains.get(chain)?.rules ?? []).flatMap(({ rule, packets, bytes }) =>
        rule?.comment === undefined ? [] : [{ comment: rule.comment, packets: Number(packets), bytes: Number(bytes) }],
      ),
    policyChain,
    ruleChains: (chain, index) => [logChain(chain, index)],
    // A first tier that nothing can follow is in the stage's own chain.
    endChains: (id, endpoint, hook, direction, tier, i, which) => {
      const chain = which === "staged" ? stagedChain : stageChain;
      return [
        ...(tier === undefined || i === 0 ? [chain(id, endpoint, hook, direction)] : []),
        ...(tier === undefined ? [] : [chain(id, endpoint, hook, direction, tier)]),
      ];
    },
  };
}
