/** Target: what the operator wrote as source or destination: a pod, an address, or every pod of a namespace, and a port. */
import { fail, ok, type ParseError, type Result } from "../lib/result.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { protocolWithPorts, type Traffic } from "../verify/traffic.ts";

export type Target =
  | { readonly type: "pod"; readonly namespace: string; readonly name: string }
  | { readonly type: "address"; readonly addr: Addr }
  | { readonly type: "namespace"; readonly namespace: string };

export interface TargetWithPort {
  readonly target: Target;
  /** undefined when no port is given: all traffic. */
  readonly traffic: Traffic | undefined;
}

const FORMS = "must be NAMESPACE/POD, POD, NAMESPACE/ (all its pods) or an address";

/** Reads a source: no port. */
export function parseSource(text: string, namespace: string): Result<Target, ParseError> {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  return readTarget(bare, { what: "source", found: text, wanted: FORMS }, namespace);
}

/** Reads `DST[:PORT[/PROTOCOL]]`; an IPv6 address with a port stands in brackets; the protocol is tcp unless it is given. */
export function parseDestination(text: string, namespace: string): Result<TargetWithPort, ParseError> {
  const error: ParseError = { what: "destination", found: text, wanted: `${FORMS}, then :PORT or :PORT/PROTOCOL if wanted` };
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  const isBareV6 = bracketed === null && parseAddr(text).ok;
  const colon = text.indexOf(":");
  const [name, port] = bracketed !== null ? [bracketed[1] ?? "", bracketed[2]] : isBareV6 || colon < 0 ? [text, undefined] : [text.slice(0, colon), text.slice(colon + 1)];
  const target = readTarget(name, error, namespace);
  if (!target.ok) return target;
  if (port === undefined) return ok({ target: target.value, traffic: undefined });
  const traffic = parseTraffic(port, text);
  return traffic.ok ? ok({ target: target.value, traffic: traffic.value }) : traffic;
}

function parseTraffic(text: string, whole: string): Result<Traffic, ParseError> {
  const [, digits = "", name = "tcp"] = /^(\d+)(?:\/(\w+))?$/.exec(text) ?? [];
  const port = digits === "" ? Number.NaN : Number(digits);
  const protocol = protocolWithPorts(name);
  if (!(port >= 1 && port <= 65535)) return fail({ what: "destination", found: whole, wanted: `port is ${JSON.stringify(text)}, must be 1 to 65535, then /tcp, /udp or /sctp if wanted` });
  if (protocol === undefined) return fail({ what: "destination", found: whole, wanted: `protocol is ${JSON.stringify(name)}, must be tcp, udp or sctp` });
  return ok({ protocol, from: port, to: port });
}

function readTarget(text: string, error: ParseError, namespace: string): Result<Target, ParseError> {
  const addr = parseAddr(text);
  if (addr.ok) return ok({ type: "address", addr: addr.value });
  const [, given, name = ""] = /^(?:([a-z0-9]([-a-z0-9]*[a-z0-9])?)\/)?([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$/.exec(text)?.filter((_, group) => group !== 2 && group !== 4) ?? [];
  if (name !== "") return ok({ type: "pod", namespace: given ?? namespace, name });
  return given === undefined ? fail(error) : ok({ type: "namespace", namespace: given });
}
