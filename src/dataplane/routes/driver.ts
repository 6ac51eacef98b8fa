/**
 * Driver of this node's own routes: one on-link route for each local address, one blackhole for each block of this node.
 *
 * Ours are the routes of the main table with protocol 80 (upstream's RTPROT for Calico); all others, BIRD's among them, are left alone:
 * nothing is ever written over a route that is there. Where somebody else has a route of the same destination and metric, ours waits, with
 * an error that names his, until it is gone. A route whose interface does not exist yet stays pending and is written when the interface
 * has come.
 *
 * A block that is given up leaves a blackhole of the highest metric for a while: until the other nodes have heard of it they still
 * send here, and their packets must not go on by a default route. Any other route to the block comes before it.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import {
  IP6_DEFAULT_METRIC,
  type KernelRoute,
  MAIN_TABLE,
  RouteClient,
  type RouteChange,
  SCOPE_LINK,
  SCOPE_UNIVERSE,
} from "../../kernel/route/client.ts";
import { EEXIST, ESRCH, KernelError } from "../../kernel/errno.ts";
import { FAMILIES, type Family } from "../../net/addr.ts";
import { type Prefix, prefixAddr, prefixFamily, prefixOfAddr } from "../../net/prefix.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import type { Driver } from "../driver.ts";
import { type Change, Tracker } from "../tracker.ts";
import { destinationOf, LEAVING_METRIC, leavingId, ROUTE_PROTOCOL, type Row, rowsOf, sameRow } from "./rows.ts";

/** BGP speakers may hold back news for 30 s. Source: RFC 4271, MinRouteAdvertisementIntervalTimer. */
const LEAVING_MS = 30_000;

/** The requests of one change: what goes of ours, then what comes. */
interface Requests {
  readonly change: Change<Row>;
  readonly add: KernelRoute | undefined;
  readonly all: readonly RouteChange[];
}

export class RoutesDriver implements Driver {
  readonly name = "routes";
  readonly #client: RouteClient;
  readonly #families: ReadonlySet<Family>;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #tracker = new Tracker<Row>(sameRow);
  /** Until when what blocks leave is wanted, by row. */
  readonly #leaving = new Map<string, number>();

  /** `families`: those that the kernel has. Blocks of another need no blackhole: nothing can be sent to them. */
  constructor(sys: Sys, clock: Pick<Clock, "monotonicMs">, families: ReadonlySet<Family> = new Set(FAMILIES)) {
    this.#families = families;
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
    for (const [id, route] of delta.routes) {
      const isWanted = route !== undefined && (route.type === "local" || this.#families.has(prefixFamily(id)));
      this.#tracker.setWant(id, isWanted ? { is: route } : undefined);
    }
  }

  read(): void {
    const names = new Map(this.#client.links().map((link) => [link.index, link.name]));
    const have = rowsOf(this.#client.routes({ table: MAIN_TABLE }), names, this.#tracker.want);
    for (const [id, { is }] of have) {
      // Left by an earlier process: nobody knows when.
      if (is.type === "leaving" && !this.#leaving.has(id)) this.#leave(id);
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
      if (want === undefined && have?.is.type === "blackhole" && !id.startsWith("surplus ")) this.#leave(leavingId(id));
    }
    // What comes is there before what goes has gone.
    const changes = this.#tracker
      .changes()
      .filter((change) => this.#isPossible(change))
      .sort((a, b) => Number(a.want === undefined) - Number(b.want === undefined));
    const requests = changes.map((change) => this.#requestsOf(change));
    const answers = this.#client.changeRoutes(requests.flatMap(({ all }) => all));
    const failures: { readonly error: KernelError; readonly add: KernelRoute | undefined }[] = [];
    let at = 0;
    for (const { change, add, all } of requests) {
      const errors = all.map((request) => this.#failureOf(request, answers[at++]));
      const error = errors.find((each) => each !== undefined);
      if (error === undefined)
        this.#tracker.setHave(
          change.id,
          change.want === undefined || add === undefined ? undefined : { is: change.want.is, kernel: add },
        );
      else {
        // Ours may have gone before what should come was refused.
        if (add !== undefined && change.have !== undefined && errors[0] === undefined)
          this.#tracker.setHave(change.id, undefined);
        failures.push({ error, add });
      }
    }
    const [first] = failures;
    if (first !== undefined) throw this.#explain(first.error, first.add);
  }

  /** From now on the row is wanted for a while. */
  #leave(id: string): void {
    this.#leaving.set(id, this.#clock.monotonicMs() + LEAVING_MS);
    this.#tracker.setWant(id, { is: { type: "leaving" } });
  }

  /** A local route can be written only while its interface exists. */
  #isPossible({ want }: Change<Row>): boolean {
    return want?.is.type !== "local" || this.#client.linkByName(want.is.interface) !== undefined;
  }

  /** Never a replacement, which would take whatever route is there by then. */
  #requestsOf(change: Change<Row>): Requests {
    const add = change.want === undefined ? undefined : this.#routeOf(change.id, change.want);
    const gone = change.have?.kernel;
    const all: RouteChange[] = [];
    // A metric that is left out would match any.
    if (gone !== undefined)
      all.push({
        do: "delete",
        route: { ...gone, metric: gone.metric ?? (prefixFamily(gone.destination) === 6 ? IP6_DEFAULT_METRIC : 0) },
      });
    if (add !== undefined) all.push({ do: "add", route: add });
    return { change, add, all };
  }

  #routeOf(id: string, { is }: Row): KernelRoute {
    const base = { destination: destinationOf(id) as Prefix, table: MAIN_TABLE, protocol: ROUTE_PROTOCOL };
    if (is.type !== "local")
      return {
        ...base,
        type: "blackhole",
        scope: SCOPE_UNIVERSE,
        ...(is.type === "leaving" ? { metric: LEAVING_METRIC } : {}),
      };
    const link = this.#client.linkByName(is.interface);
    return { ...base, type: "unicast", scope: SCOPE_LINK, interfaceIndex: link?.index ?? 0 };
  }

  /** undefined also for a deletion of what has gone (the kernel removes routes of a deleted interface itself), and for what is there already. */
  #failureOf(request: RouteChange, error: KernelError | undefined): KernelError | undefined {
    if (request.do === "delete" && error?.errno === ESRCH) return undefined;
    return request.do === "add" && error?.errno === EEXIST && this.#isThere(request.route) ? undefined : error;
  }

  /** Whether our route to the local address is in place: ADD writes it too, when it makes the interface. */
  #isThere(route: KernelRoute): boolean {
    if (route.type !== "unicast") return false;
    const there = this.#client.routeTo(prefixAddr(route.destination));
    return (
      there !== undefined &&
      (["destination", "table", "protocol", "type", "interfaceIndex", "metric", "tos", "gateway"] as const).every(
        (field) => there[field] === route[field],
      )
    );
  }

  /** Names the route that stands in the way. */
  #explain(error: KernelError, add: KernelRoute | undefined): KernelError {
    if (error.errno !== EEXIST || add === undefined) return error;
    const other = this.#client
      .routes({ table: MAIN_TABLE })
      .find(
        ({ destination, metric, protocol }) =>
          destination === add.destination && metric === add.metric && protocol !== ROUTE_PROTOCOL,
      );
    if (other === undefined) return error;
    const name = this.#client.links().find(({ index }) => index === other.interfaceIndex)?.name;
    const device = name === undefined ? "" : ` dev ${name}`;
    const via = other.gateway === undefined ? "" : ` via ${other.gateway}`;
    return new KernelError(
      "add route",
      `${add.type} ${add.destination}`,
      EEXIST,
      `another's route is there: ${other.type} ${other.destination}${via}${device}, protocol ${other.protocol}`,
    );
  }

  close(): void {
    this.#client.close();
  }
}
