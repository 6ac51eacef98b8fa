/**
 * EndpointParts: what each endpoint was lowered to, part by part: a stage and what is counted before it, the dispatch to it, its addresses. Of an
 * endpoint that changes only those parts are lowered whose objects are others than before, and only rows that differ are told.
 */
import type { Direction, Hook } from "../../model/policy.ts";
import {
  type ChangedStage,
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  hasStage,
  HOOKS,
} from "../../program/program.ts";
import { addressRows, dispatchRows } from "./dispatch.ts";
import { stageChain, stagedChain } from "./names.ts";
import { chainId, type NftRow, sameRow } from "./rows.ts";
import { type CallsOf, lowerPlace } from "./stage-chains.ts";
import type { OwnedRow } from "../table-state.ts";
import { continuationOf } from "../uses.ts";
import type { Unit } from "../units.ts";

/** What an endpoint was, and which of its stages are other objects now. */
export interface EndpointChange {
  readonly before: Endpoint | undefined;
  readonly stages: readonly ChangedStage[];
}

type Rows = ReadonlyMap<string, NftRow>;
/** By name of the part. */
type Parts = Map<string, Rows>;

const NO_ROWS: Rows = new Map();
const PLACES = HOOKS.flatMap((hook) => DIRECTIONS.map((direction) => ({ hook, direction })));

export class EndpointParts {
  readonly #callsOf: CallsOf;
  readonly #parts = new Map<EndpointId, Parts>();

  constructor(callsOf: CallsOf) {
    this.#callsOf = callsOf;
  }

  /** Rows that are others, or no longer wanted. `change` undefined: all of the endpoint is lowered anew. */
  step(
    id: EndpointId,
    endpoint: Endpoint | undefined,
    change: EndpointChange | undefined,
  ): ReadonlyMap<string, OwnedRow<NftRow> | undefined> {
    const parts: Parts = this.#parts.get(id) ?? new Map();
    const isOther = endpoint === undefined || endpoint.kind !== change?.before?.kind;
    const lowered: Parts = new Map();
    if (isOther) for (const name of parts.keys()) lowered.set(name, NO_ROWS);
    if (endpoint !== undefined) this.#lower(id, endpoint, isOther ? undefined : change, parts, lowered);
    const unit: Unit = { kind: "endpoint", id: `endpoint ${id}`, object: endpoint?.source };
    const told = new Map<string, OwnedRow<NftRow> | undefined>();
    // What one part no longer has may be another's.
    for (const [name, rows] of lowered)
      for (const rowId of parts.get(name)?.keys() ?? []) if (!rows.has(rowId)) told.set(rowId, undefined);
    for (const [name, rows] of lowered) {
      const before = parts.get(name);
      for (const [rowId, row] of rows) if (before?.get(rowId) !== row) told.set(rowId, { row, unit });
      if (rows.size === 0) parts.delete(name);
      else parts.set(name, rows);
    }
    if (endpoint === undefined) this.#parts.delete(id);
    else this.#parts.set(id, parts);
    return told;
  }

  /** Puts those that may differ from before into `to`. `change` undefined: all. */
  #lower(id: EndpointId, endpoint: Endpoint, change: EndpointChange | undefined, before: Parts, to: Parts): void {
    const put = (name: string, rows: Map<string, NftRow>): void => void to.set(name, keeping(before.get(name), rows));
    for (const { hook, direction } of change?.stages ?? PLACES) {
      const name = `${hook} ${direction}`;
      const [has, had] = [hasStage(endpoint, hook, direction), before.has(name)];
      if (has) put(name, this.#stageRows(id, endpoint, hook, direction, change?.before, before.get(name)));
      else if (had) put(name, new Map());
      if (change === undefined || has !== had)
        put(`to ${name}`, has ? dispatchRows(id, endpoint, hook, direction) : new Map());
    }
    if (change?.before?.addresses !== endpoint.addresses || change.before.sources !== endpoint.sources)
      put("addresses", addressRows(id, endpoint));
  }

  #stageRows(
    id: EndpointId,
    endpoint: Endpoint,
    hook: Hook,
    direction: Direction,
    before: Endpoint | undefined,
    known: Rows | undefined,
  ): Map<string, NftRow> {
    const rows = new Map<string, NftRow>();
    const continuation = continuationOf(endpoint.kind, hook, direction);
    const chain = (tier?: string): string => stageChain(id, endpoint, hook, direction, tier);
    const countedBefore = (tier?: string): string => stagedChain(id, endpoint, hook, direction, tier);
    const [stage, staged] = [endpoint.stages[hook]?.[direction], endpoint.staged?.[hook]?.[direction]];
    const context = { direction, continuation, chain, callsOf: this.#callsOf };
    const earlier = before && {
      stage: before.stages[hook]?.[direction],
      staged: before.staged?.[hook]?.[direction],
      rulesOf: (name: string) => {
        const row = known?.get(chainId(name));
        return row?.type === "chain" ? row.rules : undefined;
      },
    };
    for (const [name, rules] of lowerPlace(stage, staged, context, countedBefore, earlier))
      rows.set(chainId(name), { type: "chain", chain: name, base: undefined, rules });
    return rows;
  }
}

/** The rows, made of those before where these are equal: nobody need look at them again. */
function keeping(before: Rows | undefined, rows: Map<string, NftRow>): Rows {
  for (const [id, row] of rows) {
    const old = before?.get(id);
    if (old !== undefined && sameRow(old, row)) rows.set(id, old);
  }
  return rows;
}
