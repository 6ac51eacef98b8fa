/** status: what the kernel refuses of a driver's rows and what waits for it, in the words of those whose objects they are. */
import type { Failure } from "./failures.ts";
import { formatTimestamp } from "../lib/timestamp.ts";
import type { RowStatus } from "./driver.ts";
import type { Refusals } from "./refusals.ts";
import type { TableState } from "./table-state.ts";
import type { Unit } from "./units.ts";

export function statusOf<Row>(state: TableState<Row>, refusals: Refusals<Row>): readonly RowStatus[] {
  if (refusals.failures.size === 0) return [];
  const rows: RowStatus[] = [];
  for (const [id, failure] of refusals.failures.all) {
    const unit = state.unit(id);
    if (unit !== undefined) rows.push(failedRow(state, refusals, unit, failure));
  }
  for (const id of refusals.blocked.keys()) {
    const unit = state.unit(id);
    const root = refusals.rootOf(id);
    const failure = refusals.failures.get(root);
    const culprit = state.unit(root);
    if (unit === undefined || failure === undefined || culprit === undefined || refusals.isRefused(id)) continue;
    rows.push({
      row: refusals.describe(unit),
      object: unit.object,
      state: unit.kind === "endpoint" ? "closed" : "waiting",
      error: `waits for ${refusals.describe(culprit)}: ${failure.error.message}`,
      errno: undefined,
      since: formatTimestamp(failure.sinceMs),
      attempts: 0,
    });
  }
  return rows;
}

function failedRow<Row>(
  state: TableState<Row>,
  refusals: Refusals<Row>,
  unit: Unit,
  { error, sinceMs, attempts }: Failure,
): RowStatus {
  const users = unit.kind === "set" ? usersOf(state, unit) : [];
  const names = users.map((user) => refusals.describe(user)).join(", ");
  return {
    row: users.length === 0 ? refusals.describe(unit) : `${unit.id} of ${names}`,
    object: unit.object ?? users[0]?.object,
    state: "failed",
    error: error.message,
    errno: error.errno,
    since: formatTimestamp(sinceMs),
    attempts,
  };
}

/** The policies whose rules name the set. */
function usersOf<Row>(state: TableState<Row>, set: Unit): Unit[] {
  const users = new Set<Unit>();
  for (const [id, row] of state.want) {
    const owner = state.ownerOf(id);
    if (owner === undefined || owner.id === set.id) continue;
    if (state.kind.referencesOf(row).some((reference) => state.ownerOf(reference)?.id === set.id)) users.add(owner);
  }
  return [...users];
}

/** Why these are not in the kernel, in words; undefined when they only wait for their turn. */
export function explainUnits<Row>(
  state: TableState<Row>,
  refusals: Refusals<Row>,
  units: readonly Unit[],
): string | undefined {
  const roots = new Set(units.map(({ id }) => refusals.rootOf(id)));
  const reasons = [...roots].flatMap((root) => {
    const failure = refusals.failures.get(root);
    const unit = state.unit(root);
    return failure === undefined || unit === undefined ? [] : [`${refusals.describe(unit)}: ${failure.error.message}`];
  });
  return reasons.length === 0 ? undefined : reasons.join("; ");
}
