/**
 * Values: what every function of the language needs to know about the library's values: equality, size, conversions.
 *
 * Source: https://github.com/google/cel-spec doc/langdef.md.
 */
import { Optional } from "@marcbachmann/cel-js";
import { UnsignedInt } from "@marcbachmann/cel-js/evaluator";
import { Duration, Timestamp } from "./times.ts";

const LEAST_INT = -(2n ** 63n);
const MOST_INT = 2n ** 63n - 1n;

/** Equality across types: numbers by value, lists and maps by content. */
export function celEquals(a: unknown, b: unknown): boolean {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined || y !== undefined) return x !== undefined && y !== undefined && x == y;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
  if (a instanceof Timestamp) return b instanceof Timestamp && a.nanos === b.nanos;
  if (a instanceof Duration) return b instanceof Duration && a.nanos === b.nanos;
  if (a instanceof Optional)
    return b instanceof Optional && a.hasValue() === b.hasValue() && (!a.hasValue() || celEquals(a.value(), b.value()));
  if (isList(a)) return isList(b) && listEquals([...a], [...b]);
  const [entries, others] = [entriesOf(a), entriesOf(b)];
  if (entries === undefined || others === undefined) return a === b;
  return (
    entries.length === others.length &&
    entries.every(([key, value]) => others.some(([other, second]) => celEquals(key, other) && celEquals(value, second)))
  );
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
  if (value instanceof Duration) return value.nanos === 0n;
  return isList(value) ? [...value].length === 0 : entriesOf(value)?.length === 0;
}

export function toInt(value: unknown): bigint {
  if (value instanceof Timestamp) return value.seconds;
  const overflow = new Error("integer overflow");
  if (typeof value === "number") {
    if (!(Math.abs(value) < 2 ** 63)) throw overflow;
    return BigInt(Math.trunc(value));
  }
  if (typeof value === "string" && !/^[+-]?\d+$/.test(value))
    throw new Error("type conversion error from 'string' to 'int'");
  const integer = typeof value === "string" ? BigInt(value.replace(/^\+/, "")) : (numberOf(value) ?? 0n);
  if (integer < LEAST_INT || integer > MOST_INT) throw overflow;
  return BigInt(integer);
}

export function toText(value: unknown): string {
  if (typeof value === "number") return goNumber(value);
  if (!(value instanceof Uint8Array)) return String(value);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
  } catch {
    throw new Error("invalid UTF-8 in bytes, cannot convert to string");
  }
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
