/**
 * Policy objects: the objects of Calico's kinds, and ClusterNetworkPolicies, that `why` understands, from any API group that has them: the names
 * under which they are served, and the shape that is needed of them.
 */
import { KINDS } from "../model/kind.ts";
import type { Resource } from "../model/resource.ts";
import { arrayAt, isJsonObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../model/schema/json.ts";
import { ok, type Result } from "../lib/result.ts";
import type { ClusterResources } from "../semantics/cluster.ts";
import { conform, NAMED, type Shape } from "./shapes.ts";

export const POLICY_KINDS = [
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
  "Tier",
  "NetworkSet",
  "GlobalNetworkSet",
  "HostEndpoint",
  "WorkloadEndpoint",
  "Profile",
  "FelixConfiguration",
  "ClusterNetworkPolicy",
  "AdminNetworkPolicy",
  "BaselineAdminNetworkPolicy",
] as const;
export type PolicyKind = (typeof POLICY_KINDS)[number];

/** Calico's own API, and the one in which its other implementation keeps the same objects. */
const CALICO_APIS = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];
/** Of policy.networking.k8s.io, each of one version. */
const KUBERNETES_KINDS = ["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"] as const;
export const CLUSTER_NETWORK_POLICY = KINDS.ClusterNetworkPolicy.apiVersion;

/** undefined for a kind that is none of these. `CalicoPolicy` is another name of Calico's NetworkPolicy. */
export function policyKindOf(apiVersion: string, kind: string): PolicyKind | undefined {
  const ofKubernetes = KUBERNETES_KINDS.find((each) => each === kind);
  if (ofKubernetes !== undefined) return KINDS[ofKubernetes].apiVersion === apiVersion ? ofKubernetes : undefined;
  if (!CALICO_APIS.includes(apiVersion)) return undefined;
  if (kind === "CalicoPolicy") return "NetworkPolicy";
  return POLICY_KINDS.find((each) => each === kind);
}

export function isNamespaced(kind: PolicyKind): boolean {
  return [
    "NetworkPolicy",
    "StagedNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "NetworkSet",
    "WorkloadEndpoint",
  ].includes(kind);
}

/** Policies are validated where they are read: one that does not fit is closed. */
const SHAPES: Partial<Record<PolicyKind, Shape>> = {
  Tier: { ...NAMED, spec: { order: "number", defaultAction: "text" } },
  NetworkSet: { ...NAMED, spec: { nets: ["text"] } },
  GlobalNetworkSet: { ...NAMED, spec: { nets: ["text"] } },
  HostEndpoint: {
    ...NAMED,
    spec: {
      node: "text",
      interfaceName: "text",
      expectedIPs: ["text"],
      profiles: ["text"],
      ports: [{ name: "text!", port: "number!" }],
    },
  },
  WorkloadEndpoint: {
    ...NAMED,
    spec: {
      node: "text!",
      orchestrator: "text!",
      workload: "text",
      serviceAccountName: "text",
      ipNetworks: ["text"],
      profiles: ["text"],
      ports: [{ name: "text", port: "number!" }],
    },
  },
  FelixConfiguration: {
    ...NAMED,
    spec: {
      nodeSelector: "text",
      defaultEndpointToHostAction: "text",
      failsafeInboundHostPorts: [{ protocol: "text", port: "number!", net: "text" }],
      failsafeOutboundHostPorts: [{ protocol: "text", port: "number!", net: "text" }],
    },
  },
};

/** The object under its own kind and with a spec, or what is wrong with it. */
export function policyObject(kind: PolicyKind, object: JsonObject): Result<Resource, string> {
  const plain = object["apiVersion"] === CALICO_APIS[1] ? unwrapped(object, kind) : object;
  const shaped = conform(plain, SHAPES[kind] ?? NAMED);
  if (!shaped.ok) return shaped;
  const isPolicy = SHAPES[kind] === undefined;
  const { apiVersion } = KINDS[kind];
  const spec = isPolicy ? withoutNulls(plain["spec"] ?? null) : (shaped.value["spec"] ?? {});
  return ok({ ...shaped.value, apiVersion, kind, ...(spec === null ? {} : { spec }) } as unknown as Resource);
}

/** A field that is null is not there, as API servers see it. Nulls in lists stay, to be refused. */
function withoutNulls(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isJsonObject(value)) return value;
  const fields = Object.entries(value).filter(([, each]) => each !== null);
  return Object.fromEntries(fields.map(([field, each]) => [field, withoutNulls(each)]));
}

/**
 * An object as `crd.projectcalico.org` keeps it: its labels are in an annotation, and the name of a policy of the tier `default` begins with
 * the tier's. Source: libcalico-go/lib/backend/k8s/resources.
 */
function unwrapped(object: JsonObject, kind: PolicyKind): JsonObject {
  const metadata = objectAt(object["metadata"]);
  const kept = parsed(stringAt(objectAt(metadata["annotations"])["projectcalico.org/metadata"]));
  const labels = { ...objectAt(metadata["labels"]), ...objectAt(objectAt(kept)["labels"]) };
  const name = stringAt(metadata["name"]);
  const shown = kind.endsWith("NetworkPolicy") ? name.replace(/^default\./, "") : name;
  return { ...object, metadata: { ...metadata, ...(name === "" ? {} : { name: shown }), labels } };
}

function parsed(text: string): JsonValue {
  try {
    return text === "" ? null : (JSON.parse(text) as JsonValue);
  } catch {
    return null;
  }
}

/** By kind, each in the order in which it was found. */
export class PolicyObjects {
  readonly #objects = new Map<PolicyKind, Resource[]>();

  add(kind: PolicyKind, object: Resource): void {
    const list = this.#objects.get(kind);
    if (list === undefined) this.#objects.set(kind, [object]);
    else list.push(object);
  }

  of<K extends PolicyKind>(kind: K): readonly Resource<K>[] {
    return (this.#objects.get(kind) ?? []) as Resource<K>[];
  }

  /** Whether some policy decides anything. */
  get hasPolicies(): boolean {
    return (["NetworkPolicy", "GlobalNetworkPolicy", ...KUBERNETES_KINDS] as const).some(
      (kind) => this.of(kind).length > 0,
    );
  }

  /** Whether a rule asks for the endpoints of a Service. */
  get asksServices(): boolean {
    const kinds = ["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"] as const;
    return kinds.some((kind) => this.of(kind).some(({ spec }) => JSON.stringify(spec ?? {}).includes('"services"')));
  }

  get resources(): Partial<ClusterResources> {
    return {
      calicoPolicies: this.of("NetworkPolicy"),
      globalPolicies: this.of("GlobalNetworkPolicy"),
      clusterNetworkPolicies: this.of("ClusterNetworkPolicy"),
      adminNetworkPolicies: this.of("AdminNetworkPolicy"),
      baselineAdminNetworkPolicies: this.of("BaselineAdminNetworkPolicy"),
      tiers: this.of("Tier"),
      networkSets: this.of("NetworkSet"),
      globalNetworkSets: this.of("GlobalNetworkSet"),
      hostEndpoints: this.of("HostEndpoint"),
      workloadEndpoints: this.of("WorkloadEndpoint"),
      profiles: this.of("Profile"),
    };
  }
}

/** The EndpointSlice with what policy asks of it; what does not fit is left out. */
export function sliceResource(object: JsonObject): Resource<"EndpointSlice"> {
  const { name, namespace, labels } = objectAt(object["metadata"]);
  const texts = Object.entries(objectAt(labels)).flatMap(([label, value]) =>
    typeof value === "string" ? [[label, value] as const] : [],
  );
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: stringAt(name), namespace: stringAt(namespace) || "default", labels: Object.fromEntries(texts) },
    addressType: stringAt(object["addressType"]),
    endpoints: arrayAt(object["endpoints"]).map((each) => ({
      addresses: arrayAt(objectAt(each)["addresses"]).flatMap((text) => (typeof text === "string" ? [text] : [])),
    })),
    ports: arrayAt(object["ports"])
      .filter(isJsonObject)
      .map(({ protocol, port }) => ({
        ...(typeof protocol === "string" ? { protocol } : {}),
        ...(typeof port === "number" ? { port } : {}),
      })),
  };
}
