/**
 * counters: how many packets and bytes each written rule, and each end of a stage that no rule decided, has seen since its chain was made.
 *
 * A rule that is several rules of the kernel, or is used where *allowed* means different things, is counted once. Packets of flows that were
 * accepted before meet no rule and are in no counter.
 */
import type { Key } from "../model/key.ts";
import type { Action, Direction, Hook } from "../model/policy.ts";
import {
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  policiesNamedBy,
  type Program,
  stagedOf,
  stagesOf,
} from "../program/program.ts";
import type { PolicyId } from "../program/policy.ts";
import type { Continuation } from "./uses.ts";

export interface Count {
  readonly packets: number;
  /** From the IP header on. */
  readonly bytes: number;
}

export interface RuleCounter extends Count {
  readonly policy: Key;
  readonly tier: string;
  readonly direction: Direction;
  /** From 1, as written. */
  readonly rule: number;
  readonly action: Action;
  /** What its author called the rule, where he did. */
  readonly name?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface EndCounter extends Count {
  readonly endpoint: EndpointId;
  readonly source: Key;
  readonly hook: Hook;
  readonly direction: Direction;
  /** `no rule of tier default matched`, `end`, `not isolated`. */
  readonly end: string;
  readonly action: "allow" | "deny";
}

/** A step of the path that drops before policy is asked: `unknown interface or spoofed source`. */
export interface DropCounter {
  readonly step: string;
  readonly packets: number;
}

/** How full a map of the kernel is. */
export interface MapFill {
  readonly map: string;
  /** Absent: it is an array all of which is there, or a ring. */
  readonly entries?: number;
  readonly room: number;
  /** Of memory. */
  readonly bytes: number;
}

export interface Counters {
  readonly rules: readonly RuleCounter[];
  readonly ends: readonly EndCounter[];
  /** undefined: the dataplane does not tell them apart. */
  readonly drops?: readonly DropCounter[];
  /** Packets that went past the host stack; undefined: the dataplane has no such way. */
  readonly past?: number;
  /** undefined: the dataplane has none. */
  readonly maps?: readonly MapFill[];
  /**
   * What the rules would have seen with every staged policy enforced (POL-56), at the endpoints where one makes a difference: those of staged
   * policies, and those of real ones beside them. Absent where no staged policy concerns an endpoint.
   */
  readonly staged?: Pick<Counters, "rules" | "ends">;
}

/** What a node tells. */
export interface NodeCounters extends Counters {
  /** Why not all staged policies are in `staged`: the kinds that the node cannot read. */
  readonly unknown: readonly string[];
}

/** One rule of the kernel that has a comment. */
export interface CommentedCount extends Count {
  readonly comment: string;
}

/** What a backend's chains have counted, by the names that it gives them. */
export interface CountedChains {
  /** Of every copy of the chain. */
  rulesOf(chain: string): readonly CommentedCount[];
  policyChain(id: PolicyId, direction: Direction, continuation: Continuation): string;
  /** Chains beside the policy's own that may count for its rule `index`. */
  ruleChains(chain: string, index: number): readonly string[];
  /** Chains in which the end of tier i of a stage may be; without a tier that of the stage. */
  endChains(
    id: EndpointId,
    endpoint: Endpoint,
    hook: Hook,
    direction: Direction,
    tier: string | undefined,
    i: number,
    which: Which,
  ): readonly string[];
}

/** What decides, or what counts for staged policies. */
export type Which = "stages" | "staged";

const CONTINUATIONS: { readonly [W in Which]: readonly Continuation[] } = {
  stages: ["accept", "continue", "untracked"],
  staged: ["staged"],
};

export function countersOf(program: Program, chains: CountedChains): Counters {
  const of = (which: Which): Pick<Counters, "rules" | "ends"> => ({
    rules: rulesOf(program, chains, which),
    ends: endsOf(program, chains, which),
  });
  const isStaged = [...program.endpoints.values()].some(({ staged }) => staged !== undefined);
  return isStaged ? { ...of("stages"), staged: of("staged") } : of("stages");
}

/** Of those policies that a stage, or a staged one, names. */
function rulesOf(program: Program, chains: CountedChains, which: Which): RuleCounter[] {
  const placesOf = which === "staged" ? stagedOf : stagesOf;
  const named = new Set(
    [...program.endpoints.values()].flatMap((endpoint) =>
      placesOf(endpoint).flatMap(({ stage, direction }) => policiesNamedBy(stage).map((id) => `${direction} ${id}`)),
    ),
  );
  const rules: RuleCounter[] = [];
  for (const [id, policy] of program.policies)
    for (const direction of DIRECTIONS) {
      if (!named.has(`${direction} ${id}`)) continue;
      for (const [index, rule] of (policy[direction] ?? []).entries()) {
        const counts = CONTINUATIONS[which].flatMap((continuation) => {
          const chain = chains.policyChain(id, direction, continuation);
          const own = countsIn(chains, chain, (comment) => comment.endsWith(` rule ${index + 1}`));
          return [...own, ...chains.ruleChains(chain, index).flatMap((each) => countsIn(chains, each, () => true))];
        });
        rules.push({
          policy: policy.source,
          tier: policy.tier,
          direction,
          rule: index + 1,
          action: rule.action,
          ...rule.words,
          ...sum(counts),
        });
      }
    }
  return rules;
}

function endsOf(program: Program, chains: CountedChains, which: Which): EndCounter[] {
  return [...program.endpoints].flatMap(([id, endpoint]) =>
    (which === "staged" ? stagedOf : stagesOf)(endpoint).flatMap(({ hook, direction, stage }) =>
      [...stage.tiers, undefined].flatMap((tier, i) => {
        const end = tier === undefined ? /^\w+ (end|not isolated)$/ : /^\w+ (no rule of tier .+ matched)$/;
        // The end of a tier that goes on with the next one is no end.
        const action = tier === undefined ? stage.otherwise : "deny";
        let words: string | undefined;
        const counts = chains.endChains(id, endpoint, hook, direction, tier?.tier, i, which).flatMap((chain) =>
          countsIn(chains, chain, (comment) => {
            const found = end.exec(comment)?.[1];
            words ??= found;
            return found !== undefined;
          }),
        );
        return words === undefined
          ? []
          : [{ endpoint: id, source: endpoint.source, hook, direction, end: words, action, ...sum(counts) }];
      }),
    ),
  );
}

function countsIn(chains: CountedChains, chain: string, is: (comment: string) => boolean): readonly Count[] {
  return chains.rulesOf(chain).filter(({ comment }) => is(comment));
}

function sum(counts: readonly Count[]): Count {
  return counts.reduce(
    (total, { packets, bytes }) => ({ packets: total.packets + packets, bytes: total.bytes + bytes }),
    { packets: 0, bytes: 0 },
  );
}
