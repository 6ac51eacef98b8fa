/**
 * Batch: one operation on many objects: a few at a time, in order, each outcome kept. A server that asks to wait is obeyed. Long work is
 * reported now and then where somebody watches.
 */
import { isUnserved, StoreError } from "../../datastore/store.ts";
import { isFailure, Refusal } from "./failures.ts";

/** Requests at a time: more would only queue in the server. */
const AT_A_TIME = 8;
const REPORT_EVERY_MS = 2_000;
const MOST_WAITS = 10;
/** So many requests without an answer, one after the other, mean that the server is gone. */
const MOST_UNANSWERED = 16;
const NOT_TRIED = new Refusal("not tried: the server did not answer before");

export interface BatchOptions {
  /** Tells the operator how far it is; called every two seconds. */
  readonly tell: (done: number, all: number) => void;
  readonly sleep: (ms: number) => Promise<void>;
  readonly now: () => number;
}

/** undefined for each object that was handled; in the order of the objects. */
export type Outcomes = readonly (Refusal | StoreError | undefined)[];

export async function forAll<T>(
  objects: readonly T[],
  operate: (object: T) => Promise<void>,
  options: BatchOptions,
): Promise<Outcomes> {
  const outcomes: (Refusal | StoreError | undefined)[] = Array.from(objects, () => undefined);
  let next = 0;
  let done = 0;
  let unanswered = 0;
  let toldAt = options.now();
  const work = async (): Promise<void> => {
    for (let index = next++; index < objects.length; index = next++) {
      const isGone = unanswered >= MOST_UNANSWERED;
      const outcome = isGone ? NOT_TRIED : await attempt(() => operate(objects[index] as T), options.sleep);
      outcomes[index] = outcome;
      const isUnanswered =
        isGone || (outcome instanceof StoreError && outcome.reason === "unavailable" && !isUnserved(outcome));
      unanswered = isUnanswered ? unanswered + 1 : 0;
      done++;
      if (options.now() - toldAt < REPORT_EVERY_MS) continue;
      toldAt = options.now();
      options.tell(done, objects.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_A_TIME, objects.length) }, work));
  return outcomes;
}

async function attempt(
  operate: () => Promise<void>,
  sleep: BatchOptions["sleep"],
): Promise<Refusal | StoreError | undefined> {
  for (let waits = 0; ; waits++) {
    try {
      await operate();
      return undefined;
    } catch (error) {
      if (!isFailure(error)) throw error;
      const wait = error instanceof StoreError ? error.retryAfterMs : undefined;
      if (wait === undefined || waits === MOST_WAITS) return error;
      await sleep(wait + 10);
    }
  }
}
