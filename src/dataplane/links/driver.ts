/**
 * Driver of the node's ends of its workloads' interfaces, and of forwarding: what ADD and the start set up is put back when others change it; a
 * WorkloadEndpoint's interface gets it here alone.
 *
 * It makes no interface and removes none, and nothing is wanted of one that does not exist. Settings are those of the network namespace
 * of the thread.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import type { Watch, Watcher } from "../../host/watcher.ts";
import { KernelError } from "../../kernel/errno.ts";
import { type Link, RouteClient } from "../../kernel/route/client.ts";
import { LINK_GROUPS, openRouteNotifications, readNews, type RouteNews } from "../../kernel/route/monitor.ts";
import { readSysctl, writeSysctl } from "../../kernel/sysctl.ts";
import { equal } from "../../lib/equal.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import { formatName, type Key } from "../../model/key.ts";
import { type Addr, type Family, familyOf } from "../../net/addr.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import type { Driver, DriverEvents, PlannedChange, RowStatus, Steps, Touched } from "../driver.ts";
import { Failures } from "../failures.ts";
import { HOST_END_IPV4, HOST_END_IPV4_UNFILTERED, HOST_END_IPV6 } from "./settings.ts";

/** Source: linux Documentation/networking/ip-sysctl.rst. */
const FORWARDING: { readonly [F in Family]: string } = { 4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding" };
/** Row of what is set for the node as a whole. */
const NODE = "node";
/** Interfaces looked at in one step. */
const LINKS_PER_STEP = 8;

interface HostEnd {
  readonly workload: Key;
  readonly addresses: readonly Addr[];
  readonly hasIpv6: boolean;
  /** It may send from more addresses than its own. */
  readonly hasSources: boolean;
}

export class LinksDriver implements Driver {
  readonly name = "links";
  readonly isFresh = false;
  readonly #sys: Sys;
  readonly #client: RouteClient;
  readonly #families: ReadonlySet<Family>;
  readonly #failures: Failures;
  readonly #wanted = new Map<string, HostEnd>();
  /** Rows of which it is not known whether they are as wanted; and those that are not, with what is wrong, in words. */
  readonly #unknown = new Set<string>([NODE]);
  readonly #wrong = new Map<string, readonly string[]>();
  readonly #indices = new Map<number, string>();
  #sysctlWrites = 0;

  /** `families`: those that the kernel has. */
  constructor(sys: Sys, clock: Pick<Clock, "monotonicMs" | "wallMs">, families: ReadonlySet<Family>) {
    this.#sys = sys;
    this.#client = new RouteClient(sys);
    this.#families = families;
    this.#failures = new Failures(clock);
  }

  get pending(): number {
    return this.#wrong.size;
  }

  get writes(): number {
    return this.#client.writes + this.#sysctlWrites;
  }

  get dueMs(): number | undefined {
    return this.#failures.nextMs;
  }

  get failures(): readonly RowStatus[] {
    return [...this.#failures.all].map(([id, { error, sinceMs, attempts }]) => ({
      row: this.#describe(id),
      object: this.#wanted.get(id)?.workload,
      state: "failed",
      error: error.message,
      errno: error.errno,
      since: formatTimestamp(sinceMs),
      attempts,
    }));
  }

  #describe(id: string): string {
    const end = this.#wanted.get(id);
    return end === undefined ? id : `interface ${id} of ${nameOf(end.workload)}`;
  }

  isProgrammed(endpoint: EndpointId): boolean {
    return !this.#wrong.has(endpoint);
  }

  explain(endpoint: EndpointId): string | undefined {
    return this.#failures.get(endpoint)?.error.message ?? this.#wrong.get(endpoint)?.join("; ");
  }

  lower(_program: Program, delta: ProgramDelta): void {
    for (const [id, endpoint] of delta.endpoints) {
      // Without addresses a pod has no network: its interface, if it is still there, is on its way out.
      if (endpoint?.kind !== "workload" || endpoint.addresses.length === 0) this.#forget(id);
      else {
        const { addresses, source: workload } = endpoint;
        const hasSources = endpoint.sources !== undefined;
        const before = this.#wanted.get(id);
        // As a rule only its policies have changed.
        if (before?.addresses === addresses && before.hasSources === hasSources) continue;
        const hasIpv6 = this.#families.has(6) && addresses.some((addr) => familyOf(addr) === 6);
        this.#wanted.set(id, { workload, addresses, hasIpv6, hasSources });
        this.#unknown.add(id);
      }
    }
  }

  #forget(id: string): void {
    this.#wanted.delete(id);
    this.#unknown.delete(id);
    this.#wrong.delete(id);
    this.#failures.forget(id);
  }

  *reading(only?: Touched): Steps {
    for (const id of only ?? [NODE, ...this.#wanted.keys()]) this.#unknown.add(id);
    yield* this.#look();
  }

  /** Compares the rows that are not known. */
  *#look(): Steps {
    let count = 0;
    for (const id of this.#unknown) {
      this.#unknown.delete(id);
      const wrong = id === NODE ? this.#wrongOfNode() : this.#wrongOfLink(id);
      if (wrong.length > 0) this.#wrong.set(id, wrong);
      else {
        this.#wrong.delete(id);
        this.#failures.forget(id);
      }
      if (++count % LINKS_PER_STEP === 0) yield;
    }
  }

  #wrongOfNode(): string[] {
    return [...this.#families].flatMap((family) => {
      const value = readSysctl(this.#sys, FORWARDING[family]);
      return value === "1" ? [] : [`${FORWARDING[family]} is ${value ?? "missing"}, must be 1`];
    });
  }

  #wrongOfLink(id: string): string[] {
    const link = this.#client.linkByName(id);
    const end = this.#wanted.get(id);
    if (link === undefined || end === undefined) return [];
    this.#indices.set(link.index, id);
    return differences(link, end);
  }

  watch(watcher: Watcher, events: DriverEvents): Watch {
    return watcher.watch(openRouteNotifications(this.#sys, LINK_GROUPS), {
      received: (datagram) => {
        const touched = new Set(readNews(datagram).flatMap((news) => this.#touchedBy(news)));
        if (touched.size > 0) events.changed("somebody else", touched);
      },
      lost: (cause) => events.lost(cause),
    });
  }

  /** The row that may no longer be as it should. */
  #touchedBy(news: RouteNews): string[] {
    if (news.type === "link") {
      const end = this.#wanted.get(news.link.name);
      if (end === undefined || news.gone) return [];
      return differences(news.link, end).length > 0 ? [news.link.name] : [];
    }
    if (news.type !== "settings" || (news.by !== 0 && news.by === this.#client.portId)) return [];
    if (news.index === undefined) return [NODE];
    const name = this.#indices.get(news.index);
    return name !== undefined && this.#wanted.has(name) ? [name] : [];
  }

  plan(): readonly PlannedChange[] {
    return [...this.#wrong].map(([id, wrong]) => ({ sign: "~", what: this.#describe(id), lines: wrong }));
  }

  *committing(): Steps {
    yield* this.#look();
    const due = new Set(this.#failures.due());
    for (const id of this.#wrong.keys()) {
      if (this.#failures.get(id) !== undefined && !due.has(id)) continue;
      try {
        if (id === NODE) this.#repairNode();
        else this.#repairLink(id);
        this.#wrong.delete(id);
        this.#failures.forget(id);
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        this.#failures.add(id, error);
      }
      yield;
    }
    for (const id of due) if (!this.#wrong.has(id)) this.#failures.forget(id);
  }

  #repairNode(): void {
    for (const family of this.#families)
      if (readSysctl(this.#sys, FORWARDING[family]) !== "1") this.#setSysctl(FORWARDING[family], "1");
  }

  #repairLink(id: string): void {
    const link = this.#client.linkByName(id);
    const end = this.#wanted.get(id);
    if (link === undefined || end === undefined) return;
    const ipv4 = ipv4Of(end);
    if (link.ipv4 !== undefined && !equal(link.ipv4, ipv4)) this.#client.setSettings(link.index, ipv4);
    if (end.hasIpv6 && link.ipv6 !== undefined && !isIpv6AsWanted(link.ipv6))
      for (const [setting, value] of Object.entries(HOST_END_IPV6))
        this.#setSysctl(`net/ipv6/conf/${id}/${setting}`, value);
    if (!link.up) this.#client.setLinkUp(link.index);
  }

  #setSysctl(name: string, value: string): void {
    writeSysctl(this.#sys, name, value);
    this.#sysctlWrites++;
  }

  close(): void {
    this.#client.close();
  }
}

function nameOf(workload: Key): string {
  return `${workload.kind === "Pod" ? "pod" : workload.kind} ${formatName(workload)}`;
}

function ipv4Of({ hasSources }: HostEnd): typeof HOST_END_IPV4 {
  return hasSources ? HOST_END_IPV4_UNFILTERED : HOST_END_IPV4;
}

function differences({ name, up, ipv4, ipv6 }: Link, end: HostEnd): string[] {
  const wanted = ipv4Of(end);
  const wrong: string[] = [];
  if (!up) wrong.push(`${name} is down, must be up`);
  if (ipv4 !== undefined && !equal(ipv4, wanted))
    for (const [setting, value] of Object.entries(wanted)) {
      const is: unknown = Object.entries(ipv4).find(([each]) => each === setting)?.[1];
      if (is !== value) wrong.push(`IPv4 setting ${setting} of ${name} is ${String(is)}, must be ${String(value)}`);
    }
  if (end.hasIpv6 && ipv6 !== undefined && !isIpv6AsWanted(ipv6))
    wrong.push(`IPv6 settings of ${name} must be forwarding and proxy_ndp on, accept_ra and disable_ipv6 off`);
  return wrong;
}

function isIpv6AsWanted({ forwarding, proxyNdp, acceptRa, disabled }: NonNullable<Link["ipv6"]>): boolean {
  return forwarding && proxyNdp && !acceptRa && !disabled;
}
