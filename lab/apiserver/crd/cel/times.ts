/**
 * Times: timestamps and durations to the nanosecond, with the limits of the language: years 1 to 9999, and durations of 64 bits.
 *
 * They stand beside the library's, which are kept to the millisecond and have no limits, under names of their own.
 * Source: https://github.com/google/cel-spec doc/langdef.md; cel-go common/types/{timestamp,duration}.go; Go's time.ParseDuration.
 */
import type { Environment } from "@marcbachmann/cel-js";
import { nameOf, TYPE_PREFIX, TYPES_NAME } from "./source.ts";

export const TIMESTAMP = `${TYPE_PREFIX}google.protobuf.Timestamp`;
export const DURATION = `${TYPE_PREFIX}google.protobuf.Duration`;

const SECOND = 1_000_000_000n;
const UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: SECOND,
  m: 60n * SECOND,
  h: 3600n * SECOND,
};
const FIRST = -62_135_596_800n * SECOND;
const LAST = 253_402_300_800n * SECOND - 1n;

export class Timestamp {
  /** Nanoseconds since 1970. */
  readonly nanos: bigint;
  constructor(nanos: bigint) {
    if (nanos < FIRST || nanos > LAST) throw new Error("timestamp overflow");
    this.nanos = nanos;
  }

  get seconds(): bigint {
    return floorDivide(this.nanos, SECOND);
  }

  toString(): string {
    const fraction = fractionOf(this.nanos - this.seconds * SECOND);
    return `${new Date(Number(this.seconds) * 1000).toISOString().slice(0, 19)}${fraction}Z`;
  }
}

export class Duration {
  readonly nanos: bigint;
  constructor(nanos: bigint) {
    if (BigInt.asIntN(64, nanos) !== nanos) throw new Error("integer overflow");
    this.nanos = nanos;
  }

  /** In seconds: `-1.5s`. */
  toString(): string {
    const size = this.nanos < 0n ? -this.nanos : this.nanos;
    return `${this.nanos < 0n ? "-" : ""}${size / SECOND}${fractionOf(size % SECOND)}s`;
  }
}

function floorDivide(a: bigint, b: bigint): bigint {
  return a % b < 0n ? a / b - 1n : a / b;
}

function fractionOf(nanos: bigint): string {
  return nanos === 0n ? "" : `.${nanos.toString().padStart(9, "0").replace(/0+$/, "")}`;
}

/** RFC 3339. */
export function readTimestamp(text: string): Timestamp {
  const match =
    /^(\d{4}-(\d\d)-(\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,9})\d*)?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/.exec(
      text,
    );
  const [, whole = "", , day = "", , fraction = "", zone = ""] = match ?? [];
  const local = new Date(`${whole}Z`);
  if (match === null || Number.isNaN(local.getTime()) || local.getUTCDate() !== Number(day))
    throw new Error(`invalid timestamp ${JSON.stringify(text)}`);
  return new Timestamp(BigInt(Date.parse(`${whole}${zone}`)) * 1_000_000n + BigInt(fraction.padEnd(9, "0")));
}

/** Go's durations: `1h30m`, `-1.5s`. */
export function readDuration(text: string): Duration {
  const invalid = new Error(`time: invalid duration ${JSON.stringify(text)}`);
  if (!/^[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/.test(text)) throw invalid;
  let nanos = 0n;
  for (const [, whole = "", fraction = "", unit = ""] of text.matchAll(/(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)/g)) {
    const size = UNITS[unit] ?? 0n;
    nanos += BigInt(whole) * size + (BigInt(fraction) * size) / 10n ** BigInt(fraction.length);
  }
  const signed = text.startsWith("-") ? -nanos : nanos;
  if (BigInt.asIntN(64, signed) !== signed) throw invalid;
  return new Duration(signed);
}

/** Numbers of a time in UTC. */
const PARTS: Readonly<Record<string, (time: Date) => number>> = {
  getFullYear: (time) => time.getUTCFullYear(),
  getMonth: (time) => time.getUTCMonth(),
  getDate: (time) => time.getUTCDate(),
  getDayOfMonth: (time) => time.getUTCDate() - 1,
  getDayOfWeek: (time) => time.getUTCDay(),
  getDayOfYear: (time) => Math.floor((time.getTime() - new Date(time).setUTCMonth(0, 1)) / 86_400_000),
  getHours: (time) => time.getUTCHours(),
  getMinutes: (time) => time.getUTCMinutes(),
  getSeconds: (time) => time.getUTCSeconds(),
  getMilliseconds: (time) => time.getUTCMilliseconds(),
};

/** The time whose numbers in UTC are those of `time` in the zone: a name, or an offset such as `-02:30`. */
function inZone(time: Timestamp, zone: string): Date {
  const milliseconds = Number(floorDivide(time.nanos, 1_000_000n));
  const offset = /^([+-]?)(\d\d):(\d\d)$/.exec(zone);
  if (offset !== null)
    return new Date(
      milliseconds + (offset[1] === "-" ? -1 : 1) * (Number(offset[2]) * 60 + Number(offset[3])) * 60_000,
    );
  const date = new Date(milliseconds);
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  const parts = new Map(format.formatToParts(date).map(({ type, value }) => [type, Number(value)]));
  const at = (part: Intl.DateTimeFormatPartTypes): number => parts.get(part) ?? 0;
  const local = new Date(0);
  local.setUTCFullYear(at("year"), at("month") - 1, at("day"));
  local.setUTCHours(at("hour"), at("minute"), at("second"), date.getUTCMilliseconds());
  return local;
}

export function registerTimes(environment: Environment): void {
  const add = (signature: string, handler: (...args: never[]) => unknown): void =>
    void environment.registerFunction(signature, handler, { async: false });
  environment.registerType(TIMESTAMP, Timestamp);
  environment.registerType(DURATION, Duration);
  add(`${nameOf("timestamp")}(string): ${TIMESTAMP}`, readTimestamp);
  add(`${nameOf("timestamp")}(int): ${TIMESTAMP}`, (seconds: bigint) => new Timestamp(seconds * SECOND));
  add(`${nameOf("timestamp")}(${TIMESTAMP}): ${TIMESTAMP}`, (time: Timestamp) => time);
  add(`${nameOf("duration")}(string): ${DURATION}`, readDuration);
  add(`${nameOf("duration")}(${DURATION}): ${DURATION}`, (duration: Duration) => duration);
  for (const [name, part] of Object.entries(PARTS)) {
    add(`${TIMESTAMP}.${nameOf(name)}(): int`, (time: Timestamp) => BigInt(part(inZone(time, "+00:00"))));
    add(`${TIMESTAMP}.${nameOf(name)}(string): int`, (time: Timestamp, zone: string) =>
      BigInt(part(inZone(time, zone))),
    );
  }
  for (const [name, unit] of [
    ["getHours", "h"],
    ["getMinutes", "m"],
    ["getSeconds", "s"],
    ["getMilliseconds", "ms"],
  ] as const) {
    add(`${DURATION}.${nameOf(name)}(): int`, (duration: Duration) => duration.nanos / (UNITS[unit] ?? 1n));
  }
  environment.registerOperator(
    `${TIMESTAMP} - ${TIMESTAMP}: ${DURATION}`,
    (a: Timestamp, b: Timestamp) => new Duration(a.nanos - b.nanos),
  );
  environment.registerOperator(
    `${TIMESTAMP} + ${DURATION}`,
    (a: Timestamp, b: Duration) => new Timestamp(a.nanos + b.nanos),
  );
  environment.registerOperator(
    `${DURATION} + ${TIMESTAMP}: ${TIMESTAMP}`,
    (a: Duration, b: Timestamp) => new Timestamp(a.nanos + b.nanos),
  );
  environment.registerOperator(
    `${TIMESTAMP} - ${DURATION}`,
    (a: Timestamp, b: Duration) => new Timestamp(a.nanos - b.nanos),
  );
  environment.registerOperator(
    `${DURATION} + ${DURATION}`,
    (a: Duration, b: Duration) => new Duration(a.nanos + b.nanos),
  );
  environment.registerOperator(
    `${DURATION} - ${DURATION}`,
    (a: Duration, b: Duration) => new Duration(a.nanos - b.nanos),
  );
  for (const type of [TIMESTAMP, DURATION]) registerOrder(environment, type);
  const typeOf = (name: string, argument: string): unknown =>
    environment.evaluate(`type(${nameOf(name)}(${argument}))`);
  const types = new Map([
    ["Timestamp", typeOf("timestamp", "0")],
    ["Duration", typeOf("duration", "'0'")],
  ]);
  environment.registerConstant(TYPES_NAME, "map<string, map<string, type>>", new Map([["protobuf", types]]));
}

function registerOrder(environment: Environment, type: string): void {
  type Time = Timestamp | Duration;
  environment.registerOperator(`${type} == ${type}`, (a: Time, b: Time) => a.nanos === b.nanos);
  environment.registerOperator(`${type} < ${type}`, (a: Time, b: Time) => a.nanos < b.nanos);
  environment.registerOperator(`${type} <= ${type}`, (a: Time, b: Time) => a.nanos <= b.nanos);
  environment.registerOperator(`${type} > ${type}`, (a: Time, b: Time) => a.nanos > b.nanos);
  environment.registerOperator(`${type} >= ${type}`, (a: Time, b: Time) => a.nanos >= b.nanos);
  environment.registerOperator(`${type} == null`, () => false);
}
