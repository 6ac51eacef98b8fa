/**
 * Unknowns: what manifests do not contain: the addresses of pods that do not run yet, and the labels of namespaces that are defined elsewhere.
 *
 * A pod without address gets a placeholder of each family. Two clusters then bound all possibilities: in `least` no block and no namespace
 * selector matches what is unknown, in `most` all of them do. More matches allow more (POL-7, POL-8), so a verdict that both give holds in
 * every case in between.
 */
import type { LabelSelector } from "kubernetes-types/meta/v1";
import type { IPBlock } from "kubernetes-types/networking/v1";
import { type Addr, addrFromBytes, type Family } from "../net/addr.ts";
import { parsePrefix, prefixFamily, prefixLength } from "../net/prefix.ts";
import { unwrap } from "../lib/result.ts";
import type { Cluster, ClusterPolicy, WrittenPeer, WrittenRule, WrittenSide } from "../semantics/cluster.ts";

/** Ranges that no pod and no peer can have: "this network" (RFC 1122 §3.2.1.3) and the discard prefix (RFC 6666). */
const PLACEHOLDERS: Readonly<Record<Family, string>> = { 4: "0.0.0.0/8", 6: "100::/64" };
/** The label that Kubernetes gives every Namespace: its name. */
export const NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name";
/** The node of a pod that is not scheduled yet. */
export const UNKNOWN_NODE = "(not known)";

/** The `index`-th pair of placeholders, from 0. */
export function placeholders(index: number): readonly Addr[] {
  const low = [((index + 1) >> 16) & 255, ((index + 1) >> 8) & 255, (index + 1) & 255];
  return [
    addrFromBytes(Uint8Array.from([0, ...low])),
    addrFromBytes(Uint8Array.from([1, 0, ...Array<number>(11).fill(0), ...low])),
  ];
}

/** By its text, which is canonical: asked of every address of every answer. */
export function isPlaceholder(addr: Addr): boolean {
  return addr.startsWith("0.") || addr.startsWith("100::");
}

export interface Readings {
  readonly least: Cluster;
  /** The same object as `least` when no policy depends on anything unknown. */
  readonly most: Cluster;
}

/** `namespaces`: those whose labels are not known, apart from their name. */
export function readingsOf(cluster: Cluster, namespaces: readonly string[]): Readings {
  const hasPlaceholders = cluster.pods.some(({ addresses }) => addresses.some(isPlaceholder));
  const change = (reading: keyof Readings): Cluster => ({
    ...cluster,
    policies: cluster.policies.map((policy) => readPolicy(policy, reading, namespaces)),
  });
  return hasPlaceholders || namespaces.length > 0
    ? { least: change("least"), most: change("most") }
    : { least: cluster, most: cluster };
}

function readPolicy(policy: ClusterPolicy, reading: keyof Readings, namespaces: readonly string[]): ClusterPolicy {
  if (policy.state !== "valid") return policy;
  const readSide = (side: WrittenSide): WrittenSide =>
    side.among === undefined
      ? side
      : { ...side, among: side.among.map((peers) => peers.flatMap((peer) => readPeer(peer, reading, namespaces))) };
  const readRule = (rule: WrittenRule): WrittenRule => ({
    ...rule,
    source: readSide(rule.source),
    destination: readSide(rule.destination),
  });
  return { ...policy, ingress: policy.ingress?.map(readRule), egress: policy.egress?.map(readRule) };
}

/** The peer as the reading has it. A rule keeps its place, so that it can be named. */
function readPeer(peer: WrittenPeer, reading: keyof Readings, namespaces: readonly string[]): WrittenPeer[] {
  if ("net" in peer || "selected" in peer || "service" in peer) return [peer];
  if (peer.ipBlock) return readBlock(peer.ipBlock, reading).map((ipBlock) => ({ ipBlock }));
  const { namespaceSelector } = peer;
  if (!namespaceSelector || namespaces.length === 0 || !asksMoreThanName(namespaceSelector)) return [peer];
  const { matchExpressions = [] } = namespaceSelector;
  if (reading === "least") {
    const elsewhere = { key: NAMESPACE_NAME_LABEL, operator: "NotIn", values: [...namespaces] };
    return [
      {
        ...peer,
        namespaceSelector: { ...namespaceSelector, matchExpressions: [...(matchExpressions ?? []), elsewhere] },
      },
    ];
  }
  const there = { key: NAMESPACE_NAME_LABEL, operator: "In", values: [...namespaces] };
  return [peer, { ...peer, namespaceSelector: { matchExpressions: [...termsOnName(namespaceSelector), there] } }];
}

/** Every address of a family is in its whole range, known or not. */
function readBlock(block: IPBlock, reading: keyof Readings): IPBlock[] {
  const prefix = unwrap(parsePrefix(block.cidr));
  if (prefixLength(prefix) === 0 && (block.except ?? []).length === 0) return [block];
  const unknown = PLACEHOLDERS[prefixFamily(prefix)];
  return reading === "most" ? [block, { cidr: unknown }] : [{ ...block, except: [...(block.except ?? []), unknown] }];
}

function asksMoreThanName({ matchLabels, matchExpressions }: LabelSelector): boolean {
  const keys = [...Object.keys(matchLabels ?? {}), ...(matchExpressions ?? []).map(({ key }) => key)];
  return keys.some((key) => key !== NAMESPACE_NAME_LABEL);
}

function termsOnName({ matchLabels, matchExpressions }: LabelSelector): NonNullable<LabelSelector["matchExpressions"]> {
  const name = matchLabels?.[NAMESPACE_NAME_LABEL];
  const terms = (matchExpressions ?? []).filter(({ key }) => key === NAMESPACE_NAME_LABEL);
  return name === undefined ? terms : [...terms, { key: NAMESPACE_NAME_LABEL, operator: "In", values: [name] }];
}
