/**
 * Quantity: amounts such as `100m`, `1.5Gi` or `2e3`, read and written in the one form that Kubernetes keeps them in.
 * Source: apimachinery pkg/api/resource/quantity.go.
 */
import type { JsonValue } from "../../../src/model/schema/json.ts";

const BINARY = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/** Powers of a thousand from 10^-9 on. */
const DECIMAL = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const NANO = 1_000_000_000n;

type Form = "binary" | "decimal" | "exponent";

interface Quantity {
  /** In units of 10^-9, rounded up. */
  readonly nano: bigint;
  readonly form: Form;
}

function parse(text: string): Quantity | undefined {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d{1,3})?$/.exec(text);
  if (match === null) return undefined;
  const [, sign, whole = "", fraction = "", suffix = ""] = match;
  if (whole + fraction === "") return undefined;
  const digits = BigInt(`${whole}${fraction}`);
  const negative = sign === "-" ? -1n : 1n;
  const scaled = (numerator: bigint, exponent: number): bigint => {
    const power = exponent + 9 - fraction.length;
    if (power >= 0) return numerator * 10n ** BigInt(power);
    const divisor = 10n ** BigInt(-power);
    return (numerator + divisor - 1n) / divisor;
  };
  if (BINARY.includes(suffix))
    return { nano: negative * scaled(digits * 1024n ** BigInt(BINARY.indexOf(suffix) + 1), 0), form: "binary" };
  if (/^[eE][+-]?\d/.test(suffix))
    return { nano: negative * scaled(digits, Number(suffix.slice(1))), form: "exponent" };
  return { nano: negative * scaled(digits, 3 * (DECIMAL.indexOf(suffix) - 3)), form: "decimal" };
}

/** With the largest suffix that leaves a whole number; small binary amounts are written as decimal ones. */
function format({ nano, form }: Quantity): string {
  if (nano === 0n) return "0";
  if (form === "binary" && nano % NANO === 0n && (nano >= 1024n * NANO || nano <= -1024n * NANO)) {
    let [value, power] = [nano / NANO, -1];
    while (power < BINARY.length - 1 && value % 1024n === 0n) [value, power] = [value / 1024n, power + 1];
    return `${value}${power < 0 ? "" : BINARY[power]}`;
  }
  let [value, power] = [nano, 0];
  while (power < DECIMAL.length - 1 && value % 1000n === 0n) [value, power] = [value / 1000n, power + 1];
  if (form !== "exponent") return `${value}${DECIMAL[power]}`;
  return power === 3 ? String(value) : `${value}e${3 * (power - 3)}`;
}

/** The amount as Kubernetes writes it; undefined when the value is none. */
export function canonicalQuantity(value: JsonValue): string | undefined {
  const quantity = typeof value === "number" || typeof value === "string" ? parse(String(value)) : undefined;
  return quantity === undefined ? undefined : format(quantity);
}

/** Negative, zero or positive, as the first amount is less than, equal to or more than the second. Both must be quantities. */
export function compareQuantities(a: string, b: string): number {
  const difference = (parse(a)?.nano ?? 0n) - (parse(b)?.nano ?? 0n);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The amount in units of 10^-9, rounded up; undefined when the text is none. */
export function nanosOf(text: string): bigint | undefined {
  return parse(text)?.nano;
}
