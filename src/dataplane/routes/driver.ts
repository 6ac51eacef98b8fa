/**
 * Driver of this node's own routes: one on-link route for each local address, one blackhole for each block of this node.
 *
 * Ours are the routes of the main table with protocol 80 (upstream's RTPROT for Calico); all others, BIRD's among them, are
 * left alone. A route whose interface does not exist yet stays pending and is written when the interface has come.
 *
 * A block that is given up leaves a blackhole of the highest metric for a while: until the other nodes have heard of it they still
 * send here, and their packets must not go on by a default route. Any other route to the block comes before it.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import { RouteClient, type KernelRoute } from "../../kernel/route/client.ts";
import type { KernelError } from "../../kernel/errno.ts";
import { type Prefix, prefixOfAddr } from "../../net/prefix.ts";
import type { EndpointId, Program, ProgramDelta, Route } from "../../program/program.ts";
import type { Driver } from "../driver.ts";
import { type Change, Tracker } from "../tracker.ts";

/** Upstream: RTPROT 80; operators filter on it (`ip route show proto 80`). */
export const ROUTE_PROTOCOL = 80;
/** RT_TABLE_MAIN of linux/rtnetlink.h. */
const MAIN_TABLE = 254;
/** RT_SCOPE_UNIVERSE, RT_SCOPE_LINK. */
const SCOPE_UNIVERSE = 0;
const SCOPE_LINK = 253;

/** The highest that there is. */
const LEAVING_METRIC = 0xffff_ffff;
/** BGP speakers may hold back news for 30 s. Source: RFC 4271, MinRouteAdvertisementIntervalTimer. */
const LEAVING_MS = 30_000;

type Row = Route | { readonly type: "leaving" } | { readonly type: "foreign" };

/** Id of the row of what a block leaves; a destination is the id of all others. */
function leavingId(destination: string): string {
  return `${destination} leaving`;
}

export class RoutesDriver implements Driver {
  readonly name = "routes";
  readonly #client: RouteClient;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #tracker = new Tracker<Row>();
  /** Until when what blocks leave is wanted, by row. */
  readonly #leaving = new Map<string, number>();

  constructor(sys: Sys, clock: Pick<Clock, "monotonicMs">) {
    this.#client = new RouteClient(sys);
    this.#clock = clock;
  }

  get pending(): number {
    return this.#tracker.pending + this.#expired().length;
  }

  #expired(): string[] {
    const now = this.#clock.monotonicMs();
    return [...this.#leaving].flatMap(([id, untilMs]) => (now < untilMs ? [] : [id]));
  }

  get writes(): number {
    return this.#client.writes;
  }

  isProgrammed(endpoint: EndpointId, program: Program): boolean {
    const addresses = program.endpoints.get(endpoint)?.addresses ?? [];
    return addresses.every((addr) => !this.#tracker.isPending(prefixOfAddr(addr)));
  }

  lower(_program: Program, delta: ProgramDelta): void {
    for (const [id, route] of delta.routes) this.#tracker.setWant(id, route);
  }

  read(): void {
    const names = new Map(this.#client.links().map((link) => [link.index, link.name]));
    const have = new Map<string, Row>();
    for (const route of this.#client.routes({ table: MAIN_TABLE })) {
      if (route.protocol !== ROUTE_PROTOCOL) continue;
      if (route.metric !== LEAVING_METRIC) {
        have.set(route.destination, rowOf(route, names));
        continue;
      }
      const id = leavingId(route.destination);
      have.set(id, { type: "leaving" });
      // Left by an earlier process: nobody knows when.
      if (!this.#leaving.has(id)) this.#leave(id);
    }
    this.#tracker.replaceHave(have);
  }

  commit(): void {
    for (const id of this.#expired()) {
      this.#leaving.delete(id);
      this.#tracker.setWant(id, undefined);
    }
    if (this.#tracker.pending === 0) return;
    for (const { id, want, have } of this.#tracker.changes()) {
      if (want !== undefined || have?.type !== "blackhole") continue;
      this.#leave(leavingId(id));
    }
    // What comes is there before what goes has gone.
    const changes = this.#tracker.changes().filter((change) => this.#possible(change)).sort((a, b) => Number(a.want === undefined) - Number(b.want === undefined));
    const failures = this.#client.changeRoutes(changes.map((change) => this.#requestOf(change)));
    const done = changes.filter((change, i) => failures[i] === undefined || isAlreadyGone(change, failures[i]));
    this.#tracker.committed(done);
    changes.forEach((change, i) => {
      const failure = failures[i];
      if (failure !== undefined && !isAlreadyGone(change, failure)) throw failure;
    });
  }

  /** From now on the row is wanted for a while. */
  #leave(id: string): void {
    this.#leaving.set(id, this.#clock.monotonicMs() + LEAVING_MS);
    this.#tracker.setWant(id, { type: "leaving" });
  }

  /** A local route can be written only while its interface exists. */
  #possible(change: Change<Row>): boolean {
    return change.want?.type !== "local" || this.#client.linkByName(change.want.interface) !== undefined;
  }

  #requestOf(change: Change<Row>): { do: "replace" | "delete"; route: KernelRoute } {
    const base = { destination: change.id as Prefix, table: MAIN_TABLE, protocol: ROUTE_PROTOCOL };
    if (change.want?.type === "leaving" || change.have?.type === "leaving") {
      const destination = change.id.slice(0, -leavingId("").length) as Prefix;
      return { do: change.want === undefined ? "delete" : "replace", route: { ...base, destination, type: "blackhole", scope: SCOPE_UNIVERSE, metric: LEAVING_METRIC } };
    }
    if (change.want?.type === "local") {
      const interfaceIndex = this.#client.linkByName(change.want.interface)?.index ?? 0;
      return { do: "replace", route: { ...base, type: "unicast", scope: SCOPE_LINK, interfaceIndex } };
    }
    const type = change.want?.type === "blackhole" || change.have?.type === "blackhole" ? "blackhole" : "unicast";
    const scope = type === "blackhole" ? SCOPE_UNIVERSE : SCOPE_LINK;
    return { do: change.want === undefined ? "delete" : "replace", route: { ...base, type, scope } };
  }

  close(): void {
    this.#client.close();
  }
}

function rowOf(route: KernelRoute, names: ReadonlyMap<number, string>): Row {
  if (route.type === "blackhole") return { type: "blackhole" };
  const name = route.interfaceIndex === undefined ? undefined : names.get(route.interfaceIndex);
  if (route.type !== "unicast" || name === undefined || route.gateway !== undefined) return { type: "foreign" };
  return { type: "local", interface: name };
}

/** ESRCH: the kernel removes routes of a deleted interface itself. */
function isAlreadyGone(change: Change<Row>, error: KernelError): boolean {
  return change.want === undefined && error.errno === 3;
}
