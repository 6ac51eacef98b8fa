/**
 * dispatch: from the name of a workload's interface to the chain of its stage, by a tree of the names' beginnings: iptables has no look-up
 * that jumps, and hundreds of rules in a row would cost every packet.
 */
import { makeRule, type Match, type Rule } from "../../kernel/iptables/rule.ts";
import type { Direction } from "../../model/policy.ts";
import { WORKLOAD_PREFIX } from "../../program/path.ts";
import { workloadDispatchChain } from "./names.ts";

/** So many names are compared one after the other. */
const FEW = 8;

/** Chains by name. `stages`: the first chain of each interface's stage, if it has one. */
export function workloadDispatch(
  direction: Direction,
  stages: ReadonlyMap<string, string>,
): ReadonlyMap<string, readonly Rule[]> {
  const chains = new Map<string, readonly Rule[]>();
  addNode(
    chains,
    direction,
    WORKLOAD_PREFIX,
    "",
    [...stages].sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  return chains;
}

function addNode(
  chains: Map<string, readonly Rule[]>,
  direction: Direction,
  prefix: string,
  start: string,
  stages: readonly (readonly [string, string])[],
): void {
  const rules: Rule[] = [];
  chains.set(workloadDispatchChain(direction, start), rules);
  if (stages.length <= FEW) {
    for (const [name, chain] of stages) rules.push(makeRule(interfaceIs(direction, name), { do: "goto", chain }));
    return;
  }
  const byStart = new Map<string, (readonly [string, string])[]>();
  for (const stage of stages) {
    const [name, chain] = stage;
    const next = name.slice(0, prefix.length + 1);
    // The name ends here: others may begin with it.
    if (name === prefix) rules.push(makeRule(interfaceIs(direction, name), { do: "goto", chain }));
    else byStart.set(next, [...(byStart.get(next) ?? []), stage]);
  }
  for (const [next, own] of byStart) {
    const [only] = own;
    if (own.length === 1 && only !== undefined) {
      rules.push(makeRule(interfaceIs(direction, only[0]), { do: "goto", chain: only[1] }));
      continue;
    }
    const below = next.slice(WORKLOAD_PREFIX.length);
    rules.push(
      makeRule(interfaceIs(direction, `${next}+`), { do: "goto", chain: workloadDispatchChain(direction, below) }),
    );
    addNode(chains, direction, next, below, own);
  }
}

/** Egress is what comes from the interface. */
function interfaceIs(direction: Direction, name: string): Match {
  return direction === "egress" ? { in: { name, not: false } } : { out: { name, not: false } };
}
