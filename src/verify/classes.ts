/**
 * Classes: addresses that no policy of a cluster can distinguish: those of pods with the same namespace and ports, and the same values of the
 * labels that policies ask for, which are in the same blocks and behind the same Services. Two such addresses have the same verdicts as source or destination, but for what
 * follows from nodes (POL-10), which is no part of the class.
 */
import type { LabelSelector } from "kubernetes-types/meta/v1";
import { type Addr, familyOf } from "../net/addr.ts";
import { parseLegacyPrefix } from "../net/legacy-prefix.ts";
import type { Prefix } from "../net/prefix.ts";
import { type CalicoSelector, type Cluster, type ClusterPod, rulesOf, type WrittenPeer } from "../semantics/cluster.ts";
import { portOf } from "../semantics/match.ts";
import { netIndex } from "./nets.ts";
import { byAddress } from "./part.ts";
import { isPlaceholder } from "./placeholders.ts";

/** The number of the class of an address of the pod or, with undefined, of no pod. */
export type ClassOf = (addr: Addr, pod: ClusterPod | undefined) => number;

export function classifier(cluster: Cluster): ClassOf {
  const containing = netIndex(blocksOf(cluster));
  const labels = labelsAsked(cluster);
  const asked = servicesAsked(cluster);
  const services = byAddress(cluster.endpoints.filter(({ service }) => asked.has(service)));
  const hosts = byAddress(cluster.hostEndpoints);
  const numberOf = new Map([...cluster.endpoints, ...cluster.hostEndpoints].map((each, index) => [each, index]));
  const numbers = new Map<string, number>();
  const classes = new Map<Addr, number>();
  return (addr, pod) => {
    const known = classes.get(addr);
    if (known !== undefined) return known;
    const text = JSON.stringify([
      familyOf(addr),
      isPlaceholder(addr),
      // Each Service and host endpoint with the address is a class of its own.
      [...(services.get(addr) ?? []), ...(hosts.get(addr) ?? [])].map((each) => numberOf.get(each)),
      containing(addr),
      pod === undefined ? null : [pod.namespace, labels.map((label) => valueOf(pod, label)), pod.ports],
    ]);
    const found = numbers.get(text) ?? numbers.size;
    numbers.set(text, found);
    classes.set(addr, found);
    return found;
  };
}

/** POL-48: the Services that rules name. */
export function servicesAsked(cluster: Cluster): ReadonlySet<string> {
  const sides = rulesOf(cluster).flatMap(({ source, destination }) => [source, destination]);
  const peers = sides.flatMap(({ among = [] }) =>
    among.flat().flatMap((peer) => ("service" in peer ? [peer.service] : [])),
  );
  const ports = sides
    .flatMap((side) => [...(side.ports ?? []), ...(side.notPorts ?? [])])
    .flatMap((entry) => {
      const { port } = portOf(entry);
      return port !== undefined && "service" in port ? [port.service] : [];
    });
  return new Set([...peers, ...ports]);
}

function valueOf({ labels }: ClusterPod, label: string): string | null {
  return Object.hasOwn(labels, label) ? (labels[label] ?? null) : null;
}

/** Every block and exception that a policy names, and every net of a network set, once. */
function blocksOf(cluster: Cluster): Set<Prefix> {
  const sides = rulesOf(cluster).flatMap(({ source, destination }) => [source, destination]);
  const peers = sides.flatMap(({ among = [], notAmong = [] }) => [...among.flat(), ...notAmong]);
  const nets = new Set(cluster.networkSets.flatMap((set) => set.nets));
  for (const peer of peers) for (const net of netsOfPeer(peer)) nets.add(net);
  return nets;
}

/** Whether a selector may ask for labels of service accounts. */
export function asksAccounts(cluster: Cluster): boolean {
  return labelsAsked(cluster).some((label) => label.startsWith("pcsa."));
}

/** The ranges that a peer names, its exceptions too. */
export function netsOfPeer(peer: WrittenPeer): Prefix[] {
  if ("net" in peer) return [peer.net];
  const texts = "ipBlock" in peer && peer.ipBlock ? [peer.ipBlock.cidr, ...(peer.ipBlock.except ?? [])] : [];
  return texts.map(parseLegacyPrefix).flatMap((block) => (block.ok ? [block.value.prefix] : []));
}

/** The labels of a pod that some selector asks for, those of its namespace and service account among them; perhaps more. */
function labelsAsked(cluster: Cluster): string[] {
  const names = new Set<string>();
  const ask = (selector: LabelSelector | undefined, prefix: string): void => {
    for (const key of Object.keys(selector?.matchLabels ?? {})) names.add(prefix + key);
    for (const { key } of selector?.matchExpressions ?? []) names.add(prefix + key);
  };
  const askText = (text: string | undefined, prefix: string): void => {
    for (const word of text?.match(/[A-Za-z0-9_./-]+/g) ?? []) names.add(prefix + word);
  };
  const askAll = (selected: CalicoSelector): void => {
    askText(selected.selector, "");
    askText(selected.notSelector, "");
    askText(selected.namespaceSelector, "pcns.");
    askText(selected.serviceAccountSelector, "pcsa.");
    names.add("projectcalico.org/serviceaccount");
  };
  // POL-19: the selector of one that is closed to all may be anything.
  for (const { key, selector, state } of cluster.policies)
    if (state === "closed-to-all") continue;
    else if ("pods" in selector) {
      ask(selector.pods.podSelector, "");
      ask(selector.pods.namespaceSelector, "pcns.");
    } else if (key.kind === "KubernetesNetworkPolicy") ask(selector as LabelSelector, "");
    else askAll(selector as CalicoSelector);
  for (const { source, destination } of rulesOf(cluster))
    for (const { among = [], notAmong = [] } of [source, destination])
      for (const peer of [...among.flat(), ...notAmong]) {
        if ("selected" in peer) askAll(peer.selected);
        if ("net" in peer || "selected" in peer || "service" in peer) continue;
        ask(peer.podSelector, "");
        ask(peer.namespaceSelector, "pcns.");
      }
  return [...names];
}
