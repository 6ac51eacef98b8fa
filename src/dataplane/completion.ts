/** completion: which units an endpoint needs that are not in the kernel as they are wanted. */
import type { EndpointId } from "../program/program.ts";
import type { Refusals } from "./refusals.ts";
import type { TableState } from "./table-state.ts";
import { BASE_UNIT, type Unit } from "./units.ts";

/**
 * The endpoint's unit, the dispatch to it, and those that it refers to, as far as they are not finished; undefined: there is no such endpoint.
 * `isFilled`: whether the set of a row has its members.
 */
export function unfinishedUnits<Row>(
  state: TableState<Row>,
  refusals: Refusals<Row>,
  endpoint: EndpointId,
  isFilled: (row: Row) => boolean,
): readonly Unit[] | undefined {
  const unit = state.unit(`endpoint ${endpoint}`);
  if (unit === undefined) return undefined;
  // Which refers to all endpoints.
  const dispatch = state.kind.isDispatchApart ? state.unit(BASE_UNIT.id) : undefined;
  const seen = new Set(dispatch === undefined ? [unit] : [unit, dispatch]);
  for (const each of seen) if (each !== dispatch) for (const referred of state.referredBy(each.id)) seen.add(referred);
  return [...seen].filter((each) => !isFinished(state, refusals, each, isFilled));
}

function isFinished<Row>(
  state: TableState<Row>,
  refusals: Refusals<Row>,
  unit: Unit,
  isFilled: (row: Row) => boolean,
): boolean {
  if (refusals.isHeld(unit.id)) return false;
  for (const id of state.rowsOf(unit.id)) {
    if (state.isPending(id)) return false;
    const row = state.want.get(id);
    if (row !== undefined && !isFilled(row)) return false;
  }
  return true;
}
