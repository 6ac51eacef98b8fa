/**
 * Target: what the operator wrote as source or destination: a pod, the pods of a controller or a Service, an address, or every pod of a
 * namespace, and a port.
 */
import { fail, ok, type ParseError, type Result } from "../lib/result.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { protocolWithPorts, type Traffic } from "../verify/traffic.ts";
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
  | { readonly type: "namespace"; readonly namespace: string };

export interface TargetWithPort {
  readonly target: Target;
  /** undefined when no port is given: all traffic. */
  readonly traffic: Traffic | undefined;
}

const FORMS = "must be NAMESPACE/POD, POD, NAMESPACE/ (all its pods), KIND/NAME, NAMESPACE/KIND/NAME or an address";

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
    wanted: `${FORMS}, then :PORT or :PORT/PROTOCOL if wanted`,
  };
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  const isBareV6 = bracketed === null && parseAddr(text).ok;
  const colon = text.indexOf(":");
  const [name, port] =
    bracketed !== null
      ? [bracketed[1] ?? "", bracketed[2]]
      : isBareV6 || colon < 0
        ? [text, undefined]
        : [text.slice(0, colon), text.slice(colon + 1)];
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
