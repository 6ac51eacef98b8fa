/**
 * UnderWay: packets that are still judged by the generation before the present one. An element of the maps holds two generations; so nothing that the next
 * one changes may be written, and nothing that the last one has left may go, before they are through.
 */
import { EPROTO, KernelError } from "../../kernel/errno.ts";
import { awaitSteps, type Steps } from "../driver.ts";
import type { DataplaneMaps } from "./maps.ts";

/** What it needs of the maps. */
type Waiting = Pick<DataplaneMaps, "waiting" | "waitsBeside">;

/** A wait that goes on beside. */
interface Wait {
  /** It never rejects. */
  readonly over: Promise<void>;
  outcome: { readonly error?: unknown } | undefined;
}

export class UnderWay {
  /** Some may be, and nobody has waited for them. */
  #isOpen = false;
  #wait: Wait | undefined;

  /** From now on packets are judged by the next generation. The wait begins, where it holds nobody up. */
  switched(maps: Waiting): void {
    this.#isOpen = true;
    this.#wait = maps.waitsBeside ? begin(maps) : undefined;
  }

  /** An earlier daemon may have switched just now. */
  mayHaveSwitched(): void {
    this.#isOpen = true;
  }

  /** Until none is. Throws KernelError. */
  *gone(maps: Waiting): Steps {
    if (!this.#isOpen) return;
    const wait = this.#wait;
    this.#wait = undefined;
    if (wait === undefined) yield* maps.waiting();
    else {
      yield wait.over;
      if (wait.outcome === undefined) throw new KernelError("wait for", "packets under way", EPROTO, "not waited for");
      if (wait.outcome.error !== undefined) throw wait.outcome.error;
    }
    this.#isOpen = false;
  }
}

function begin(maps: Waiting): Wait {
  const wait: { over: Promise<void>; outcome: Wait["outcome"] } = { over: Promise.resolve(), outcome: undefined };
  wait.over = awaitSteps(maps.waiting()).then(
    () => void (wait.outcome = {}),
    (error: unknown) => void (wait.outcome = { error }),
  );
  return wait;
}
