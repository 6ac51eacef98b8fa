/**
 * dispatch: from the name of a workload's interface to the chain of its stage, by a tree of the names' beginnings: iptables has no look-up
 * that jumps, and hundreds of rules in a row would cost every packet.
 */
import { makeRule, type Match, type Rule } from "../../kernel/iptables/rule.ts";
import type { Direction } from "../../model/policy.ts";
import { workloadDispatchChain } from "./names.ts";

/** So many names are compared one after the other. */
const FEW = 8;

/** Chains by name. `stages`: the first chain of each interface's stage. */
export function workloadDispatch(
  direction: Direction,
  stages: ReadonlyMap<string, string>,
): ReadonlyMap<string, readonly Rule[]> {
  const chains = new Map<string, readonly Rule[]>();
  const root = workloadDispatchChain(direction);
  addNode(
    chains,
    direction,
    root,
    [...stages].sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  return chains;
}

/** In order of the names. */
function addNode(
  chains: Map<string, readonly Rule[]>,
  direction: Direction,
  chain: string,
  stages: readonly (readonly [string, string])[],
): void {
  const rules: Rule[] = [];
  chains.set(chain, rules);
  const common = commonStart(stages[0]?.[0] ?? "", stages.at(-1)?.[0] ?? "");
  const byStart = new Map<string, (readonly [string, string])[]>();
  for (const stage of stages) {
    const next = stages.length <= FEW ? stage[0] : stage[0].slice(0, common + 1);
    byStart.set(next, [...(byStart.get(next) ?? []), stage]);
  }
  for (const [next, own] of byStart) {
    const [only] = own;
    if (own.length === 1 && only !== undefined) {
      rules.push(makeRule(interfaceIs(direction, only[0]), { do: "goto", chain: only[1] }));
      continue;
    }
    const below = workloadDispatchChain(direction, next);
    rules.push(makeRule(interfaceIs(direction, `${next}+`), { do: "goto", chain: below }));
    addNode(chains, direction, below, own);
  }
}

/** The number of letters that both begin with, and so all between them in order. */
function commonStart(first: string, last: string): number {
  let length = 0;
  while (length < first.length && first[length] === last[length]) length++;
  return length;
}

/** Egress is what comes from the interface. */
function interfaceIs(direction: Direction, name: string): Match {
  return direction === "egress" ? { in: { name, not: false } } : { out: { name, not: false } };
}
