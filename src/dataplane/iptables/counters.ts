/** counters: what the rules of our chains have counted, in both families, read back by `iptables-save -c`. */
import { Breath } from "../../host/breath.ts";
import type { Clock } from "../../host/clock.ts";
import { EPROTO, KernelError } from "../../kernel/errno.ts";
import type { IptablesClient } from "../../kernel/iptables/client.ts";
import { parseSaveInSteps, type Saved, type SavedRule } from "../../kernel/iptables/save.ts";
import type { Program } from "../../program/program.ts";
import { type CommentedCount, type Counters, countersOf } from "../counters.ts";
import { policyChain, ruleChain, stageChain, stagedChain } from "./names.ts";

/** Rejects with KernelError when they cannot be read. */
export async function readCounters(
  clients: Iterable<IptablesClient>,
  clock: Clock,
  program: Program,
): Promise<Counters> {
  const saved: Saved[] = [];
  for (const client of clients) saved.push(await parse(await client.save(true), clock));
  return countersOf(program, {
    rulesOf: (chain) =>
      saved.flatMap((tables) => [...tables.values()].flatMap((chains) => (chains.get(chain) ?? []).flatMap(counted))),
    policyChain,
    ruleChains: (chain, index) => [true, false].map((isAction) => ruleChain(chain, index, isAction)),
    endChains: (id, endpoint, hook, direction, _tier, i, which) => [
      (which === "staged" ? stagedChain : stageChain)(id, endpoint, hook, direction, i),
    ],
  });
}

async function parse(text: string, clock: Clock): Promise<Saved> {
  const breath = new Breath(clock);
  const steps = parseSaveInSteps(text);
  for (;;) {
    const step = steps.next();
    if (step.done !== true) {
      await breath.after(1);
      continue;
    }
    if (step.value.ok) return step.value.value;
    const { found, wanted } = step.value.error;
    throw new KernelError("read rules by", "iptables-save", EPROTO, `${found}: ${wanted}`);
  }
}

function counted({ text, packets, bytes }: SavedRule): CommentedCount[] {
  const [, inQuotes, bare] = /--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))/.exec(text) ?? [];
  const comment = inQuotes?.replace(/\\(.)/g, "$1") ?? bare;
  return comment === undefined ? [] : [{ comment, packets, bytes }];
}
