/**
 * Workload endpoint: converts a WorkloadEndpoint to a row: labels, addresses and named ports as a pod has them, and which interface of which
 * node is the workload's.
 */
import { fail, formatParseError, ok, type ParseError, type Result } from "../../lib/result.ts";
import type { Addr } from "../../net/addr.ts";
import type { EndpointRow } from "../endpoint.ts";
import { addressOfNet } from "../kinds/workload-endpoint.ts";
import { objectsIn } from "../kubernetes/fields.ts";
import { NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL } from "../labels.ts";
import type { Resource } from "../resource.ts";
import { namedPort } from "./host-endpoint.ts";
import { ownLabelsOf } from "./own-labels.ts";
import { sourcePrefixesOf } from "./source-prefixes.ts";

/** Fails on malformed labels, and without a node, an orchestrator or an interface. */
export function endpointOfWorkload({ metadata, spec }: Resource<"WorkloadEndpoint">): Result<EndpointRow, ParseError> {
  const labels = ownLabelsOf(metadata);
  if (!labels.ok) return labels;
  for (const field of ["node", "orchestrator", "interfaceName"] as const)
    if (typeof spec?.[field] !== "string" || spec[field] === "")
      return fail({ what: `spec.${field}`, found: JSON.stringify(spec?.[field]), wanted: "must be a name" });
  const namespace = metadata.namespace ?? "default";
  const serviceAccount = spec.serviceAccountName || undefined;
  labels.value.set(NAMESPACE_LABEL, namespace).set(ORCHESTRATOR_LABEL, spec.orchestrator);
  if (serviceAccount !== undefined) labels.value.set(SERVICE_ACCOUNT_LABEL, serviceAccount);
  const addresses: Addr[] = [];
  let problem: string | undefined;
  for (const [i, text] of (spec.ipNetworks ?? []).entries()) {
    const addr = addressOfNet(String(text));
    if (addr !== undefined) addresses.push(addr);
    else
      problem ??= formatParseError({
        what: `spec.ipNetworks[${i}]`,
        found: String(text),
        wanted: "must be one address",
      });
  }
  const sources = sourcePrefixesOf(spec.allowSpoofedSourcePrefixes ?? []);
  return ok({
    uid: metadata.uid,
    node: spec.node,
    namespace,
    serviceAccount,
    labels: labels.value,
    state: "live",
    addresses: [...new Set(addresses)],
    addressesFrom: "status",
    ports: objectsIn(spec.ports).flatMap(namedPort),
    device: spec.interfaceName,
    profiles: (spec.profiles ?? []).map(String),
    ...(sources === undefined ? {} : { sources }),
    ...(problem === undefined ? {} : { problem }),
  });
}
