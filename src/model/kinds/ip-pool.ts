/** IPPool: a range of pod addresses, cut into blocks. Upstream: api/pkg/apis/projectcalico/v3/ippool.go. */

import type { Schema } from "../schema/schema.ts";

/** `spec` of `projectcalico.org/v3` IPPool: the fields that this product acts on. */
export interface IPPoolSpec {
  /** The range, CIDR text. */
  cidr: string;
  /** Prefix length of a block: 20 to 32 for IPv4 (default 26), 116 to 128 for IPv6 (default 122). */
  blockSize?: number;
  /** True: no new addresses from this pool; those in use keep working and stay routed. */
  disabled?: boolean;
  /** Which nodes may take blocks, in selector syntax; default `all()`. */
  nodeSelector?: string;
}

const TUNNEL_MODE = { type: "string", enum: ["Never", "Always", "CrossSubnet"] } as const;

/** The whole IPPool, as strict as upstream's CRD; fields that this product does not act on are kept for those that do. */
export const IP_POOL_SCHEMA = {
  type: "object",
  description: "A range of pod addresses, cut into blocks that nodes own.",
  required: ["metadata", "spec"],
  properties: {
    apiVersion: { type: "string" },
    kind: { type: "string" },
    metadata: { type: "object" },
    spec: {
      type: "object",
      description: "The range and how it is used.",
      required: ["cidr"],
      properties: {
        allowedUses: {
          type: "array",
          description: "What addresses of the pool are for; Workload and Tunnel when absent.",
          items: { type: "string", enum: ["Workload", "Tunnel", "LoadBalancer"] },
          "x-kubernetes-list-type": "set",
        },
        assignmentMode: { type: "string", description: "Whether addresses are assigned by themselves or only on request.", enum: ["Automatic", "Manual"], default: "Automatic" },
        blockSize: { type: "integer", description: "Prefix length of a block: 20 to 32 for IPv4 (26 when absent), 116 to 128 for IPv6 (122 when absent).", minimum: 0, maximum: 128 },
        cidr: { type: "string", description: "The range, such as 10.0.0.0/16 or fd00::/64; it cannot be changed.", format: "cidr" },
        disableBGPExport: { type: "boolean", description: "True: routes of the pool are not exported over BGP." },
        disabled: { type: "boolean", description: "True: no new addresses from this pool; those in use keep working." },
        ipipMode: { ...TUNNEL_MODE, description: "When packets to the pool are tunnelled by IPIP." },
        namespaceSelector: { type: "string", description: "Selects the namespaces whose pods may have addresses of the pool." },
        natOutgoing: { type: "boolean", description: "True: packets from the pool to other destinations are masqueraded." },
        nodeSelector: { type: "string", description: "Selects the nodes that may take blocks; all when absent." },
        vxlanMode: { ...TUNNEL_MODE, description: "When packets to the pool are tunnelled by VXLAN." },
      },
    },
    status: {
      type: "object",
      description: "State of the pool as a controller sees it.",
      properties: {
        conditions: {
          type: "array",
          description: "Conditions of the pool; Allocatable says whether addresses are given out.",
          items: {
            type: "object",
            required: ["lastTransitionTime", "message", "reason", "status", "type"],
            properties: {
              lastTransitionTime: { type: "string", format: "date-time" },
              message: { type: "string", maxLength: 32768 },
              observedGeneration: { type: "integer", format: "int64", minimum: 0 },
              reason: { type: "string", minLength: 1, maxLength: 1024, pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$" },
              status: { type: "string", enum: ["True", "False", "Unknown"] },
              type: { type: "string", maxLength: 316, pattern: "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$" },
            },
          },
        },
      },
    },
  },
} as const satisfies Schema;
