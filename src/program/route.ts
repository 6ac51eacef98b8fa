/** Route: one entry of a routing table of this node, as `ip route` would write it. */
import type { Brand } from "../lib/brand.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";

/** Table, destination and metric: we have one route in the kernel for each. */
export type RouteId = Brand<string, "RouteId">;

export interface Route {
  /** RT_TABLE_MAIN (254) or another. */
  readonly table: number;
  readonly destination: Prefix;
  /** undefined: the kernel's default. */
  readonly metric: number | undefined;
  /** `blackhole`: packets without a more specific route are dropped. */
  readonly type: "unicast" | "blackhole";
  /** Present exactly for `unicast`. */
  readonly device: string | undefined;
  /** The next hop; undefined: the destination is on-link. */
  readonly via: Addr | undefined;
}

/** Source: linux/rtnetlink.h. */
export const MAIN_TABLE = 254;

/** `10.65.0.1/32`, with ` metric N` and ` table N` where they are not the defaults. */
export function routeIdOf({ table, destination, metric }: Pick<Route, "table" | "destination" | "metric">): RouteId {
  const metricText = metric === undefined ? "" : ` metric ${metric}`;
  return `${destination}${metricText}${table === MAIN_TABLE ? "" : ` table ${table}`}` as RouteId;
}

/** `blackhole 10.65.0.0/26 metric 7`, `10.65.0.1/32 dev cali1`. */
export function formatRoute({ table, destination, metric, type, device, via }: Route): string {
  const words = [
    ...(type === "blackhole" ? ["blackhole"] : []),
    destination,
    ...(via === undefined ? [] : ["via", via]),
    ...(device === undefined ? [] : ["dev", device]),
    ...(metric === undefined ? [] : ["metric", String(metric)]),
    ...(table === MAIN_TABLE ? [] : ["table", String(table)]),
  ];
  return words.join(" ");
}

/** The on-link route to an address of a workload. */
export function localRoute(destination: Prefix, device: string): Route {
  return { table: MAIN_TABLE, destination, metric: undefined, type: "unicast", device, via: undefined };
}

export function blackholeRoute(destination: Prefix, metric?: number): Route {
  return { table: MAIN_TABLE, destination, metric, type: "blackhole", device: undefined, via: undefined };
}
