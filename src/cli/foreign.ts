/**
 * Foreign: kinds that decide traffic, or may, and that `why` does not understand: the policies of other implementations, of service
 * meshes and of old API versions. Where one of them applies, no answer is certain.
 */
import type { Warning } from "./inventory.ts";
import { policyKindOf } from "./policy-objects.ts";

/** `decides`: it allows, denies or redirects traffic. `hosts`: traffic of nodes alone. */
type Effect = "decides" | "hosts";

/** Of versions that are not read (policy-objects.ts). */
const CALICO: Readonly<Record<string, Effect>> = {
  NetworkPolicy: "decides",
  GlobalNetworkPolicy: "decides",
  HostEndpoint: "hosts",
  WorkloadEndpoint: "decides",
};

const BY_GROUP: Readonly<Record<string, Readonly<Record<string, Effect>>>> = {
  "projectcalico.org": CALICO,
  "crd.projectcalico.org": CALICO,
  "policy.networking.k8s.io": {
    AdminNetworkPolicy: "decides",
    BaselineAdminNetworkPolicy: "decides",
    ClusterNetworkPolicy: "decides",
  },
  "cilium.io": {
    CiliumNetworkPolicy: "decides",
    CiliumClusterwideNetworkPolicy: "decides",
    CiliumLocalRedirectPolicy: "decides",
  },
  "crd.antrea.io": { NetworkPolicy: "decides", ClusterNetworkPolicy: "decides" },
  "security.istio.io": { AuthorizationPolicy: "decides", PeerAuthentication: "decides" },
  "policy.linkerd.io": { Server: "decides", ServerAuthorization: "decides", AuthorizationPolicy: "decides" },
  "kuma.io": { TrafficPermission: "decides", MeshTrafficPermission: "decides" },
  "consul.hashicorp.com": { ServiceIntentions: "decides" },
  "k8s.ovn.org": { EgressFirewall: "decides", UserDefinedNetwork: "decides", ClusterUserDefinedNetwork: "decides" },
  "network.openshift.io": { EgressNetworkPolicy: "decides", NetNamespace: "decides" },
  "k8s.cni.cncf.io": { MultiNetworkPolicy: "decides" },
  "kubeovn.io": { SecurityGroup: "decides" },
  "networking.gke.io": { FQDNNetworkPolicy: "decides" },
  "networking.k8s.aws": { ApplicationNetworkPolicy: "decides", ClusterNetworkPolicy: "decides" },
  "vpcresources.k8s.aws": { SecurityGroupPolicy: "decides" },
  extensions: { NetworkPolicy: "decides" },
};

/** By group, then by kind; maps instead of objects, because both are untrusted text. */
const KINDS_OF = new Map(Object.entries(BY_GROUP).map(([group, kinds]) => [group, new Map(Object.entries(kinds))]));

/** Groups whose objects are derived from NetworkPolicies: the same policy a second time. */
const DERIVED = ["controlplane.antrea.io", "stats.antrea.io", "system.antrea.io"];

/** The effect of a kind, or undefined when it has no part in policy. */
export function foreignEffect(apiVersion: string, kind: string): Effect | undefined {
  if (policyKindOf(apiVersion, kind) !== undefined) return undefined;
  const [group = "", version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  const known = KINDS_OF.get(group)?.get(kind);
  if (known !== undefined) return known;
  if (group === "networking.k8s.io" && kind === "NetworkPolicy") return version === "v1" ? undefined : "decides";
  const looksLikePolicy = /NetworkPolicy$|Firewall|SecurityGroup/.test(kind);
  return looksLikePolicy && !DERIVED.includes(group) && !KINDS_OF.has(group) ? "decides" : undefined;
}

/** Whether the group is known to have such kinds, so that not being able to look into it matters. */
export function hasForeignKinds(group: string): boolean {
  return KINDS_OF.has(group) && group !== "extensions";
}

export interface ForeignObject {
  readonly apiVersion: string;
  readonly kind: string;
  /** undefined for a kind of the cluster's scope. */
  readonly namespace: string | undefined;
  readonly name: string;
}

const NAMES_SHOWN = 3;

/** One warning for each kind: in the namespaces of its objects, or everywhere if one of them has none. */
export function foreignWarnings(objects: readonly ForeignObject[]): Warning[] {
  const groups = Map.groupBy(objects, ({ apiVersion, kind }) => `${kind} (${apiVersion})`);
  return [...groups].flatMap(([what, members]) => {
    const first = members[0];
    const effect = first === undefined ? undefined : foreignEffect(first.apiVersion, first.kind);
    if (effect === undefined) return [];
    const names = [
      ...new Set(members.map(({ namespace, name }) => (namespace === undefined ? name : `${namespace}/${name}`))),
    ];
    const rest = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : "";
    const isOld = first?.kind === "NetworkPolicy" && /^(extensions|networking\.k8s\.io)\//.test(first.apiVersion);
    const text = `${what} ${names.slice(0, NAMES_SHOWN).join(", ")}${rest}: ${isOld ? OLD : WORDS[effect]}`;
    const spaces = members.map(({ namespace }) => namespace);
    const scope = spaces.includes(undefined) ? undefined : [...new Set(spaces.flatMap((namespace) => namespace ?? []))];
    return [{ text, doubt: effect === "hosts" ? "hosts" : "all", namespaces: scope }];
  });
}

const OLD = "not understood: no cluster serves this API version any more, write networking.k8s.io/v1";
const WORDS: Readonly<Record<Effect, string>> = {
  decides: "not understood, and may decide otherwise",
  hosts: "not understood, and may decide otherwise about traffic of nodes",
};
