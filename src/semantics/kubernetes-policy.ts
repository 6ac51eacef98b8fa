/** Kubernetes policy: how a NetworkPolicy of networking.k8s.io/v1 reads (POL-4, POL-6, POL-11, POL-19). */
import { validateNetworkPolicy } from "../model/kubernetes/network-policy-validation.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { NetworkPolicyPeer, NetworkPolicyPort } from "kubernetes-types/networking/v1";
import type { ClusterPolicy, WrittenRule, WrittenSide } from "./cluster.ts";

export function readKubernetesPolicy(policy: Resource<"KubernetesNetworkPolicy">): ClusterPolicy {
  const key = keyOf("KubernetesNetworkPolicy", policy);
  const errors = validateNetworkPolicy(policy);
  const isUnreadable = errors.some(
    ({ field }) => field === "<nil>" || field === "spec" || field.startsWith("spec.podSelector"),
  );
  const state = errors.length === 0 ? "valid" : isUnreadable ? "closed-to-all" : "closed";
  return {
    key,
    namespace: key.namespace ?? "default",
    tier: "default",
    order: 1000,
    hooks: ["normal"],
    state,
    errors,
    selector: policy.spec?.podSelector ?? {},
    ...(state === "valid" ? readRules(policy.spec) : { ingress: [], egress: [] }),
  };
}

/** POL-6. */
function readRules(spec: Resource<"KubernetesNetworkPolicy">["spec"]): Pick<ClusterPolicy, "ingress" | "egress"> {
  const types = spec?.policyTypes ?? [];
  const egress = spec?.egress ?? [];
  const has = (type: string, implied: boolean): boolean => (types.length > 0 ? types.includes(type) : implied);
  return {
    ingress: has("Ingress", true)
      ? (spec?.ingress ?? []).map(({ from, ports }) => allow(readSide(from), readSide(undefined, ports)))
      : undefined,
    egress: has("Egress", egress.length > 0)
      ? egress.map(({ to, ports }) => allow({}, readSide(to, ports)))
      : undefined,
  };
}

function allow(source: WrittenSide, destination: WrittenSide): WrittenRule {
  return { action: "allow", source, destination };
}

/** POL-11: an empty list does not restrict. */
function readSide(
  peers: readonly NetworkPolicyPeer[] | null | undefined,
  ports?: readonly NetworkPolicyPort[] | null,
): WrittenSide {
  return {
    ...(peers && peers.length > 0 ? { among: [peers] } : {}),
    ...(ports && ports.length > 0 ? { ports } : {}),
  };
}
