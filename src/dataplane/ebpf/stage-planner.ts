/** stage-planner: the stages of an endpoint as blocks, each behind the staged stage that is asked before it (POL-56). */
import { KernelError } from "../../kernel/errno.ts";
import { invariant } from "../../lib/bug.ts";
import { formatName } from "../../model/key.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import type { Stage } from "../../program/policy.ts";
import { type Endpoint, type EndpointId, policiesNamedBy } from "../../program/program.ts";
import type { BlockPlanner } from "./block-planner.ts";
import type { Block, BlockKind } from "./image.ts";
import { COUNTS_ALONE, encodeRecords, type ProgramRecord } from "./layout.ts";
import type { Placement, PlacedStage, PolicyUse } from "./placement.ts";
import { askStagedFirst, asStaged, lowerStage } from "./records.ts";

/** A stage that is not in a block yet. */
interface StageRecords {
  readonly kind: BlockKind;
  readonly text: string;
  readonly records: readonly ProgramRecord[];
}

export class StagePlanner {
  readonly #placement: Placement;
  readonly #blocks: BlockPlanner;
  readonly #refusalOf: (unit: string) => KernelError | undefined;

  constructor(placement: Placement, blocks: BlockPlanner, refusalOf: (unit: string) => KernelError | undefined) {
    this.#placement = placement;
    this.#blocks = blocks;
    this.#refusalOf = refusalOf;
  }

  /** Number of the first record of what is asked there; 0: nothing is. */
  place(id: EndpointId, endpoint: Endpoint, hook: Hook, direction: Direction, placed: PlacedStage[]): number {
    const own = this.#deciding(id, endpoint, hook, direction);
    const counting = this.#counting(id, endpoint, hook, direction, own);
    if (counting !== undefined) {
      placed.push(...counting.placed);
      return own === undefined ? counting.start | COUNTS_ALONE : counting.start;
    }
    if (own === undefined) return 0;
    const { content, start } = this.#blocks.put(`endpoint ${id}`, blockOf(own));
    placed.push({ which: "stages", hook, direction, content });
    return start;
  }

  /** One that names a policy that is held drops everything. */
  #deciding(id: EndpointId, endpoint: Endpoint, hook: Hook, direction: Direction): StageRecords | undefined {
    const given = endpoint.stages[hook]?.[direction];
    if (given === undefined) return undefined;
    const isOpen = this.#isOpen(given, direction);
    if (!isOpen) this.#placement.held.set(`endpoint ${id}`, { ...rowOf(endpoint), error: undefined });
    const stage: Stage = isOpen ? given : { tiers: [], profiles: [], otherwise: "deny" };
    return { kind: `stage-${direction}`, text: tierNames(stage), records: this.#lower(stage, direction) };
  }

  /** The staged stage, and what asks it before `own`. undefined: there is none, or it cannot be there, which is told and changes nothing else. */
  #counting(
    id: EndpointId,
    endpoint: Endpoint,
    hook: Hook,
    direction: Direction,
    own: StageRecords | undefined,
  ): { readonly placed: readonly PlacedStage[]; readonly start: number } | undefined {
    const stage = endpoint.staged?.[hook]?.[direction];
    if (stage === undefined) return undefined;
    const unit = `staged ${id}`;
    const hold = (error: KernelError | undefined): void =>
      void this.#placement.held.set(unit, {
        row: `staged counters of ${rowOf(endpoint).row}`,
        object: undefined,
        error,
      });
    const use = `staged-${direction}` as const;
    try {
      const refusal = this.#refusalOf(unit);
      if (refusal !== undefined) throw refusal;
      if (!this.#isOpen(stage, use)) {
        hold(undefined);
        return undefined;
      }
      const records = asStaged(this.#lower(stage, use));
      const staged = this.#blocks.put(
        unit,
        blockOf({ kind: `staged-stage-${direction}`, text: tierNames(stage), records }),
      );
      const asking = { kind: `stage-${direction}`, text: own?.text ?? "" } as const;
      const first = this.#blocks.put(unit, blockOf({ ...asking, records: askStagedFirst(staged.start, own?.records) }));
      const at = { hook, direction };
      return {
        placed: [
          { which: "stages", ...at, content: first.content },
          { which: "staged", ...at, content: staged.content },
        ],
        start: first.start,
      };
    } catch (refusal) {
      if (!(refusal instanceof KernelError)) throw refusal;
      hold(refusal);
      return undefined;
    }
  }

  /** Whether all policies that it names are in blocks. */
  #isOpen(stage: Stage, use: PolicyUse): boolean {
    return policiesNamedBy(stage).every((policy) => this.#placement.policies.has(`${use} ${policy}`));
  }

  #lower(stage: Stage, use: PolicyUse): ProgramRecord[] {
    return lowerStage(stage, (policy) => {
      const start = this.#placement.policies.get(`${use} ${policy}`)?.start;
      invariant(start !== undefined, `no ${use} policy ${policy}`);
      return start;
    });
  }
}

function tierNames({ tiers }: Stage): string {
  return tiers.map(({ tier }) => tier).join("\0");
}

function blockOf({ kind, text, records }: StageRecords): Pick<Block, "kind" | "text" | "records"> {
  return { kind, text, records: encodeRecords(records) };
}

export function rowOf({ kind, source }: Endpoint): { readonly row: string; readonly object: Endpoint["source"] } {
  return { row: `${kind === "host" ? "host endpoint" : "pod"} ${formatName(source)}`, object: source };
}
