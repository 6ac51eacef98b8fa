/**
 * Language: functions and operators of the language itself that the library lacks or reads otherwise: conversions, comparisons, times,
 * optional values.
 *
 * Source: https://github.com/google/cel-spec doc/langdef.md.
 */
import { type Environment, Optional } from "@marcbachmann/cel-js";
import { Duration } from "@marcbachmann/cel-js/evaluator";
import { compilePattern } from "../../../model/schema/pattern.ts";
import { nameOf } from "./source.ts";
import { celEquals, isZero, readDuration, readTimestamp, timestampAt, toInt, toText } from "./values.ts";

const TIMESTAMP = "google.protobuf.Timestamp";
const DURATION = "google.protobuf.Duration";
const SYNC = { async: false };

export function registerLanguage(environment: Environment): void {
  const add = (signature: string, handler: (...args: never[]) => unknown): void => void environment.registerFunction(signature, handler, SYNC);
  for (const type of ["int", "uint", "double", "string", TIMESTAMP]) add(`${nameOf("int")}(${type}): int`, toInt);
  for (const type of ["string", "bool", "int", "uint", "double", "bytes", TIMESTAMP, DURATION]) add(`${nameOf("string")}(${type}): string`, toText);
  add(`${nameOf("timestamp")}(string): ${TIMESTAMP}`, readTimestamp);
  add(`${nameOf("timestamp")}(int): ${TIMESTAMP}`, (seconds: bigint) => timestampAt(Number(seconds) * 1000));
  add(`${nameOf("timestamp")}(${TIMESTAMP}): ${TIMESTAMP}`, (time: Date) => time);
  add(`${nameOf("duration")}(string): ${DURATION}`, readDuration);
  add(`${nameOf("duration")}(${DURATION}): ${DURATION}`, (duration: Duration) => duration);
  add(`string.${nameOf("matches")}(string): bool`, matches);
  add(`${nameOf("matches")}(string, string): bool`, matches);
  registerTimes(add);
  registerOptionals(environment, add);
  registerComparisons(environment);
}

type Add = (signature: string, handler: (...args: never[]) => unknown) => void;

function matches(text: string, pattern: string): boolean {
  return compilePattern(pattern).test(text);
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

function registerTimes(add: Add): void {
  for (const [name, part] of Object.entries(PARTS)) {
    add(`${TIMESTAMP}.${nameOf(name)}(): int`, (time: Date) => BigInt(part(time)));
    add(`${TIMESTAMP}.${nameOf(name)}(string): int`, (time: Date, zone: string) => BigInt(part(inZone(time, zone))));
  }
  add(`${DURATION}.${nameOf("getHours")}(): int`, (duration: Duration) => duration.getHours());
  add(`${DURATION}.${nameOf("getMinutes")}(): int`, (duration: Duration) => duration.getMinutes());
  add(`${DURATION}.${nameOf("getSeconds")}(): int`, (duration: Duration) => duration.getSeconds());
  add(`${DURATION}.${nameOf("getMilliseconds")}(): int`, (duration: Duration) => duration.getMilliseconds());
}

/** The time whose numbers in UTC are those of `time` in the zone: a name, or an offset such as `-02:30`. */
function inZone(time: Date, zone: string): Date {
  const offset = /^([+-]?)(\d\d):(\d\d)$/.exec(zone);
  if (offset !== null) return new Date(time.getTime() + (offset[1] === "-" ? -1 : 1) * (Number(offset[2]) * 60 + Number(offset[3])) * 60_000);
  const format = new Intl.DateTimeFormat("en-US", { timeZone: zone, hourCycle: "h23", era: "short", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" });
  const parts = new Map(format.formatToParts(time).map(({ type, value }) => [type, Number(value)]));
  const at = (part: Intl.DateTimeFormatPartTypes): number => parts.get(part) ?? 0;
  const local = new Date(0);
  local.setUTCFullYear(at("year"), at("month") - 1, at("day"));
  local.setUTCHours(at("hour"), at("minute"), at("second"), time.getUTCMilliseconds());
  return local;
}

function registerOptionals(environment: Environment, add: Add): void {
  add("OptionalNamespace.ofNonZeroValue(A): optional<A>", (_: unknown, value: unknown) => (isZero(value) ? Optional.none() : Optional.of(value)));
  environment.registerOperator("optional<A> == optional<A>", celEquals);
  environment.registerOperator("optional == null", () => false);
}

function registerComparisons(environment: Environment): void {
  environment.registerOperator("bytes < bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) < 0);
  environment.registerOperator("bytes <= bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) <= 0);
  environment.registerOperator("bytes > bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) > 0);
  environment.registerOperator("bytes >= bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) >= 0);
  for (const type of [TIMESTAMP, DURATION]) environment.registerOperator(`${type} == null`, () => false);
}
