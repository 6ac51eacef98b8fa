/**
 * leadership: one of several equal processes leads: the one that holds the Lease, for as long as it renews it.
 *
 * Times in the Lease are not compared with the own clock: a Lease is over when nobody changed it for as long as it says. Whoever cannot
 * renew it stops before others may take it. Upstream: client-go/tools/leaderelection.
 */
import { BugError } from "../lib/bug.ts";
import { type Store, StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import type { Report } from "../lib/report.ts";
import { formatTimestamp } from "../lib/timestamp.ts";
import type { Key } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";

export interface LeadershipOptions {
  readonly store: Pick<Store, "get" | "create" | "update">;
  readonly clock: Clock;
  readonly report: Report;
  readonly lease: Key<"Lease">;
  /** Unlike that of any other process, also of one that was here before. */
  readonly identity: string;
}

const LEASE_SECONDS = 15;
const RENEW_MS = 3_000;
const REQUEST_MS = 3_000;
/** The leader stops when it could not renew for so long; the last attempt then began and ended before the Lease is over. */
const GIVE_UP_MS = 9_000;

type LeaseSpec = NonNullable<Resource<"Lease">["spec"]>;

/** Runs `lead` while this process leads, until the signal aborts; then gives the Lease back. */
export async function leadInTurn(
  options: LeadershipOptions,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { clock, report, lease, identity } = options;
  const holder = new Holder(options);
  while (!signal.aborted) {
    if (!(await holder.holds())) {
      await clock.sleep(RENEW_MS, signal);
      continue;
    }
    report("leading", { lease: `${lease.namespace}/${lease.name}`, identity });
    const term = new AbortController();
    const led = lead(term.signal);
    const lost = holder.untilLost(AbortSignal.any([signal, term.signal]));
    // Whichever ends first ends the other; what `lead` throws is thrown.
    await Promise.race([lost, led]);
    term.abort();
    await Promise.all([lost, led]);
    if (!signal.aborted) report("no longer leading: another process may", { identity });
  }
  await holder.giveBack();
}

class Holder {
  readonly #options: LeadershipOptions;
  #seen: { readonly text: string; readonly atMs: number } | undefined;
  #renewedMs = -Infinity;
  #isMine = false;
  #error = "";

  constructor(options: LeadershipOptions) {
    this.#options = options;
  }

  /** Takes the Lease, or renews it. False also when it cannot be known. */
  async holds(): Promise<boolean> {
    const { clock, report } = this.#options;
    const now = clock.monotonicMs();
    const late = new AbortController();
    const done = new AbortController();
    void clock.sleep(REQUEST_MS, done.signal).then(() => late.abort());
    try {
      this.#isMine = await this.#take(late.signal);
      if (this.#isMine) this.#renewedMs = now;
      this.#error = "";
      return this.#isMine;
    } catch (error) {
      if (error instanceof BugError || !(error instanceof StoreError || late.signal.aborted)) throw error;
      const text = error instanceof StoreError ? error.message : `no answer within ${REQUEST_MS} ms`;
      if (text !== this.#error) report("cannot take or renew the Lease: will retry", { error: text });
      this.#error = text;
      return false;
    } finally {
      done.abort();
    }
  }

  async untilLost(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      const left = this.#renewedMs + GIVE_UP_MS - clock.monotonicMs();
      if (left <= 0) return;
      await clock.sleep(Math.min(RENEW_MS, left), signal);
      if (signal.aborted) return;
      if (!(await this.holds()) && this.#error === "") return;
    }
  }

  /** So that the next need not wait. */
  async giveBack(): Promise<void> {
    if (!this.#isMine) return;
    const { store, lease, report } = this.#options;
    try {
      const found = await store.get(lease);
      if (found === undefined || found.spec?.holderIdentity !== this.#options.identity) return;
      await store.update("Lease", { ...found, spec: { ...found.spec, holderIdentity: "", leaseDurationSeconds: 1 } });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      report("cannot give the Lease back: it will run out", { error: error.message });
    }
  }

  async #take(signal: AbortSignal): Promise<boolean> {
    const { store, clock, lease, identity } = this.#options;
    const found = await store.get(lease, { signal });
    const renewTime = formatTimestamp(clock.wallMs()).replace("Z", "000Z");
    const mine: LeaseSpec = { holderIdentity: identity, leaseDurationSeconds: LEASE_SECONDS, renewTime };
    try {
      if (found === undefined) {
        const { namespace = "", name } = lease;
        const spec = { ...mine, acquireTime: renewTime, leaseTransitions: 0 };
        await store.create(
          "Lease",
          { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name, namespace }, spec },
          { signal },
        );
        return true;
      }
      const spec = found.spec ?? {};
      if (spec.holderIdentity === identity) {
        await store.update("Lease", { ...found, spec: { ...spec, ...mine } }, { signal });
        return true;
      }
      if (!this.#isOver(spec)) return false;
      const leaseTransitions = (spec.leaseTransitions ?? 0) + 1;
      await store.update(
        "Lease",
        { ...found, spec: { ...spec, ...mine, acquireTime: renewTime, leaseTransitions } },
        { signal },
      );
      return true;
    } catch (error) {
      // Another was faster.
      if (error instanceof StoreError && (error.reason === "conflict" || error.reason === "exists")) return false;
      throw error;
    }
  }

  #isOver(spec: LeaseSpec): boolean {
    if ((spec.holderIdentity ?? "") === "") return true;
    const now = this.#options.clock.monotonicMs();
    const text = JSON.stringify(spec);
    if (this.#seen?.text !== text) this.#seen = { text, atMs: now };
    return now - this.#seen.atMs >= (spec.leaseDurationSeconds ?? LEASE_SECONDS) * 1_000;
  }
}
