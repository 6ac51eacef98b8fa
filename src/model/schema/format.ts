/** Formats: the named string and number formats of schemas, as kube-apiserver checks them (kube-openapi pkg/validation/strfmt). */
import { parseAddr } from "../../net/addr.ts";
import { parsePrefix } from "../../net/prefix.ts";

const CHECKS: ReadonlyMap<string, (text: string) => boolean> = new Map([
  ["cidr", (text: string) => parsePrefix(text).ok],
  ["ipv4", (text: string) => !text.includes(":") && parseAddr(text).ok],
  ["ipv6", (text: string) => text.includes(":") && parseAddr(text).ok],
  ["byte", (text: string) => /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)],
  ["date", (text: string) => /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/.test(text)],
  [
    "date-time",
    (text: string) =>
      /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/.test(
        text,
      ),
  ],
  [
    "uuid",
    (text: string) => /^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$/.test(text),
  ],
]);

/** Whether the text has the format; true for a format that is not checked. */
export function hasFormat(format: string, text: string): boolean {
  return CHECKS.get(format)?.(text) ?? true;
}

/** Inclusive range of an integer format, or undefined. The bounds of int64 are beyond exact numbers and are rounded outwards. */
export function integerRange(format: string | undefined): readonly [number, number] | undefined {
  if (format === "int32") return [-2147483648, 2147483647];
  if (format === "int64") return [-(2 ** 63), 2 ** 63];
  return undefined;
}
