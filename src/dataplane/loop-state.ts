/** Loop state: what the loop knows of one driver: what is under way for it, what is to be read, and what failed. */
import type { Clock } from "../host/clock.ts";
import type { Watch } from "../host/watcher.ts";
import type { Report } from "../lib/report.ts";
import { Retry } from "../lib/retry.ts";
import { Allowance } from "./allowance.ts";
import type { Driver, RowStatus, Steps } from "./driver.ts";
import type { ReadRequest } from "./read-request.ts";
import { RefusedRows } from "./refused-rows.ts";

const RETRY = { baseMs: 100, maxMs: 5_000 };

export interface Reading {
  readonly steps: Steps;
  readonly by: string | undefined;
  readonly pendingBefore: number;
  /** It is on the account of those who change what is ours. */
  readonly isOthersDoing: boolean;
}

/** Of one driver. */
export interface State {
  readonly driver: Driver;
  readonly retry: Retry;
  /** When everything was last looked at. */
  lastAuditMs: number;
  watch: Watch | undefined;
  /** False until everything was read, and again after a failure: then nothing is written. */
  isKnown: boolean;
  request: ReadRequest | undefined;
  reading: Reading | undefined;
  writing: Steps | undefined;
  /** Until it is settled, nothing more can be done for the driver. */
  waiting: Promise<void> | undefined;
  /** One of its steps runs at this moment, and may itself find out what others have done. */
  isAdvancing: boolean;
  /** Something changed that no commit under way has seen. */
  again: boolean;
  /** Of those who change what is ours. */
  readonly allowance: Allowance;
  readonly refused: RefusedRows;
}

export function newState(
  driver: Driver,
  options: {
    readonly clock: Clock;
    readonly report: Report;
    readonly refused?: ((row: RowStatus) => void) | undefined;
  },
): State {
  return {
    driver,
    retry: new Retry(RETRY, options.clock),
    lastAuditMs: Infinity,
    watch: undefined,
    isKnown: false,
    request: undefined,
    reading: undefined,
    writing: undefined,
    waiting: undefined,
    isAdvancing: false,
    again: false,
    allowance: new Allowance(),
    refused: new RefusedRows(options.report, options.refused),
  };
}

/** Whether something is under way, or waits only for its turn. */
export function isBusy({ reading, writing, again }: State): boolean {
  return reading !== undefined || writing !== undefined || again;
}
