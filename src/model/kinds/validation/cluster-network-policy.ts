/** ClusterNetworkPolicy validation: its schema, the rules of upstream's definition, and what Kubernetes says of label selectors. */
import { parsePrefix } from "../../../net/prefix.ts";
import { checkLabelSelector } from "../../kubernetes/label-selector.ts";
import type { FieldError } from "../../schema/field-error.ts";
import { CLUSTER_NETWORK_POLICY_SCHEMA, type ClusterNetworkPolicySpec } from "../cluster-network-policy.ts";
import { WORDS } from "../words.ts";
import type { Errors } from "./errors.ts";
import { shape } from "./shape.ts";

type EgressRule = NonNullable<ClusterNetworkPolicySpec["egress"]>[number];
type EgressPeer = EgressRule["to"][number];
type Protocol = NonNullable<EgressRule["protocols"]>[number];

export function validateClusterNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, CLUSTER_NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  const { spec, errors } = shaped;
  checkPods(spec.subject, "spec.subject", errors);
  spec.ingress?.forEach((rule, i) => {
    const path = `spec.ingress[${i}]`;
    rule.from.forEach((peer, j) => checkPods(peer, `${path}.from[${j}]`, errors));
    checkProtocols(rule.protocols, `${path}.protocols`, errors);
  });
  spec.egress?.forEach((rule, i) => {
    const path = `spec.egress[${i}]`;
    rule.to.forEach((peer, j) => checkPeer(peer, `${path}.to[${j}]`, errors));
    checkProtocols(rule.protocols, `${path}.protocols`, errors);
    const hasNoNames = rule.to.some(
      ({ networks, nodes, domainNames }) => networks !== undefined || nodes !== undefined || domainNames !== undefined,
    );
    if (hasNoNames && rule.protocols?.some(({ destinationNamedPort }) => destinationNamedPort !== undefined) === true)
      errors.invalid(`${path}.protocols`, rule.protocols, WORDS.namedPortPeers);
  });
  return errors.list;
}

export function checkPods(
  { namespaces, pods }: Pick<EgressPeer, "namespaces" | "pods">,
  path: string,
  errors: Errors,
): void {
  if (namespaces !== undefined) checkLabelSelector(namespaces, `${path}.namespaces`, errors.list);
  if (pods === undefined) return;
  if (pods.namespaceSelector !== undefined)
    checkLabelSelector(pods.namespaceSelector, `${path}.pods.namespaceSelector`, errors.list);
  checkLabelSelector(pods.podSelector, `${path}.pods.podSelector`, errors.list);
}

export function checkPeer(peer: EgressPeer, path: string, errors: Errors): void {
  checkPods(peer, path, errors);
  if (peer.nodes !== undefined) checkLabelSelector(peer.nodes, `${path}.nodes`, errors.list);
  peer.networks?.forEach((text, i) => {
    if (!parsePrefix(text).ok) errors.invalid(`${path}.networks[${i}]`, text, WORDS.cidr);
  });
}

function checkProtocols(protocols: readonly Protocol[] | undefined, path: string, errors: Errors): void {
  protocols?.forEach((protocol, i) => {
    for (const name of ["tcp", "udp", "sctp"] as const) {
      const range = protocol[name]?.destinationPort?.range;
      if (range !== undefined && range.start >= range.end)
        errors.invalid(`${path}[${i}].${name}.destinationPort.range.start`, range.start, WORDS.portOrder);
    }
  });
}
