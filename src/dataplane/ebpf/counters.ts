/**
 * counters: what the records of policies and stages have counted, bytes from the IP header on. A stage that several endpoints share counts for them
 * all, and is told of none.
 */
import type { BpfMap } from "../../kernel/bpf/map.ts";
import { DIRECTIONS, type Program } from "../../program/program.ts";
import type { Count, Counters, DropCounter, EndCounter, RuleCounter, Which } from "../counters.ts";
import type { Block, Image } from "./image.ts";
import { ACTIONS, decodeRecords, DROPS, RECORD_BYTES, RECORD_KINDS, viewOf } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";
import type { Placement, PolicyKey } from "./placement.ts";
import { asDeciding, isPlain } from "./records.ts";

/** Throws KernelError. */
export function countersOf(
  program: Program,
  image: Image,
  placement: Placement,
  { counters, drops, past }: Pick<DataplaneMaps, "counters" | "drops" | "past">,
): Counters {
  const of = (which: Which): Pick<Counters, "rules" | "ends"> => ({
    rules: rulesOf(program, image, placement, counters, which),
    ends: endsOf(program, image, placement, counters, which),
  });
  const isStaged = [...program.endpoints.values()].some(({ staged }) => staged !== undefined);
  return {
    ...of("stages"),
    drops: dropsOf(drops),
    past: pastOf(past),
    ...(isStaged ? { staged: of("staged") } : {}),
  };
}

/** What steps of the path have dropped. Throws KernelError. */
export function dropsOf(drops: BpfMap): readonly DropCounter[] {
  const dropped = numbersOf(drops.values(0, DROPS.length));
  return DROPS.map((step, i) => ({ step, packets: dropped[i] ?? 0 }));
}

/** Packets that went past the host stack: each processor counts apart, in a line of eight numbers. Throws KernelError. */
export function pastOf(past: BpfMap): number {
  const counts = numbersOf(past.values(0, past.definition.maxEntries));
  return counts.reduce((sum, count, i) => (i % 8 === 0 ? sum + count : sum), 0);
}

/** Of those policies that a stage, or a staged one, names. */
function rulesOf(
  program: Program,
  image: Image,
  placement: Placement,
  counters: BpfMap,
  which: Which,
): readonly RuleCounter[] {
  const rules: RuleCounter[] = [];
  for (const [id, policy] of program.policies)
    for (const direction of DIRECTIONS) {
      const key: PolicyKey = which === "staged" ? `staged-${direction} ${id}` : `${direction} ${id}`;
      if (!placement.isNamed(key)) continue;
      const placed = placement.policies.get(key);
      const block = placed && image.blocks.get(placed.content);
      const counts = block === undefined ? new Map<number, Count>() : countsByRule(block, counters);
      for (const [index, rule] of (policy[direction] ?? []).entries())
        rules.push({
          policy: policy.source,
          tier: policy.tier,
          direction,
          rule: index + 1,
          action: rule.action,
          ...rule.words,
          ...(counts.get(index) ?? NOTHING),
        });
    }
  return rules;
}

const NOTHING: Count = { packets: 0, bytes: 0 };

/** By place in the block. */
function countsOf({ start, records }: Block, counters: BpfMap): Count[] {
  const numbers = numbersOf(counters.values(start, records.length / RECORD_BYTES));
  return Array.from({ length: numbers.length / 2 }, (_, i) => ({
    packets: numbers[2 * i] ?? 0,
    bytes: numbers[2 * i + 1] ?? 0,
  }));
}

function numbersOf(values: Uint8Array): number[] {
  const view = viewOf(values);
  return Array.from({ length: view.byteLength / 8 }, (_, i) => Number(view.getBigUint64(i * 8, true)));
}

/** By index of the rule. Throws KernelError. */
export function countsByRule(block: Block, counters: BpfMap): ReadonlyMap<number, Count> {
  const counts = countsOf(block, counters);
  const found = new Map<number, Count>();
  for (const [i, { kind, target }] of asDeciding(decodeRecords(block.records)).entries()) {
    if (kind !== RECORD_KINDS.action) continue;
    const [sum, own] = [found.get(target) ?? NOTHING, counts[i] ?? NOTHING];
    found.set(target, { packets: sum.packets + own.packets, bytes: sum.bytes + own.bytes });
  }
  return found;
}

function endsOf(
  program: Program,
  image: Image,
  placement: Placement,
  counters: BpfMap,
  which: Which,
): readonly EndCounter[] {
  const users = new Map<string, number>();
  for (const { stages } of placement.endpoints.values())
    for (const { content } of stages) users.set(content, (users.get(content) ?? 0) + 1);
  return [...placement.endpoints].flatMap(([id, { stages }]) => {
    const endpoint = program.endpoints.get(id);
    if (endpoint === undefined) return [];
    return stages.flatMap(({ which: of, hook, direction, content }) => {
      const block = of === which ? image.blocks.get(content) : undefined;
      if (block === undefined || users.get(content) !== 1) return [];
      return endsIn(block, counters).map((end): EndCounter => ({
        endpoint: id,
        source: endpoint.source,
        hook,
        direction,
        ...end,
      }));
    });
  });
}

/** Where no rule decides, in order. Throws KernelError. */
export function endsIn(block: Block, counters: BpfMap): (Pick<EndCounter, "end" | "action"> & Count)[] {
  const counts = countsOf(block, counters);
  const records = asDeciding(decodeRecords(block.records));
  const tiers = block.text.split("\0");
  let tier = 0;
  return records.flatMap(({ kind, detail }, i) => {
    const seen = counts[i] ?? NOTHING;
    if (kind === RECORD_KINDS["tier-end"]) {
      const end = `no rule of tier ${tiers[tier++]} matched`;
      // The end of a tier that goes on with the next one is no end.
      return detail === ACTIONS.pass ? [] : [{ end, action: "deny", ...seen }];
    }
    if (kind !== RECORD_KINDS.end) return [];
    const action = detail === ACTIONS.allow ? "allow" : "deny";
    return [{ end: isPlain(records) && action === "allow" ? "not isolated" : "end", action, ...seen }];
  });
}
