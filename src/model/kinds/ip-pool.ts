/** IPPool: a range of pod addresses, cut into blocks. Upstream: api/pkg/apis/projectcalico/v3/ippool.go. */

import type { Schema, ValidationRule } from "../schema/schema.ts";
import { CONDITIONS, META } from "./common.ts";

/** The fields of `spec` of a `projectcalico.org/v3` IPPool that this product acts on. */
export interface IPPoolSpec {
  /** The range, CIDR text. */
  cidr: string;
  /** Prefix length of a block: 20 to 32 for IPv4 (default 26), 116 to 128 for IPv6 (default 122). */
  blockSize?: number;
  /** True: no new addresses from this pool; those in use keep working and stay routed. */
  disabled?: boolean;
  /** True: routes of the pool are not exported over BGP. */
  disableBGPExport?: boolean;
  /** Selects the nodes that may take blocks; default `all()`. */
  nodeSelector?: string;
  /** Selects the namespaces whose pods get addresses without naming the pool; default `all()`. */
  namespaceSelector?: string;
}

const TUNNEL_MODE = { type: "string", enum: ["Never", "Always", "CrossSubnet"] } as const;

/** The block length of the pool `of`; 0 and absent both mean the default. */
const blockSize = (of: "self" | "oldSelf"): string =>
  `(has(${of}.blockSize) && ${of}.blockSize != 0 ? ${of}.blockSize : cidr(${of}.cidr).ip().family() == 4 ? 26 : 122)`;
const tunnels = (field: "ipipMode" | "vxlanMode"): string => `has(self.${field}) && self.${field} != 'Never'`;
const isUsedFor = (use: "Workload" | "Tunnel" | "LoadBalancer"): string =>
  `(has(self.allowedUses) && '${use}' in self.allowedUses)`;
const overlaps = (range: string): string =>
  `(cidr('${range}').containsIP(cidr(self.cidr).ip()) || cidr(self.cidr).containsIP(cidr('${range}').ip()))`;

function blockSizeRule(family: 4 | 6, least: number, most: number): ValidationRule {
  return {
    rule: `cidr(self.cidr).ip().family() != ${family} || (${blockSize("self")} >= ${least} && ${blockSize("self")} <= ${most})`,
    message: `must be between ${least} and ${most}, inclusive, for an IPv${family} pool`,
    fieldPath: ".blockSize",
  };
}

/**
 * What upstream's CRD refuses, and a change of the block size from or to an absent one, which upstream misses. Messages are fixed texts:
 * API servers reject an expression that builds one from an address as too costly.
 */
const POOL_RULES: readonly ValidationRule[] = [
  {
    rule: "cidr(self.cidr) == cidr(self.cidr).masked()",
    message: "host bits must be zero, as in 10.0.0.0/16 or fd00::/64",
    fieldPath: ".cidr",
  },
  {
    rule: `!${overlaps("169.254.0.0/16")}`,
    message: "must not overlap the link-local range 169.254.0.0/16",
    fieldPath: ".cidr",
  },
  { rule: `!${overlaps("fe80::/10")}`, message: "must not overlap the link-local range fe80::/10", fieldPath: ".cidr" },
  blockSizeRule(4, 20, 32),
  blockSizeRule(6, 116, 128),
  {
    rule: `(has(self.disabled) && self.disabled) || cidr(self.cidr).prefixLength() <= ${blockSize("self")}`,
    message:
      "the pool is smaller than one block: its length must be at most the block size (when absent 26 for IPv4, 122 for IPv6)",
    fieldPath: ".cidr",
  },
  {
    rule: `${blockSize("self")} == ${blockSize("oldSelf")}`,
    message: "the block size of a pool cannot be changed: make another pool and disable this one",
    fieldPath: ".blockSize",
  },
  {
    rule: `!(${tunnels("ipipMode")} && ${tunnels("vxlanMode")})`,
    message: "ipipMode and vxlanMode cannot both be in use: set one of them to Never",
    reason: "FieldValueForbidden",
  },
  {
    rule: `!(${tunnels("ipipMode")} && cidr(self.cidr).ip().family() == 6)`,
    message: "IPIP carries IPv4 only: must be Never for an IPv6 pool",
    reason: "FieldValueForbidden",
    fieldPath: ".ipipMode",
  },
  {
    rule: `!(${isUsedFor("LoadBalancer")} && (${tunnels("ipipMode")} || ${tunnels("vxlanMode")}))`,
    message: "ipipMode and vxlanMode must be Never for a pool of load balancer addresses",
    reason: "FieldValueForbidden",
  },
  {
    rule: `!(${isUsedFor("LoadBalancer")} && (${isUsedFor("Workload")} || ${isUsedFor("Tunnel")}))`,
    message: "LoadBalancer must be the only use of a pool",
    reason: "FieldValueForbidden",
    fieldPath: ".allowedUses",
  },
  {
    rule: `!(${isUsedFor("LoadBalancer")} && has(self.disableBGPExport) && self.disableBGPExport)`,
    message: "must be false for a pool of load balancer addresses",
    reason: "FieldValueForbidden",
    fieldPath: ".disableBGPExport",
  },
  {
    rule: `!${isUsedFor("LoadBalancer")} || self.nodeSelector == 'all()'`,
    message: "must be all() for a pool of load balancer addresses",
    fieldPath: ".nodeSelector",
  },
  {
    rule: `!(${isUsedFor("Tunnel")} && has(self.namespaceSelector) && self.namespaceSelector != '')`,
    message: "must be absent for a pool of tunnel addresses",
    reason: "FieldValueForbidden",
    fieldPath: ".namespaceSelector",
  },
  {
    rule: "!has(self.nodeSelector) || !self.nodeSelector.contains('global(')",
    message: "global() has no meaning here",
    fieldPath: ".nodeSelector",
  },
  {
    rule: "!has(self.namespaceSelector) || !self.namespaceSelector.contains('global(')",
    message: "global() has no meaning here",
    fieldPath: ".namespaceSelector",
  },
];

/** The whole IPPool, as strict as upstream's CRD; fields that this product does not act on are kept for clients that do. */
export const IP_POOL_SCHEMA = {
  type: "object",
  description: "A range of pod addresses, cut into blocks that nodes own.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      description: "The range and how it is used.",
      required: ["cidr"],
      "x-kubernetes-validations": POOL_RULES,
      properties: {
        allowedUses: {
          type: "array",
          description: "What addresses of the pool are for; Workload and Tunnel when absent.",
          items: { type: "string", enum: ["Workload", "Tunnel", "LoadBalancer"] },
          maxItems: 10,
          "x-kubernetes-list-type": "set",
        },
        assignmentMode: {
          type: "string",
          description: "Whether addresses are assigned automatically or only on request.",
          enum: ["Automatic", "Manual"],
          default: "Automatic",
        },
        blockSize: {
          type: "integer",
          description:
            "Prefix length of a block: 20 to 32 for IPv4 (26 when absent), 116 to 128 for IPv6 (122 when absent).",
          minimum: 0,
          maximum: 128,
        },
        cidr: {
          type: "string",
          description: "The range, such as 10.0.0.0/16 or fd00::/64; it cannot be changed.",
          format: "cidr",
          maxLength: 48,
          "x-kubernetes-validations": [
            {
              rule: "self == oldSelf",
              message: "the range of a pool cannot be changed: make another pool and disable this one",
            },
          ],
        },
        disableBGPExport: { type: "boolean", description: "True: routes of the pool are not exported over BGP." },
        disabled: { type: "boolean", description: "True: no new addresses from this pool; those in use keep working." },
        ipipMode: { ...TUNNEL_MODE, description: "When packets to the pool are tunnelled by IPIP." },
        namespaceSelector: {
          type: "string",
          description: "Selects the namespaces whose pods may have addresses of the pool.",
          maxLength: 1024,
        },
        natOutgoing: {
          type: "boolean",
          description: "True: packets from the pool to other destinations are masqueraded.",
        },
        nodeSelector: {
          type: "string",
          description: "Selects the nodes that may take blocks.",
          default: "all()",
          maxLength: 1024,
        },
        vxlanMode: { ...TUNNEL_MODE, description: "When packets to the pool are tunnelled by VXLAN." },
      },
    },
    status: {
      type: "object",
      description: "State of the pool as a controller sees it.",
      properties: {
        conditions: {
          ...CONDITIONS,
          description: "Conditions of the pool; Allocatable says whether addresses are assigned.",
        },
      },
    },
  },
} as const satisfies Schema;
