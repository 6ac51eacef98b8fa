/** Ports: what the text and numbers in lists of ports mean, and their errors. */
import { WORDS } from "../words.ts";
import type { Errors } from "./errors.ts";

export type PortText =
  | { readonly type: "range"; readonly from: number; readonly to: number }
  | { readonly type: "name"; readonly name: string };

/** A number, also as text, a range such as `80:90`, or a name; the text must fit the schema. Bounds are not checked. */
export function readPort(port: number | string): PortText {
  if (typeof port === "number") return { type: "range", from: port, to: port };
  const [, from, to] = /^(\d+)(?::(\d+))?$/.exec(port) ?? [];
  if (from === undefined) return { type: "name", name: port };
  return { type: "range", from: Number(from), to: Number(to ?? from) };
}

export type ProtocolPorts = "absent" | "with-ports" | "without-ports";

/** Whether the protocol of a rule has ports. */
export function portsOf(protocol: number | string | undefined): ProtocolPorts {
  if (protocol === undefined) return "absent";
  return WITH_PORTS.has(protocol) ? "with-ports" : "without-ports";
}

const WITH_PORTS: ReadonlySet<number | string> = new Set(["TCP", "UDP", "SCTP", 6, 17, 132]);

export function checkPorts(
  ports: readonly (number | string)[] | undefined,
  protocol: ProtocolPorts,
  field: string,
  errors: Errors,
): void {
  if (ports === undefined || ports.length === 0) return;
  ports.forEach((port, i) => checkBounds(port, `${field}[${i}]`, errors));
  if (protocol === "without-ports") errors.invalid(field, ports, WORDS.portsProtocol);
  else if (protocol === "absent" && ports.some((port) => readPort(port).type === "range"))
    errors.invalid(field, ports, WORDS.numbersProtocol);
}

/** Numbers of 1 to 65535, in ascending order. */
export function checkBounds(port: number | string, field: string, errors: Errors): void {
  const read = readPort(port);
  if (read.type === "name") return;
  if (read.from < 1 || read.from > 65535 || read.to < 1 || read.to > 65535)
    errors.invalid(field, port, WORDS.portBounds);
  else if (read.from > read.to) errors.invalid(field, port, WORDS.rangeOrder);
}
