/**
 * Cells: values of an object as upstream's tables print them, which is Go's way: `1e+06` for an order of a million, `<nil>` for one that is
 * absent, lists joined by commas.
 */
import { fieldAt, isJsonObject, type JsonObject, type JsonValue } from "../../model/schema/json.ts";

export type Cell = (object: JsonObject) => string;

/** A field of text, a number or a boolean; `absent` when there is none. */
export function field(path: string, absent = ""): Cell {
  const names = path.split(".");
  return (object) => scalarText(fieldAt(object, ...names), absent);
}

/** An optional number with a fraction. */
export function float(path: string): Cell {
  const names = path.split(".");
  return (object) => {
    const value = fieldAt(object, ...names);
    return typeof value === "number" ? floatText(value) : scalarText(value, "<nil>");
  };
}

/** A list, cut to so many characters. */
export function joined(path: string, most = 0): Cell {
  const names = path.split(".");
  return (object) => joinText(fieldAt(object, ...names), ",", most);
}

export function scalarText(value: JsonValue | undefined, absent: string): string {
  if (value === undefined || value === null) return absent;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** `%v` of Go's fmt: the shortest digits, with an exponent from 1e+06 on and below 0.0001. */
export function floatText(value: number): string {
  if (value === 0) return "0";
  const [digits = "", power = "0"] = Math.abs(value).toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 6) return String(value);
  const sign = exponent < 0 ? "-" : "+";
  return `${value < 0 ? "-" : ""}${digits}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

const CUT = "...";

/** The items with the separator between them; a map is its pairs `key=value` in order. `most` of 0: any length. */
export function joinText(value: JsonValue | undefined, separator: string, most = 0): string {
  if (value === undefined || value === null) return "";
  const items = Array.isArray(value)
    ? value
    : isJsonObject(value)
      ? Object.entries(value)
          .map(([name, item]) => `${name}=${scalarText(item, "")}`)
          .toSorted()
      : [value];
  const text = items.map((item) => scalarText(item, "")).join(separator);
  return most > 0 && text.length > most ? `${text.slice(0, most - CUT.length)}${CUT}` : text;
}

/** A label selector as kubectl writes it: `app=web,tier in (a,b)`; empty when it selects everything. */
export function labelSelectorText(value: JsonValue | undefined): string {
  if (!isJsonObject(value)) return "";
  const labels = isJsonObject(value["matchLabels"]) ? Object.entries(value["matchLabels"]) : [];
  const expressions = Array.isArray(value["matchExpressions"]) ? value["matchExpressions"].filter(isJsonObject) : [];
  return [
    ...labels.map(([name, text]) => `${name}=${scalarText(text, "")}`),
    ...expressions.map(({ key, operator, values }) => {
      const name = scalarText(key, "");
      if (operator === "Exists") return name;
      if (operator === "DoesNotExist") return `!${name}`;
      return `${name} ${operator === "NotIn" ? "notin" : "in"} (${joinText(values, ",")})`;
    }),
  ].join(",");
}
