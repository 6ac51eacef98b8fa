/**
 * Values: what every function of the language needs to know about the library's values: equality, size, conversions.
 *
 * Times are kept to the millisecond. Source: https://github.com/google/cel-spec doc/langdef.md.
 */
import { Optional } from "@marcbachmann/cel-js";
import { Duration, UnsignedInt } from "@marcbachmann/cel-js/evaluator";

const NANO = 1_000_000_000n;
const UNITS: Readonly<Record<string, bigint>> = { ns: 1n, us: 1_000n, "µs": 1_000n, "μs": 1_000n, ms: 1_000_000n, s: NANO, m: 60n * NANO, h: 3600n * NANO };
const LEAST_INT = -(2n ** 63n);
const MOST_INT = 2n ** 63n - 1n;

/** Equality across types: numbers by value, lists and maps by content. */
export function celEquals(a: unknown, b: unknown): boolean {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined || y !== undefined) return x !== undefined && y !== undefined && x == y;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
  if (a instanceof Date) return b instanceof Date && a.getTime() === b.getTime();
  if (a instanceof Duration) return b instanceof Duration && nanosecondsOf(a) === nanosecondsOf(b);
  if (a instanceof Optional) return b instanceof Optional && a.hasValue() === b.hasValue() && (!a.hasValue() || celEquals(a.value(), b.value()));
  if (isList(a)) return isList(b) && listEquals([...a], [...b]);
  const [entries, others] = [entriesOf(a), entriesOf(b)];
  if (entries === undefined || others === undefined) return a === b;
  return entries.length === others.length && entries.every(([key, value]) => others.some(([other, second]) => celEquals(key, other) && celEquals(value, second)));
}

function listEquals(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((item, index) => celEquals(item, b[index]));
}

function numberOf(value: unknown): number | bigint | undefined {
  if (value instanceof UnsignedInt) return value.valueOf();
  return typeof value === "number" || typeof value === "bigint" ? value : undefined;
}

export function isList(value: unknown): value is Iterable<unknown> {
  return Array.isArray(value) || value instanceof Set;
}

/** Of a map; the library keeps maps that are written in an expression as objects, whose keys are text. */
export function entriesOf(value: unknown): [unknown, unknown][] | undefined {
  if (value instanceof Map) return [...value];
  if (typeof value !== "object" || value === null) return undefined;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype ? Object.entries(value) : undefined;
}

/** Whether the value is its type's zero, for `optional.ofNonZeroValue`. */
export function isZero(value: unknown): boolean {
  if (value === null || value === "" || value === false || numberOf(value) == 0) return true;
  if (value instanceof Uint8Array) return value.length === 0;
  if (value instanceof Duration) return nanosecondsOf(value) === 0n;
  return isList(value) ? [...value].length === 0 : entriesOf(value)?.length === 0;
}

export function toInt(value: unknown): bigint {
  if (value instanceof Date) return BigInt(Math.floor(value.getTime() / 1000));
  const overflow = new Error("integer overflow");
  if (typeof value === "number") {
    if (!(Math.abs(value) < 2 ** 63)) throw overflow;
    return BigInt(Math.trunc(value));
  }
  if (typeof value === "string" && !/^[+-]?\d+$/.test(value)) throw new Error("type conversion error from 'string' to 'int'");
  const integer = typeof value === "string" ? BigInt(value.replace(/^\+/, "")) : (numberOf(value) ?? 0n);
  if (integer < LEAST_INT || integer > MOST_INT) throw overflow;
  return BigInt(integer);
}

export function toText(value: unknown): string {
  if (value instanceof Date) return value.toISOString().replace(/\.?0*Z$/, "Z");
  if (value instanceof Duration) return `${decimal(nanosecondsOf(value))}s`;
  if (typeof value === "number") return goNumber(value);
  if (!(value instanceof Uint8Array)) return String(value);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
  } catch {
    throw new Error("invalid UTF-8 in bytes, cannot convert to string");
  }
}

/** Nanoseconds as seconds: `1.5`. */
function decimal(nanoseconds: bigint): string {
  const sign = nanoseconds < 0n ? "-" : "";
  const digits = (nanoseconds < 0n ? -nanoseconds : nanoseconds).toString().padStart(10, "0");
  return `${sign}${digits.slice(0, -9)}.${digits.slice(-9)}`.replace(/\.?0*$/, "");
}

/** A double in Go's shortest form: `1e+06`, `0.0001`. */
function goNumber(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  if (Object.is(value, -0)) return "-0";
  const [mantissa = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 6) return value.toString();
  return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

export function readTimestamp(text: string): Date {
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|[+-](\d\d):(\d\d))$/.exec(text);
  const [year = 0, month = 0, day = 0, hour = 0, , , zoneHour = 0, zoneMinute = 0] = (match ?? []).slice(1).map((part) => Number(part ?? 0));
  const time = Date.parse(text);
  const isDay = new Date(Date.UTC(2000 + (year % 400), month - 1, day)).getUTCDate() === day;
  if (match === null || Number.isNaN(time) || !isDay || hour > 23 || zoneHour > 23 || zoneMinute > 59) throw new Error(`invalid timestamp ${JSON.stringify(text)}`);
  return timestampAt(time);
}

/** `milliseconds` since 1970; throws outside the years 1 to 9999. */
export function timestampAt(milliseconds: number): Date {
  const date = new Date(milliseconds);
  if (!(date.getUTCFullYear() >= 1 && date.getUTCFullYear() <= 9999)) throw new Error("timestamp overflow");
  return date;
}

/** Go's durations: `1h30m`, `-1.5s`. */
export function readDuration(text: string): Duration {
  if (!/^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text) && !/^[+-]?0$/.test(text)) throw new Error(`time: invalid duration ${JSON.stringify(text)}`);
  let nanoseconds = 0n;
  for (const [, whole = "", fraction = "", unit = ""] of text.matchAll(/(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)/g)) {
    const size = UNITS[unit] ?? 0n;
    nanoseconds += BigInt(whole === "" ? "0" : whole) * size + (BigInt(fraction === "" ? "0" : fraction) * size) / 10n ** BigInt(fraction.length);
  }
  if (nanoseconds > MOST_INT) throw new Error(`time: invalid duration ${JSON.stringify(text)}`);
  const signed = text.startsWith("-") ? -nanoseconds : nanoseconds;
  return new Duration(signed / NANO, Number(signed % NANO));
}

export function nanosecondsOf(duration: Duration): bigint {
  return duration.seconds * NANO + BigInt(duration.nanos);
}
