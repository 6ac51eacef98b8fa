/**
 * counters: how many packets and bytes each written rule, and each end of a stage that no rule decided, has seen since its chain was made,
 * read back from the kernel's table in steps.
 *
 * A rule that is several rules of nftables, or is used where *allowed* means different things, is counted once. Packets of flows that were
 * accepted before meet no rule and are in no counter.
 */
import { Breath } from "../../host/breath.ts";
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import type { NftChainState } from "../../kernel/nftables/objects.ts";
import { StepReader } from "../../kernel/nftables/step-reader.ts";
import type { Key } from "../../model/key.ts";
import type { Action, Direction, Hook } from "../../model/policy.ts";
import { DIRECTIONS, type EndpointId, type Program, stagesOf } from "../../program/program.ts";
import { type Continuation, logChain, policyChain, stageChain, TABLE } from "./names.ts";

export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

export interface RuleCounter extends Count {
  readonly policy: Key;
  readonly tier: string;
  readonly direction: Direction;
  /** From 1, as written. */
  readonly rule: number;
  readonly action: Action;
}

export interface EndCounter extends Count {
  readonly endpoint: EndpointId;
  readonly source: Key;
  readonly hook: Hook;
  readonly direction: Direction;
  /** `no rule of tier default matched`, `end`, `not isolated`. */
  readonly end: string;
}

export interface Counters {
  readonly rules: readonly RuleCounter[];
  readonly ends: readonly EndCounter[];
}

type Chains = ReadonlyMap<string, NftChainState>;

const CONTINUATIONS: readonly Continuation[] = ["accept", "continue", "untracked"];

/** Rejects with KernelError when the table cannot be read. What changes meanwhile may be missing. */
export async function readCounters(sys: Sys, clock: Clock, program: Program): Promise<Counters> {
  const reader = new StepReader(sys, TABLE);
  try {
    const breath = new Breath(clock);
    const steps = reader.chains();
    for (;;) {
      const step = steps.next();
      if (step.done === true) return countersOf(program, step.value);
      await breath.after(1);
    }
  } finally {
    reader.close();
  }
}

export function countersOf(program: Program, chains: Chains): Counters {
  const rules: RuleCounter[] = [];
  for (const [id, policy] of program.policies)
    for (const direction of DIRECTIONS)
      for (const [index, rule] of (policy[direction] ?? []).entries()) {
        const counts = CONTINUATIONS.flatMap((continuation) => {
          const chain = policyChain(id, direction, continuation);
          const own = countsIn(chains, chain, (comment) => comment.endsWith(` rule ${index + 1}`));
          return [...own, ...countsIn(chains, logChain(chain, index), () => true)];
        });
        rules.push({
          policy: policy.source,
          tier: policy.tier,
          direction,
          rule: index + 1,
          action: rule.action,
          ...sum(counts),
        });
      }
  return { rules, ends: endsOf(program, chains) };
}

function endsOf(program: Program, chains: Chains): EndCounter[] {
  return [...program.endpoints].flatMap(([id, endpoint]) =>
    stagesOf(endpoint).flatMap(({ hook, direction, stage }) =>
      [...stage.tiers, undefined].flatMap((tier, i) => {
        const end = tier === undefined ? /^\w+ (end|not isolated)$/ : /^\w+ (no rule of tier .+ matched)$/;
        let words: string | undefined;
        const chain = (name?: string): string => stageChain(id, endpoint, hook, direction, name);
        // A first tier that nothing can follow is in the stage's own chain.
        const own = tier === undefined || i === 0 ? [chain()] : [];
        const names = tier === undefined ? own : [...own, chain(tier.tier)];
        const counts = names.flatMap((name) =>
          countsIn(chains, name, (comment) => {
            const found = end.exec(comment)?.[1];
            words ??= found;
            return found !== undefined;
          }),
        );
        return words === undefined
          ? []
          : [{ endpoint: id, source: endpoint.source, hook, direction, end: words, ...sum(counts) }];
      }),
    ),
  );
}

function countsIn(chains: Chains, chain: string, is: (comment: string) => boolean): Count[] {
  return (chains.get(chain)?.rules ?? []).flatMap(({ rule, packets, bytes }) =>
    rule?.comment !== undefined && is(rule.comment) ? [{ packets: Number(packets), bytes: Number(bytes) }] : [],
  );
}

function sum(counts: readonly Count[]): Count {
  return counts.reduce(
    (total, { packets, bytes }) => ({ packets: total.packets + packets, bytes: total.bytes + bytes }),
    { packets: 0, bytes: 0 },
  );
}
