/**
 * Rows: this node's own routes as keyed rows: what is wanted by destination, and what the kernel has, route by route.
 *
 * A destination is the id of its route of the usual metric. Whatever else of our protocol is found (another metric or type of service, a
 * second route of the same) has a row of its own, which nobody wants.
 */
import type { KernelRoute } from "../../kernel/route/client.ts";
import { equal } from "../../lib/equal.ts";
import type { Route } from "../../program/program.ts";

/** Upstream: RTPROT 80; operators filter on it (`ip route show proto 80`). */
export const ROUTE_PROTOCOL = 80;

export interface Row {
  readonly is: Route | { readonly type: "leaving" } | { readonly type: "other" };
  /** As the kernel has it; absent in what is wanted. */
  readonly kernel?: KernelRoute;
}

/** The highest that there is. */
export const LEAVING_METRIC = 0xffff_ffff;
const LEAVING = " leaving";

/** Id of the row of what a block leaves; a destination is the id of all others. */
export function leavingId(destination: string): string {
  return destination + LEAVING;
}

/** The destination of a wanted row. */
export function destinationOf(id: string): string {
  return id.endsWith(LEAVING) ? id.slice(0, -LEAVING.length) : id;
}

export function sameRow(a: Row, b: Row): boolean {
  return equal(a.is, b.is);
}

/** The rows of our routes among these; of several that would have one id, the wanted one has it. */
export function rowsOf(
  routes: readonly KernelRoute[],
  linkNames: ReadonlyMap<number, string>,
  want: ReadonlyMap<string, Row>,
): Map<string, Row> {
  const rows = new Map<string, Row>();
  const surplus: Row[] = [];
  for (const kernel of routes) {
    if (kernel.protocol !== ROUTE_PROTOCOL) continue;
    const row: Row = { is: readRoute(kernel, linkNames), kernel };
    const id = idOf(kernel);
    const before = id === undefined ? undefined : rows.get(id);
    if (id === undefined) surplus.push(row);
    else if (before === undefined) rows.set(id, row);
    else {
      const wanted = want.get(id);
      const isBetter = wanted !== undefined && sameRow(wanted, row) && !sameRow(wanted, before);
      surplus.push(isBetter ? before : row);
      if (isBetter) rows.set(id, row);
    }
  }
  surplus.forEach((row, i) => rows.set(`surplus ${i}`, row));
  return rows;
}

function idOf({ destination, metric, tos }: KernelRoute): string | undefined {
  if (tos !== undefined) return undefined;
  if (metric === undefined) return destination;
  return metric === LEAVING_METRIC ? leavingId(destination) : undefined;
}

function readRoute(route: KernelRoute, linkNames: ReadonlyMap<number, string>): Row["is"] {
  if (route.type === "blackhole") return { type: route.metric === LEAVING_METRIC ? "leaving" : "blackhole" };
  const name = route.interfaceIndex === undefined ? undefined : linkNames.get(route.interfaceIndex);
  if (route.type !== "unicast" || name === undefined || route.gateway !== undefined) return { type: "other" };
  return { type: "local", interface: name };
}
