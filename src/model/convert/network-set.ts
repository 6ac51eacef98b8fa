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
  let isAsWritten = true;
  const { head, tail } = commonEnds(before, texts, (net, text) => {
    if (net === text) return true;
    if (!isOnly(net, text)) return false;
    isAsWritten = false;
    return true;
  });
  if (head + tail === texts.length && head + tail === before.length) return { nets: before, problem: undefined };
  const read: Prefix[] = [];
  let problem: string | undefined;
  for (let i = head; i < texts.length - tail; i++) {
    const net = parseNet(String(texts[i]));
    if (net.ok) read.push(net.value);
    else problem ??= formatParseError({ ...net.error, what: `spec.nets[${i}]` });
  }
  // Texts that are the same objects the next time are compared at once.
  const kept = (isAsWritten ? texts : before) as readonly Prefix[];
  const nets = withoutRepetitions(kept.slice(0, head), read, kept.slice(kept.length - tail));
  return { nets, problem };
}

/** So many are looked for one after the other. */
const FEW = 4;

/** All in order, each where it is first. Before those that came they were there once each. */
function withoutRepetitions(
  first: readonly Prefix[],
  came: readonly Prefix[],
  last: readonly Prefix[],
): readonly Prefix[] {
  const isNew = (net: Prefix, i: number): boolean =>
    came.indexOf(net) === i && !first.includes(net) && !last.includes(net);
  const all = first.concat(came, last);
  return came.length <= FEW && came.every(isNew) ? all : [...new Set(all)];
}

/** Whether the text is the only address of the net, as we write them. */
function isOnly(net: Prefix, text: unknown): boolean {
  return typeof text === "string" && net.startsWith(text) && net === prefixOfAddr(text as Addr);
}
