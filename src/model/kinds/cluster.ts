/**
 * The singletons of the cluster, both named `default`: ClusterInformation (its identity, and whether the datastore may be used) and
 * KubeControllersConfiguration (settings of upstream's controllers, which its tools read).
 * Upstream: api/pkg/apis/projectcalico/v3/{clusterinfo,kubecontrollersconfig}.go.
 */
import type { Key } from "../key.ts";
import type { Schema, ValidationRule } from "../schema/schema.ts";
import { META } from "./common.ts";

export interface ClusterInformationSpec {
  /** 32 hexadecimal digits. */
  clusterGUID?: string;
  /** Comma-separated words such as `k8s,bgp,kdd`. */
  clusterType?: string;
  calicoVersion?: string;
  /** False: the datastore is being migrated: it must not be written to, and its content must not be acted on. */
  datastoreReady?: boolean;
  variant?: string;
}

/** The fields that the product writes; all others are upstream's. */
export interface KubeControllersConfigurationSpec {
  controllers: { loadBalancer?: { assignIPs?: "AllServices" | "RequestedServicesOnly" } };
}

export const CLUSTER_INFORMATION: Key<"ClusterInformation"> = {
  kind: "ClusterInformation",
  namespace: undefined,
  name: "default",
};
export const KUBE_CONTROLLERS_CONFIGURATION: Key<"KubeControllersConfiguration"> = {
  kind: "KubeControllersConfiguration",
  namespace: undefined,
  name: "default",
};

/** Whether the datastore may be used. It may if the object or field is absent, as upstream. */
export function datastoreReady(information: { readonly spec: ClusterInformationSpec } | undefined): boolean {
  return information?.spec.datastoreReady !== false;
}

/** An object with any other name would have no effect. */
export const ONLY_DEFAULT: readonly ValidationRule[] = [
  {
    rule: "self.metadata.name == 'default'",
    message: "metadata.name must be default: it is the only object of its kind that has an effect",
  },
];

export const CLUSTER_INFORMATION_SCHEMA = {
  type: "object",
  description:
    "What the cluster is, and whether its datastore may be used. Written by the product; datastoreReady may be set by hand.",
  required: ["metadata", "spec"],
  "x-kubernetes-validations": ONLY_DEFAULT,
  properties: {
    ...META,
    spec: {
      type: "object",
      properties: {
        calicoVersion: { type: "string", description: "Version of Calico that the nodes run." },
        clusterGUID: { type: "string", description: "Identifies the cluster." },
        clusterType: { type: "string", description: "Comma-separated words such as k8s,bgp,kdd." },
        datastoreReady: {
          type: "boolean",
          description: "False: nodes start no pods and take in no changes until it is true again.",
        },
        variant: { type: "string", description: "Variant of Calico." },
      },
    },
  },
} as const satisfies Schema;

const PERIOD = { type: "string", description: "Period of reconciliation, such as 5m." } as const;
const PERIODIC = { type: "object", properties: { reconcilerPeriod: PERIOD } } as const;
const SWITCH = { type: "string", enum: ["Enabled", "Disabled"] } as const;
const PORT = { type: "integer", minimum: 0, maximum: 65535 } as const;
const TEXTS = { type: "object", additionalProperties: { type: "string" } } as const;

const CONTROLLERS_SPEC = {
  type: "object",
  required: ["controllers"],
  properties: {
    controllers: {
      type: "object",
      description: "Settings of each controller.",
      properties: {
        loadBalancer: {
          type: "object",
          properties: {
            assignIPs: {
              type: "string",
              description: "Which Services of type LoadBalancer get an address.",
              enum: ["AllServices", "RequestedServicesOnly"],
              default: "AllServices",
            },
          },
        },
        migration: { type: "object", properties: { policyNameMigrator: { ...SWITCH, default: "Enabled" } } },
        namespace: PERIODIC,
        node: {
          type: "object",
          properties: {
            hostEndpoint: {
              type: "object",
              properties: {
                autoCreate: SWITCH,
                createDefaultHostEndpoint: { type: "string" },
                templates: {
                  type: "array",
                  "x-kubernetes-list-type": "atomic",
                  items: {
                    type: "object",
                    properties: {
                      annotations: TEXTS,
                      generateName: { type: "string", maxLength: 253 },
                      interfaceCIDRs: { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "set" },
                      interfacePattern: { type: "string" },
                      labels: TEXTS,
                      nodeSelector: { type: "string" },
                    },
                  },
                },
              },
            },
            leakGracePeriod: {
              type: "string",
              description: "How long an address must look leaked before it is released.",
            },
            reconcilerPeriod: PERIOD,
            syncLabels: SWITCH,
          },
        },
        policy: PERIODIC,
        serviceAccount: PERIODIC,
        workloadEndpoint: PERIODIC,
      },
    },
    debugProfilePort: { ...PORT, format: "int32" },
    etcdV3CompactionPeriod: { type: "string" },
    healthChecks: { ...SWITCH, default: "Enabled" },
    logSeverityScreen: { type: "string", enum: ["None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"] },
    prometheusMetricsPort: PORT,
  },
} as const satisfies Schema;

export const KUBE_CONTROLLERS_CONFIGURATION_SCHEMA = {
  type: "object",
  description: "Settings of Calico's controllers.",
  required: ["metadata", "spec"],
  "x-kubernetes-validations": ONLY_DEFAULT,
  properties: {
    ...META,
    spec: CONTROLLERS_SPEC,
    status: { type: "object", properties: { environmentVars: TEXTS, runningConfig: CONTROLLERS_SPEC } },
  },
} as const satisfies Schema;
