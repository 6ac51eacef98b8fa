/**
 * Rows: this node's own routes as keyed rows: what is wanted, and what the kernel has, route by route.
 *
 * Whatever of our protocol cannot be a route of the program (a type of service, a type or an attribute that we do not use), and a second
 * one of the same identity, has a row of its own, which nobody wants.
 */
import type { KernelRoute } from "../../kernel/route/client.ts";
import { equal } from "../../lib/equal.ts";
import { type Route, routeIdOf } from "../../program/route.ts";

/** Upstream: RTPROT 80; operators filter on it (`ip route show proto 80`). */
export const ROUTE_PROTOCOL = 80;

export interface Row {
  readonly is: Route | "other";
  /** As the kernel has it; absent in what is wanted. */
  readonly kernel?: KernelRoute;
}

/** The highest that there is: of what a block leaves for a while when it is given up. */
export const LEAVING_METRIC = 0xffff_ffff;

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

function idOf({ table, destination, metric, tos }: KernelRoute): string | undefined {
  return tos === undefined ? routeIdOf({ table, destination, metric }) : undefined;
}

function readRoute(route: KernelRoute, linkNames: ReadonlyMap<number, string>): Row["is"] {
  const { table, destination, metric, type, gateway: via } = route;
  if (type === "blackhole") return { table, destination, metric, type, device: undefined, via: undefined };
  const device = route.interfaceIndex === undefined ? undefined : linkNames.get(route.interfaceIndex);
  return type !== "unicast" || device === undefined ? "other" : { table, destination, metric, type, device, via };
}
