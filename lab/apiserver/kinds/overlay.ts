/**
 * Overlay: the schemas of the built-in kinds: the shapes of `shapes.ts` with defaults, enumerations, merge keys and words on top.
 *
 * A schema carries the name under which OpenAPI documents publish it. `required` of the shapes is for clients only (`requiredOf`): the
 * server checks, as Kubernetes does, the fields that its rules name.
 */
import { invariant } from "../../../src/lib/bug.ts";
import type { Schema } from "../../../src/model/schema/schema.ts";
import { DESCRIPTIONS } from "./descriptions.ts";
import { SHAPES } from "./shapes.ts";

type Fields = Readonly<Record<string, Schema>>;

const merge = (key?: string): Schema => ({
  "x-kubernetes-patch-strategy": "merge",
  ...(key === undefined ? {} : { "x-kubernetes-patch-merge-key": key }),
});
const mergeRetain = (key: string): Schema => ({
  "x-kubernetes-patch-strategy": "merge,retainKeys",
  "x-kubernetes-patch-merge-key": key,
});
const PROTOCOL: Schema = { default: "TCP", enum: ["SCTP", "TCP", "UDP"] };
const CONTAINER: Fields = {
  ports: merge("containerPort"),
  env: merge("name"),
  volumeMounts: merge("mountPath"),
  volumeDevices: merge("devicePath"),
  terminationMessagePath: { default: "/dev/termination-log" },
  terminationMessagePolicy: { default: "File", enum: ["FallbackToLogsOnError", "File"] },
  imagePullPolicy: { enum: ["Always", "IfNotPresent", "Never"] },
  resources: { default: {} },
};
const DEFAULT_MODE: Fields = { defaultMode: { default: 420 } };
const METADATA: Schema = { default: {} };
const BYTES: Schema = { additionalProperties: { type: "string", format: "byte" } };
/** Go writes an absent time of some kinds as null. */
const ABSENT_TIME: Schema = { nullable: true, default: null };

const OVERLAYS: Readonly<Record<string, Fields>> = {
  "meta.v1.ObjectMeta": { finalizers: merge(), ownerReferences: merge("uid") },
  "core.v1.Pod": { metadata: METADATA },
  "core.v1.PodSpec": {
    containers: merge("name"),
    initContainers: merge("name"),
    ephemeralContainers: merge("name"),
    volumes: mergeRetain("name"),
    imagePullSecrets: merge("name"),
    hostAliases: merge("ip"),
    topologySpreadConstraints: merge("topologyKey"),
    resourceClaims: mergeRetain("name"),
    schedulingGates: merge("name"),
    restartPolicy: { default: "Always", enum: ["Always", "OnFailure", "Never"] },
    dnsPolicy: { default: "ClusterFirst", enum: ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"] },
    schedulerName: { default: "default-scheduler" },
    terminationGracePeriodSeconds: { default: 30 },
    securityContext: { default: {} },
    enableServiceLinks: { default: true },
    preemptionPolicy: { default: "PreemptLowerPriority", enum: ["Never", "PreemptLowerPriority"] },
  },
  "core.v1.Container": CONTAINER,
  "core.v1.EphemeralContainer": CONTAINER,
  "core.v1.ContainerStatus": { allocatedResourcesStatus: merge("name"), volumeMounts: merge("mountPath") },
  "core.v1.Probe": {
    timeoutSeconds: { default: 1 },
    periodSeconds: { default: 10 },
    successThreshold: { default: 1 },
    failureThreshold: { default: 3 },
  },
  "core.v1.HTTPGetAction": { path: { default: "/" }, scheme: { default: "HTTP", enum: ["HTTP", "HTTPS"] } },
  "core.v1.ObjectFieldSelector": { apiVersion: { default: "v1" } },
  "core.v1.ConfigMapVolumeSource": DEFAULT_MODE,
  "core.v1.SecretVolumeSource": DEFAULT_MODE,
  "core.v1.DownwardAPIVolumeSource": DEFAULT_MODE,
  "core.v1.ProjectedVolumeSource": DEFAULT_MODE,
  "core.v1.ServiceAccountTokenProjection": { expirationSeconds: { default: 3600 } },
  "core.v1.PodCondition": { lastProbeTime: ABSENT_TIME, lastTransitionTime: ABSENT_TIME },
  "core.v1.NodeCondition": { lastHeartbeatTime: ABSENT_TIME, lastTransitionTime: ABSENT_TIME },
  "core.v1.Event": {
    eventTime: ABSENT_TIME,
    firstTimestamp: ABSENT_TIME,
    lastTimestamp: ABSENT_TIME,
    reportingComponent: { default: "" },
    reportingInstance: { default: "" },
  },
  "core.v1.HostPathVolumeSource": { type: { default: "" } },
  "core.v1.ContainerPort": { protocol: PROTOCOL },
  "core.v1.PodStatus": {
    conditions: merge("type"),
    podIPs: merge("ip"),
    hostIPs: { "x-kubernetes-list-type": "atomic", ...merge("ip") },
    resourceClaimStatuses: mergeRetain("name"),
  },
  "core.v1.ServiceSpec": {
    ports: merge("port"),
    type: { default: "ClusterIP", enum: ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"] },
    sessionAffinity: { default: "None", enum: ["ClientIP", "None"] },
  },
  "core.v1.ServicePort": { protocol: PROTOCOL },
  "core.v1.ServiceStatus": { conditions: merge("type"), loadBalancer: { default: {} } },
  "core.v1.ServiceAccount": { secrets: merge("name") },
  "core.v1.NodeSpec": { podCIDRs: merge() },
  "core.v1.NodeStatus": { conditions: merge("type"), addresses: merge("type") },
  "core.v1.NamespaceStatus": { conditions: merge("type") },
  "core.v1.ConfigMap": { binaryData: BYTES },
  "core.v1.Secret": { data: BYTES, type: { default: "Opaque" } },
  "discovery.v1.EndpointSlice": {
    addressType: { enum: ["FQDN", "IPv4", "IPv6"] },
    endpoints: { "x-kubernetes-list-type": "atomic" },
    ports: { "x-kubernetes-list-type": "atomic" },
  },
  "discovery.v1.Endpoint": { conditions: { default: {} } },
  "discovery.v1.EndpointPort": { protocol: PROTOCOL, name: { default: "" } },
  "networking.v1.NetworkPolicyPort": { protocol: { default: "TCP" } },
  "apiextensions.v1.CustomResourceDefinitionSpec": {
    scope: { enum: ["Cluster", "Namespaced"] },
    conversion: { default: { strategy: "None" } },
  },
};

const shapes = new Map(
  SHAPES.trim()
    .split("\n")
    .map((line) => [line.split(" ", 1)[0] ?? "", line]),
);
const schemas = new Map<string, Schema>();
const required = new Map<string, readonly string[]>();

/** `core.v1.Pod` → `io.k8s.api.core.v1.Pod`, the name in Kubernetes' OpenAPI documents. */
function definitionName(shape: string): string {
  if (shape.startsWith("meta.")) return `io.k8s.apimachinery.pkg.apis.${shape}`;
  if (shape.startsWith("apiextensions.")) return `io.k8s.apiextensions-apiserver.pkg.apis.${shape}`;
  return `io.k8s.api.${shape}`;
}

/** The schema of a shape, `core.v1.Pod`; made at the first call. */
export function schemaOf(shape: string): Schema {
  const known = schemas.get(shape);
  if (known !== undefined) return known;
  const line = shapes.get(shape);
  invariant(line !== undefined, `no shape ${shape}`);
  const properties: Record<string, Schema> = {};
  const needed: string[] = [];
  for (const item of line.split(" ").slice(1)) {
    const at = item.indexOf("=");
    const field = item.slice(0, at);
    if (item.endsWith("!")) needed.push(field);
    properties[field] = describe(shape, field, {
      ...typeSchema(item.slice(at + 1).replace(/!$/, "")),
      ...OVERLAYS[shape]?.[field],
    });
  }
  const definition = definitionName(shape);
  const schema: Schema = { type: "object", definition, description: DESCRIPTIONS[shape] ?? "", properties };
  required.set(definition, needed);
  schemas.set(shape, schema);
  return schema;
}

function describe(shape: string, field: string, schema: Schema): Schema {
  const description = DESCRIPTIONS[`${shape}.${field}`] ?? DESCRIPTIONS[`*.${field}`];
  return description === undefined ? schema : { ...schema, description };
}

/** The fields that the published definition calls required. */
export function requiredOf(definition: string): readonly string[] {
  return required.get(definition) ?? [];
}

function typeSchema(type: string): Schema {
  if (type.startsWith("[")) return { type: "array", items: typeSchema(type.slice(1, -1)) };
  if (type.startsWith("{")) return { type: "object", additionalProperties: typeSchema(type.slice(1, -1)) };
  switch (type) {
    case "string":
      return { type: "string" };
    case "int":
      return { type: "integer" };
    case "bool":
      return { type: "boolean" };
    case "time":
      return { definition: "io.k8s.apimachinery.pkg.apis.meta.v1.Time", type: "string", format: "date-time" };
    case "microtime":
      return { definition: "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", type: "string", format: "date-time" };
    case "quantity":
      return {
        definition: "io.k8s.apimachinery.pkg.api.resource.Quantity",
        anyOf: [{ type: "string" }, { type: "number" }],
      };
    case "intstr":
      return { definition: "io.k8s.apimachinery.pkg.util.intstr.IntOrString", "x-kubernetes-int-or-string": true };
    case "any":
      return { "x-kubernetes-preserve-unknown-fields": true };
    default:
      return schemaOf(type);
  }
}
