/** Cluster network policy: how a ClusterNetworkPolicy of policy.networking.k8s.io reads (POL-51). */
import type { ClusterNetworkPolicySpec } from "../model/kinds/cluster-network-policy.ts";
import { validateClusterNetworkPolicy } from "../model/kinds/validation/cluster-network-policy.ts";
import type { Key } from "../model/key.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { FieldError } from "../model/schema/field-error.ts";
import { SCTP, TCP, UDP } from "../net/protocol.ts";
import type { NetworkPolicyPeer } from "kubernetes-types/networking/v1";
import type { CalicoPort, ClusterPolicy, WrittenPort, WrittenRule, WrittenSide } from "./cluster.ts";

type Ingress = NonNullable<ClusterNetworkPolicySpec["ingress"]>[number];
type Egress = NonNullable<ClusterNetworkPolicySpec["egress"]>[number];
type Peer = Egress["to"][number];

export function readClusterNetworkPolicy(policy: Resource<"ClusterNetworkPolicy">): ClusterPolicy {
  return readClusterSpec(keyOf("ClusterNetworkPolicy", policy), policy.spec, validateClusterNetworkPolicy(policy));
}

type Spec = Omit<ClusterNetworkPolicySpec, "priority"> & { readonly priority?: number | undefined };

/** POL-55: AdminNetworkPolicies read as such a spec. */
export function readClusterSpec(key: Key, spec: Spec, errors: readonly FieldError[]): ClusterPolicy {
  const common = {
    key,
    namespace: undefined,
    tier: spec?.tier === "Baseline" ? "kube-baseline" : "kube-admin",
    order: typeof spec?.priority === "number" ? spec.priority : Number.POSITIVE_INFINITY,
    hooks: ["normal"] as const,
    errors,
  };
  if (errors.length > 0) {
    const isUnreadable = errors.some(
      ({ field }) => field === "<nil>" || field === "spec" || field.startsWith("spec.subject"),
    );
    const state = isUnreadable ? ("closed-to-all" as const) : ("closed" as const);
    return {
      ...common,
      state,
      selector: isUnreadable ? {} : subjectOf(spec),
      ingress: [EVERYTHING],
      egress: [EVERYTHING],
    };
  }
  const { ingress, egress } = spec;
  return {
    ...common,
    state: "valid",
    selector: subjectOf(spec),
    ingress: ingress === undefined || ingress.length === 0 ? undefined : ingress.map(readIngress),
    egress: egress === undefined || egress.length === 0 ? undefined : egress.map(readEgress),
  };
}

const EVERYTHING: WrittenRule = { action: "deny", source: {}, destination: {} };
const ACTIONS = { Accept: "allow", Deny: "deny", Pass: "pass" } as const;

function subjectOf({ subject }: Pick<Spec, "subject">): ClusterPolicy["selector"] {
  return { pods: podsOf(subject) ?? { podSelector: {} } };
}

function readIngress({ action, from, protocols }: Ingress): WrittenRule {
  return {
    action: ACTIONS[action],
    source: { among: [from.flatMap((peer) => peersOf(peer) ?? [])] },
    destination: portsOf(protocols),
  };
}

/** What cannot be told apart from anything else is everything in a rule that does not accept, and nothing in one that does. */
function readEgress({ action, to, protocols }: Egress): WrittenRule {
  const peers = to.map(peersOf);
  if (action !== "Accept" && peers.includes(undefined)) return EVERYTHING;
  const among = [peers.flatMap((peer) => peer ?? [])];
  return { action: ACTIONS[action], source: {}, destination: { among, ...portsOf(protocols) } };
}

/** undefined: nodes and domain names. */
function peersOf(peer: Peer): readonly NetworkPolicyPeer[] | undefined {
  if (peer.networks !== undefined) return peer.networks.map((cidr) => ({ ipBlock: { cidr } }));
  const pods = podsOf(peer);
  return pods === undefined ? undefined : [pods];
}

function podsOf({ namespaces, pods }: Pick<Peer, "namespaces" | "pods">): NetworkPolicyPeer | undefined {
  if (namespaces !== undefined) return { namespaceSelector: namespaces } as NetworkPolicyPeer;
  return pods as NetworkPolicyPeer | undefined;
}

function portsOf(protocols: Ingress["protocols"]): WrittenSide {
  if (protocols === undefined) return {};
  const ports = protocols.flatMap(({ tcp, udp, sctp, destinationNamedPort: name }): WrittenPort[] => {
    if (name !== undefined) return [{ protocols: [TCP, UDP, SCTP], port: { name } }];
    return (
      [
        ["TCP", TCP, tcp],
        ["UDP", UDP, udp],
        ["SCTP", SCTP, sctp],
      ] as const
    ).flatMap(([text, protocol, written]): WrittenPort[] => {
      if (written === undefined) return [];
      const { number, range } = written.destinationPort ?? {};
      if (number === undefined && range === undefined) return [{ protocol: text }];
      const port: CalicoPort["port"] = { from: range?.start ?? number ?? 0, to: range?.end ?? number ?? 0 };
      return [{ protocols: [protocol], port }];
    });
  });
  return { ports };
}
