/**
 * Target: what the operator wrote as source or destination: a pod, the pods of a controller or a Service, an address, or every pod of a
 * namespace, and a port.
 */
import { fail, ok, type ParseError, type Result } from "../lib/result.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { hasPorts, icmpTraffic, isIcmp, protocolWithPorts, type Traffic, trafficOf } from "../verify/traffic.ts";
import { kindWord } from "./inventory.ts";

/** An object by name. Without `kind` it is a pod, or a controller if no pod has the name. */
export interface ObjectTarget {
  readonly type: "object";
  /** `pod`, `service`, `deployment`, … */
  readonly kind: string | undefined;
  readonly namespace: string;
  readonly name: string;
  /** `deploy/web` may also be the pod `web` of the namespace `deploy`. */
  readonly isAmbiguous: boolean;
}

export type Target =
  | ObjectTarget
  | { readonly type: "address"; readonly addr: Addr }
  /** A process of a node. */
  | { readonly type: "host"; readonly node: string }
  | { readonly type: "namespace"; readonly namespace: string };

export interface TargetWithPort {
  readonly target: Target;
  /** undefined when no port is given: all traffic. */
  readonly traffic: Traffic | undefined;
}

const FORMS =
  "must be NAMESPACE/POD, POD, NAMESPACE/ (all its pods), KIND/NAME, NAMESPACE/KIND/NAME, host/NODE or an address";

/** Reads a source: no port. */
export function parseSource(text: string, namespace: string): Result<Target, ParseError> {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  return readTarget(bare, { what: "source", found: text, wanted: FORMS }, namespace);
}

/** Reads `DST[:PORT[/PROTOCOL]]`; an IPv6 address with a port stands in brackets; the protocol is tcp unless it is given. */
export function parseDestination(text: string, namespace: string): Result<TargetWithPort, ParseError> {
  const error: ParseError = {
    what: "destination",
    found: text,
    wanted: `${FORMS}, then :PORT, :PORT/PROTOCOL or /PROTOCOL if wanted`,
  };
  const { rest, traffic: plain } = protocolAtEnd(text);
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(rest);
  const isBareV6 = bracketed === null && parseAddr(rest).ok;
  const colon = rest.indexOf(":");
  const [name, port] =
    bracketed !== null
      ? [bracketed[1] ?? "", bracketed[2]]
      : isBareV6 || colon < 0
        ? [rest, undefined]
        : [rest.slice(0, colon), rest.slice(colon + 1)];
  const target = readTarget(name, error, namespace);
  if (!target.ok) return target;
  if (port === undefined) return ok({ target: target.value, traffic: plain });
  const traffic = parseTraffic(port, text);
  return traffic.ok ? ok({ target: target.value, traffic: traffic.value }) : traffic;
}

/** `DST/icmp`, `DST/icmp:8`, `DST/icmp:3:1` (type and code), `DST/gre`, `DST/47`: a protocol without ports after the last slash. */
function protocolAtEnd(text: string): { readonly rest: string; readonly traffic: Traffic | undefined } {
  const whole = { rest: text, traffic: undefined };
  const [, rest = "", name = "", type, code] = /^(.+?)\/([a-z0-9]+)(?::(\d{1,3}))?(?::(\d{1,3}))?$/i.exec(text) ?? [];
  const traffic = trafficOf(name);
  // What has a port has its protocol after it; the other names with ports may be those of pods.
  if (traffic === undefined || hasPorts(traffic) || /:\d+$/.test(rest.replace(/\[.*\]/, ""))) return whole;
  if (type === undefined) return { rest, traffic };
  if (!isIcmp(traffic) || Number(type) > 255 || Number(code ?? 0) > 255) return whole;
  const only = code === undefined ? undefined : Number(code);
  return { rest, traffic: icmpTraffic(traffic.protocol, Number(type), only) };
}

function parseTraffic(text: string, whole: string): Result<Traffic, ParseError> {
  const [, digits = "", name = "tcp"] = /^(\d+)(?:\/(\w+))?$/.exec(text) ?? [];
  const port = digits === "" ? Number.NaN : Number(digits);
  const protocol = protocolWithPorts(name);
  if (!(port >= 1 && port <= 65535))
    return fail({
      what: "destination",
      found: whole,
      wanted: `port is ${JSON.stringify(text)}, must be 1 to 65535, then /tcp, /udp or /sctp if wanted`,
    });
  if (protocol === undefined)
    return fail({
      what: "destination",
      found: whole,
      wanted: `protocol is ${JSON.stringify(name)}, must be tcp, udp or sctp`,
    });
  return ok({ protocol, from: port, to: port });
}

const NAMESPACE = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

function readTarget(text: string, error: ParseError, namespace: string): Result<Target, ParseError> {
  const addr = parseAddr(text);
  if (addr.ok) return ok({ type: "address", addr: addr.value });
  const parts = text.split("/");
  const [first = "", second = "", third = ""] = parts;
  const object = (
    kind: string | undefined,
    where: string,
    name: string,
    isAmbiguous = false,
  ): Result<Target, ParseError> =>
    NAMESPACE.test(where) && NAME.test(name)
      ? ok({ type: "object", kind, namespace: where, name, isAmbiguous })
      : fail(error);
  if (parts.length === 2 && (first === "host" || first === "node"))
    return NAME.test(second) ? ok({ type: "host", node: second }) : fail(error);
  if (parts.length === 1) return object(undefined, namespace, first);
  if (parts.length === 2 && second === "")
    return NAMESPACE.test(first) ? ok({ type: "namespace", namespace: first }) : fail(error);
  const kind = kindWord(parts.length === 2 ? first : second);
  if (parts.length === 2)
    return kind === undefined
      ? object(undefined, first, second)
      : object(kind, namespace, second, NAMESPACE.test(first));
  return parts.length === 3 && kind !== undefined ? object(kind, first, third) : fail(error);
}
