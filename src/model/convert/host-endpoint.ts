/** Host endpoint: converts a HostEndpoint to a row: labels, expected addresses and named ports, and which interface of which node it protects. */
import { fail, formatParseError, ok, type ParseError, type Result } from "../../lib/result.ts";
import { type Addr, parseAddr } from "../../net/addr.ts";
import { parseProtocol } from "../../net/protocol.ts";
import type { EndpointRow, NamedPort } from "../endpoint.ts";
import { objectsIn } from "../kubernetes/fields.ts";
import type { Resource } from "../resource.ts";
import { ownLabelsOf } from "./own-labels.ts";

/** Fails on malformed labels, and without a node. */
export function hostEndpointOf({ metadata, spec }: Resource<"HostEndpoint">): Result<EndpointRow, ParseError> {
  const labels = ownLabelsOf(metadata);
  if (!labels.ok) return labels;
  const { node, interfaceName, expectedIPs = [], profiles = [] } = spec ?? {};
  if (typeof node !== "string" || node === "")
    return fail({ what: "spec.node", found: JSON.stringify(node), wanted: "must be the name of a node" });
  const addresses: Addr[] = [];
  let problem: string | undefined;
  for (const [i, text] of expectedIPs.entries()) {
    const addr = parseAddr(String(text));
    if (addr.ok) addresses.push(addr.value);
    else problem ??= formatParseError({ ...addr.error, what: `spec.expectedIPs[${i}]` });
  }
  return ok({
    uid: metadata.uid,
    node,
    namespace: undefined,
    serviceAccount: undefined,
    labels: labels.value,
    state: "live",
    addresses: [...new Set(addresses)],
    addressesFrom: "status",
    ports: objectsIn(spec?.ports).flatMap(namedPort),
    host: { name: metadata.name, interface: interfaceName || undefined },
    profiles: profiles.map(String),
    ...(problem === undefined ? {} : { problem }),
  });
}

/** None, if it has no name or cannot be read. */
export function namedPort({ name, port, protocol }: Readonly<Record<string, unknown>>): NamedPort[] {
  if (typeof name !== "string" || name === "" || typeof port !== "number") return [];
  return typeof protocol === "string" || typeof protocol === "number"
    ? [{ name, port, protocol: parseProtocol(protocol) }]
    : [];
}
