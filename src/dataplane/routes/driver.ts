/**
 * Driver of this node's own routes: one on-link route for each local address, one blackhole for each block of this node.
 *
 * Ours are the routes of the main table with protocol 80 (upstream's RTPROT for Calico); all others, BIRD's among them, are left alone:
 * nothing is ever written over a route that is there. Where somebody else has a route of the same destination and metric, ours waits, with
 * an error that names his, until it is gone. A route whose interface does not exist yet, or is down, stays pending and is written when
 * the kernel tells that the interface has come. Nobody else writes these routes, and what others do to them is put back as it is heard.
 *
 * A block that is given up leaves a blackhole of the highest metric for a while: until the other nodes have heard of it they still
 * send here, and their packets must not go on by a default route. Any other route to the block comes before it.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import type { Watch, Watcher } from "../../host/watcher.ts";
import {
  IP6_DEFAULT_METRIC,
  type KernelRoute,
  RouteClient,
  type RouteChange,
  SCOPE_LINK,
  SCOPE_UNIVERSE,
} from "../../kernel/route/client.ts";
import { openRouteNotifications, readNews, ROUTE_GROUPS, type RouteNews } from "../../kernel/route/monitor.ts";
import { invariant } from "../../lib/bug.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import { EEXIST, ESRCH, KernelError } from "../../kernel/errno.ts";
import { FAMILIES, type Family } from "../../net/addr.ts";
import { prefixAddr, prefixFamily } from "../../net/prefix.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { blackholeRoute, formatRoute, MAIN_TABLE, type Route, routeIdOf } from "../../program/route.ts";
import {
  type Driver,
  type DriverEvents,
  finishSteps,
  type PlannedChange,
  type RowStatus,
  type Steps,
} from "../driver.ts";
import { Failures } from "../failures.ts";
import { type Change, Tracker } from "../tracker.ts";
import { LEAVING_METRIC, ROUTE_PROTOCOL, type Row, rowsOf, sameRow } from "./rows.ts";

/** BGP speakers may hold back news for 30 s. Source: RFC 4271, MinRouteAdvertisementIntervalTimer. */
const LEAVING_MS = 30_000;
/** Routes written in one step. */
const BATCH = 300;

/** The requests of one change: what goes of ours, then what comes. */
interface Requests {
  readonly change: Change<Row>;
  readonly add: KernelRoute | undefined;
  readonly all: readonly RouteChange[];
}

export class RoutesDriver implements Driver {
  readonly name = "routes";
  readonly isFresh = false;
  readonly #sys: Sys;
  readonly #client: RouteClient;
  /** For reads in steps, between which routes may be written. */
  readonly #reader: RouteClient;
  readonly #families: ReadonlySet<Family>;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #tracker = new Tracker<Row>(sameRow);
  readonly #failures: Failures;
  /** Until when what blocks leave is wanted, by row. */
  readonly #leaving = new Map<string, number>();
  /** Wanted routes by interface. */
  readonly #byInterface = new Map<string, Set<string>>();

  /** `families`: those that the kernel has. Blocks of another need no blackhole: nothing can be sent to them. */
  constructor(
    sys: Sys,
    clock: Pick<Clock, "monotonicMs" | "wallMs">,
    families: ReadonlySet<Family> = new Set(FAMILIES),
  ) {
    this.#sys = sys;
    this.#families = families;
    this.#client = new RouteClient(sys);
    this.#reader = new RouteClient(sys);
    this.#clock = clock;
    this.#failures = new Failures(clock);
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

  get dueMs(): number | undefined {
    const due = [...this.#leaving.values()];
    if (this.#failures.nextMs !== undefined) due.push(this.#failures.nextMs);
    return due.length === 0 ? undefined : Math.min(...due);
  }

  get failures(): readonly RowStatus[] {
    return [...this.#failures.all].map(([id, { error, sinceMs, attempts }]) => ({
      row: `route ${id}`,
      object: undefined,
      state: "failed",
      error: error.message,
      errno: error.errno,
      since: formatTimestamp(sinceMs),
      attempts,
    }));
  }

  isProgrammed(endpoint: EndpointId): boolean {
    return this.#pendingOf(endpoint).length === 0;
  }

  explain(endpoint: EndpointId): string | undefined {
    const reasons = this.#pendingOf(endpoint).map(
      (id) => this.#failures.get(id)?.error.message ?? `route ${id} waits for interface ${endpoint}`,
    );
    return reasons.length === 0 ? undefined : reasons.join("; ");
  }

  #pendingOf(endpoint: EndpointId): string[] {
    return [...(this.#byInterface.get(endpoint) ?? [])].filter((id) => this.#tracker.isPending(id));
  }

  lower(_program: Program, delta: ProgramDelta): void {
    for (const [id, route] of delta.routes) {
      const isWanted =
        route !== undefined && (route.type === "unicast" || this.#families.has(prefixFamily(route.destination)));
      this.#index(id, deviceOf(this.#tracker.want.get(id)), isWanted ? route.device : undefined);
      this.#tracker.setWant(id, isWanted ? { is: route } : undefined);
      this.#failures.hasten(id);
    }
  }

  #index(id: string, before: string | undefined, now: string | undefined): void {
    if (before !== undefined) {
      const ids = this.#byInterface.get(before);
      ids?.delete(id);
      if (ids?.size === 0) this.#byInterface.delete(before);
    }
    if (now === undefined) return;
    const ids = this.#byInterface.get(now);
    if (ids === undefined) this.#byInterface.set(now, new Set([id]));
    else ids.add(id);
  }

  *reading(): Steps {
    for (let attempt = 0; ; attempt++) {
      const { writes } = this.#client;
      const links = attempt === 0 ? yield* this.#reader.linksInSteps() : this.#reader.links();
      const names = new Map(links.map((link) => [link.index, link.name]));
      const steps = this.#reader.routesInSteps(MAIN_TABLE);
      let step = steps.next();
      // What was written meanwhile may or may not be in it: then it is read once more, in one go.
      for (; step.done !== true; step = steps.next()) if (attempt === 0) yield;
      if (this.#client.writes === writes) return this.#adopt(rowsOf(step.value, names, this.#tracker.want));
    }
  }

  #adopt(have: ReadonlyMap<string, Row>): void {
    for (const [id, { is }] of have) {
      // Left by an earlier process: nobody knows when.
      if (is !== "other" && isLeft(is) && !this.#leaving.has(id)) this.#leave(is);
    }
    this.#tracker.replaceHave(have);
    // Whatever stood in the way may have gone.
    for (const id of this.#failures.all.keys()) this.#failures.hasten(id);
  }

  /** Reads all at once. */
  read(): void {
    finishSteps(this.reading());
  }

  watch(watcher: Watcher, events: DriverEvents): Watch {
    return watcher.watch(openRouteNotifications(this.#sys, ROUTE_GROUPS), {
      received: (datagram) => {
        if (readNews(datagram).some((news) => this.#concerns(news))) events.changed("somebody else");
      },
      lost: (cause) => events.lost(cause),
    });
  }

  /** Whether it may be about what is ours: then all of it is read. */
  #concerns(news: RouteNews): boolean {
    if (news.type === "settings") return false;
    if (news.type === "route") {
      const { protocol, table, destination, metric } = news.route;
      if (news.by !== 0 && news.by === this.#client.portId) return false;
      if (table !== MAIN_TABLE) return false;
      // Another's may have taken the place of ours, or may have left it.
      return protocol === ROUTE_PROTOCOL || (metric === undefined && this.#tracker.want.has(destination));
    }
    const ids = [...(this.#byInterface.get(news.link.name) ?? [])];
    if (ids.length === 0) return false;
    // The news may be older than what has been written since: an interface is made, set up and routed at once. But the kernel takes the
    // routes of an interface that goes down away without a word.
    try {
      const link = this.#client.linkByName(news.link.name);
      return ids.some((id) => {
        const kernel = this.#tracker.have.get(id)?.kernel;
        if (link?.up !== true) return kernel !== undefined;
        return this.#tracker.isPending(id) || kernel?.interfaceIndex !== link.index || !this.#isThere(kernel);
      });
    } catch (error) {
      // Not known: then all of it is read, and what the kernel refuses then is retried.
      if (error instanceof KernelError) return true;
      throw error;
    }
  }

  plan(): readonly PlannedChange[] {
    return this.#tracker.changes().map(({ id, want, have }) => ({
      sign: want === undefined ? "-" : have === undefined ? "+" : "~",
      what: `route ${describeRow(id, want ?? have)}`,
      lines:
        want !== undefined && have !== undefined ? [`- ${describeRow(id, have)}`, `+ ${describeRow(id, want)}`] : [],
    }));
  }

  /** Writes all at once. Throws the first refusal that stands then. */
  commit(): void {
    for (const id of this.#failures.all.keys()) this.#failures.hasten(id);
    finishSteps(this.committing());
    const [first] = this.#failures.all.values();
    if (first !== undefined) throw first.error;
  }

  *committing(): Steps {
    for (const id of this.#expired()) {
      this.#leaving.delete(id);
      this.#tracker.setWant(id, undefined);
    }
    for (const id of this.#failures.all.keys()) if (!this.#tracker.isPending(id)) this.#failures.forget(id);
    if (this.#tracker.pending === 0) return;
    for (const { id, want, have } of this.#tracker.changes()) {
      if (want === undefined && have !== undefined && isBlock(have.is) && !id.startsWith("surplus "))
        this.#leave(blackholeRoute(have.is.destination, LEAVING_METRIC));
    }
    const due = new Set(this.#failures.due());
    const isDue = (id: string): boolean => this.#failures.get(id) === undefined || due.has(id);
    // What comes is there before what goes has gone.
    const changes = this.#tracker
      .changes()
      .filter((change) => isDue(change.id) && this.#isPossible(change))
      .sort((a, b) => Number(a.want === undefined) - Number(b.want === undefined));
    for (let at = 0; at < changes.length; at += BATCH) {
      if (at > 0) yield;
      // What is wanted may have changed meanwhile.
      this.#write(changes.slice(at, at + BATCH).filter((change) => this.#tracker.want.get(change.id) === change.want));
    }
    for (const id of due) if (!changes.some((change) => change.id === id)) this.#failures.forget(id);
  }

  #write(changes: readonly Change<Row>[]): void {
    const requests = changes.map((change) => this.#requestsOf(change));
    const answers = this.#client.changeRoutes(requests.flatMap(({ all }) => all));
    let at = 0;
    for (const { change, add, all } of requests) {
      const errors = all.map((request) => this.#failureOf(request, answers[at++]));
      const error = errors.find((each) => each !== undefined);
      if (error === undefined) {
        this.#failures.forget(change.id);
        this.#tracker.setHave(
          change.id,
          change.want === undefined || add === undefined ? undefined : { is: change.want.is, kernel: add },
        );
        continue;
      }
      // Ours may have gone before what should come was refused.
      if (add !== undefined && change.have !== undefined && errors[0] === undefined)
        this.#tracker.setHave(change.id, undefined);
      this.#failures.add(change.id, this.#explain(error, add));
    }
  }

  /** From now on the row is wanted for a while. */
  #leave(route: Route): void {
    const id = routeIdOf(route);
    this.#leaving.set(id, this.#clock.monotonicMs() + LEAVING_MS);
    this.#tracker.setWant(id, { is: route });
  }

  /** A local route can be written only while its interface exists and is up. */
  #isPossible({ want }: Change<Row>): boolean {
    const device = deviceOf(want);
    return device === undefined || this.#client.linkByName(device)?.up === true;
  }

  /** Never a replacement, which would take whatever route is there by then. */
  #requestsOf(change: Change<Row>): Requests {
    const add = change.want === undefined ? undefined : this.#routeOf(change.want);
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

  #routeOf({ is }: Row): KernelRoute {
    invariant(is !== "other", "only routes of the program are wanted");
    const { table, destination, type, device, via, metric } = is;
    const link = device === undefined ? undefined : this.#client.linkByName(device);
    return {
      destination,
      table,
      protocol: ROUTE_PROTOCOL,
      type,
      scope: device !== undefined && via === undefined ? SCOPE_LINK : SCOPE_UNIVERSE,
      ...(device === undefined ? {} : { interfaceIndex: link?.index ?? 0 }),
      ...(via === undefined ? {} : { gateway: via }),
      ...(metric === undefined ? {} : { metric }),
    };
  }

  /** undefined also for a deletion of what has gone (the kernel removes routes of a deleted interface itself), and for what is there already. */
  #failureOf(request: RouteChange, error: KernelError | undefined): KernelError | undefined {
    if (request.do === "delete" && error?.errno === ESRCH) return undefined;
    return request.do === "add" && error?.errno === EEXIST && this.#isThere(request.route) ? undefined : error;
  }

  /** Whether exactly this local route is in the kernel already, as after an answer that was lost. */
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
    this.#reader.close();
  }
}

function deviceOf(row: Row | undefined): string | undefined {
  return row === undefined || row.is === "other" ? undefined : row.is.device;
}

/** What a block leaves when it is given up. */
function isLeft({ type, metric }: Route): boolean {
  return type === "blackhole" && metric === LEAVING_METRIC;
}

function isBlock(is: Row["is"]): is is Route {
  return is !== "other" && is.type === "blackhole" && is.metric === undefined;
}

/** As `ip route` writes it. */
function describeRow(id: string, row: Row | undefined): string {
  return row === undefined || row.is === "other" ? (row?.kernel?.destination ?? id) : formatRoute(row.is);
}
