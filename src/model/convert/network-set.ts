/**
 * Network set: converts a NetworkSet or GlobalNetworkSet to a row: nets that rules select by labels.
 *
 * A net that cannot be read is left out: admission refuses it, and what it was meant to be is not known.
 */
import { commonEnds } from "../../lib/common-ends.ts";
import { fail, formatParseError, ok, type ParseError, type Result } from "../../lib/result.ts";
import type { Addr } from "../../net/addr.ts";
import { parseNet, type Prefix, prefixOfAddr } from "../../net/prefix.ts";
import type { EndpointRow } from "../endpoint.ts";
import { NAMESPACE_LABEL } from "../labels.ts";
import type { Resource } from "../resource.ts";
import { ownLabelsOf } from "./own-labels.ts";

/** Fails where labels or nets are not lists and maps of texts. `before`: the nets that the set had, as this function returned them. */
export function networkSetOf(
  kind: "NetworkSet" | "GlobalNetworkSet",
  { metadata, spec }: Resource<"NetworkSet"> | Resource<"GlobalNetworkSet">,
  before: readonly Prefix[] = [],
): Result<EndpointRow, ParseError> {
  const namespace = kind === "NetworkSet" ? (metadata.namespace ?? "default") : undefined;
  const labels = ownLabelsOf(metadata);
  if (!labels.ok) return labels;
  if (namespace !== undefined) labels.value.set(NAMESPACE_LABEL, namespace);
  const texts: unknown = spec?.nets ?? [];
  if (!Array.isArray(texts))
    return fail({ what: "spec.nets", found: JSON.stringify(texts), wanted: "must be a list of CIDRs" });
  const { nets, problem } = netsOf(texts, before);
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
    nets,
    ...(problem === undefined ? {} : { problem }),
  });
}

/** Each net once, and what is wrong with the first text that is none. A set of thousands comes whole when one changes: only what changed is read. */
function netsOf(
  texts: readonly unknown[],
  before: readonly Prefix[],
): { readonly nets: readonly Prefix[]; readonly problem: string | undefined } {
  const { head, tail } = commonEnds(before, texts, isTextOf);
  if (head + tail === texts.length && head + tail === before.length) return { nets: before, problem: undefined };
  const read: Prefix[] = [];
  let problem: string | undefined;
  for (let i = head; i < texts.length - tail; i++) {
    const net = parseNet(String(texts[i]));
    if (net.ok) read.push(net.value);
    else problem ??= formatParseError({ ...net.error, what: `spec.nets[${i}]` });
  }
  const nets = before.slice(0, head).concat(read, before.slice(before.length - tail));
  return { nets: read.length === 0 ? nets : [...new Set(nets)], problem };
}

/** Whether the text is the net, or its only address, as we write them. */
function isTextOf(net: Prefix, text: unknown): boolean {
  if (typeof text !== "string") return false;
  return text === net || (net.startsWith(text) && net === prefixOfAddr(text as Addr));
}
