/** families: what a node cannot do because its kernel lacks an address family. */
import type { RowUpdate } from "../model/convert/rows.ts";
import type { Family } from "../net/addr.ts";
import type { Fault } from "./events.ts";

/** A fault for each pool among the updates whose family the kernel of this node does not have. */
export function poolsWithoutFamily(
  updates: readonly RowUpdate[],
  node: string,
  families: ReadonlySet<Family>,
): Fault[] {
  const faults: Fault[] = [];
  for (const update of updates) {
    if (update.kind !== "IPPool" || update.value === undefined) continue;
    const { row: pool, object } = update.value;
    if (!pool.ok || pool.value.disabled || families.has(pool.value.family)) continue;
    const message = `The pool is of no use on node ${node}: its kernel has no IPv${pool.value.family}. Pods there cannot get addresses of the pool; other families go on`;
    faults.push({ key: update.key, metadata: object.metadata, reason: "FamilyUnavailable", message });
  }
  return faults;
}
