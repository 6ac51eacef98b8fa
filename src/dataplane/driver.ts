/**
 * Driver: one kind of kernel object kept equal to the program: lower (pure), read (the kernel, bodies included), plan, commit.
 *
 * Netlink answers within the system call, so what a step of `commit` sent is in the kernel when the step ends. Work that takes long is
 * done in steps: between two of them the thread may be given back, the program may change, and another commit may run.
 */
import type { Clock } from "../host/clock.ts";
import type { Watch, Watcher } from "../host/watcher.ts";
import { invariant } from "../lib/bug.ts";
import { EPROTO, KernelError } from "../kernel/errno.ts";
import type { Key } from "../model/key.ts";
import type { EndpointId, Program, ProgramDelta } from "../program/program.ts";

/**
 * Each `next` does some milliseconds of work at most, where it can be cut. A promise that it yields is one to be waited for before the next; it
 * never rejects. Throws KernelError for what concerns the driver as a whole.
 */
export type Steps = Generator<Promise<void> | undefined, void>;

export interface Driver {
  readonly name: string;
  /** Takes a change of the program in; touches no kernel. Work is proportional to the delta. */
  lower(program: Program, delta: ProgramDelta): void;
  /** Learns what the kernel has of what is ours: all, or what somebody is known to have changed. */
  reading(only?: Touched): Steps;
  /**
   * Makes the kernel agree with what is wanted, what changed last first; writes nothing when it does already. What the kernel refuses is
   * set apart and tried again by itself: it is no error of the whole.
   */
  committing(): Steps;
  /** True while something that changed last has not been tried yet. */
  readonly isFresh: boolean;
  /** It does one thing after the other: no commit begins while it reads, or writes. */
  readonly isSerial?: boolean;
  /** What `committing` would write, in the order in which it would. Nothing when the kernel agrees. */
  plan(): readonly PlannedChange[];
  /**
   * Hears at once of what others change of what is ours, until closed; a driver without it learns of that by audits alone. Throws
   * KernelError.
   */
  readonly watch?: ((watcher: Watcher, events: DriverEvents) => Watch) | undefined;
  /** It must be looked at as a whole at least so often, because nobody tells of what others change. */
  readonly auditMs?: number | undefined;
  /** True when everything of this endpoint, and everything that it refers to, is in the kernel. */
  isProgrammed(endpoint: EndpointId): boolean;
  /** Why not, in words; undefined when it is, or when it only has to wait for its turn. */
  explain(endpoint: EndpointId): string | undefined;
  /** Rows that differ from the kernel as last known. */
  readonly pending: number;
  /** Rows that the kernel refuses, and what waits for them. */
  readonly failures: readonly RowStatus[];
  /** When something is next due, by the monotonic clock: a refused row, or one that goes after a while. */
  readonly dueMs: number | undefined;
  /** Transactions or requests that changed the kernel, since start. Becoming the owner of what an earlier process left counts as one. */
  readonly writes: number;
  close(): void;
}

/** One line of a plan. */
export interface PlannedChange {
  readonly sign: "+" | "-" | "~";
  /** `chain cali-tw-0123456789a (12 rules)`. */
  readonly what: string;
  /** Below it, in the tool's own syntax. */
  readonly lines: readonly string[];
}

export interface RowStatus {
  /** As its user calls it: `policy shop/web`, `pod shop/web-0`, `set s-0123456789`, `route 10.65.0.1/32`. */
  readonly row: string;
  /** The object of the datastore whose row it is. */
  readonly object: Key | undefined;
  /** `closed`: an endpoint that drops everything (of the direction concerned) because of another row. */
  readonly state: "failed" | "waiting" | "closed";
  readonly error: string;
  /** Of the kernel; undefined for what waits for another row. */
  readonly errno: number | undefined;
  /** RFC 3339. */
  readonly since: string;
  readonly attempts: number;
}

/** What somebody else touched of ours: ids of the driver's own rows. */
export type Touched = ReadonlySet<string>;

export interface DriverEvents {
  /** Somebody else changed what is ours since it was read last; `by` says who, `touched` what, if it is known and not everything. */
  changed(by: string, touched?: Touched): void;
  /** Changes may have been missed, and no more will be told: watch again, then read. */
  lost(cause: string): void;
}

/** Does all of them at once, and returns what they do. Throws what they throw. */
export function finishSteps<T>(steps: Generator<Promise<void> | undefined, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    invariant(step.value === undefined, "a step that waits cannot be done at once");
  }
}

/** Does all of them, one after the other. The thread is given back between two where there is a `clock`. Rejects with what they throw. */
export async function awaitSteps<T>(
  steps: Generator<Promise<void> | undefined, T>,
  clock?: Pick<Clock, "sleep">,
): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await (step.value ?? clock?.sleep(0));
  }
}

/** Waits for the promise, which may reject, and returns its value or throws why. */
export function* awaiting<T>(promise: Promise<T>): Generator<Promise<void>, T> {
  let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
  yield promise.then(
    (value) => void (outcome = { value }),
    (error: unknown) => void (outcome = { error }),
  );
  if (outcome === undefined) throw new KernelError("wait for", "a program", EPROTO, "it has not ended");
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
}
