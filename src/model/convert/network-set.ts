/**
 * Network set: converts a NetworkSet or GlobalNetworkSet to a row: nets that rules select by labels.
 *
 * A net that cannot be read is left out: admission refuses it, and what it was meant to be is not known.
 */
import { fail, formatParseError, ok, type ParseError, type Result } from "../../lib/result.ts";
import { parseNet, type Prefix } from "../../net/prefix.ts";
import type { EndpointRow } from "../endpoint.ts";
import { NAMESPACE_LABEL } from "../labels.ts";
import type { Resource } from "../resource.ts";
import { ownLabelsOf } from "./own-labels.ts";

/** Fails where labels or nets are not lists and maps of texts. */
export function networkSetOf(
  kind: "NetworkSet" | "GlobalNetworkSet",
  { metadata, spec }: Resource<"NetworkSet"> | Resource<"GlobalNetworkSet">,
): Result<EndpointRow, ParseError> {
  const namespace = kind === "NetworkSet" ? (metadata.namespace ?? "default") : undefined;
  const labels = ownLabelsOf(metadata);
  if (!labels.ok) return labels;
  if (namespace !== undefined) labels.value.set(NAMESPACE_LABEL, namespace);
  const texts: unknown = spec?.nets ?? [];
  if (!Array.isArray(texts))
    return fail({ what: "spec.nets", found: JSON.stringify(texts), wanted: "must be a list of CIDRs" });
  const nets: Prefix[] = [];
  let problem: string | undefined;
  for (const [i, text] of (texts as readonly unknown[]).entries()) {
    const net = parseNet(String(text));
    if (net.ok) nets.push(net.value);
    else problem ??= formatParseError({ ...net.error, what: `spec.nets[${i}]` });
  }
  return ok({
    uid: metadata.uid,
    node: undefined,
    namespace,
    serviceAccount: undefined,
    labels: labels.value,
    state: "live",
    addresses: [],
    addressesFrom: "status",
    ports: [],
    nets: [...new Set(nets)],
    ...(problem === undefined ? {} : { problem }),
  });
}
