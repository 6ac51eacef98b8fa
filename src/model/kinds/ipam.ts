/** The IPAM objects, in upstream's shape. Upstream: api/pkg/apis/projectcalico/v3/{ipamblock,blockaffinity,ipamhandle}.go. */

import type { Schema } from "../schema/schema.ts";
import { META } from "./common.ts";

/** One block of addresses; ordinal `i` is the block's first address plus `i`. All writes are compare-and-swap. */
export interface IPAMBlockSpec {
  cidr: string;
  /** `host:NODE`; absent when no node owns the block. */
  affinity?: string;
  affinityClaimTime?: string;
  /** One slot per address: null, or an index into `attributes`. */
  allocations: (number | null)[];
  /** Free ordinals, oldest-freed first (FIFO). */
  unallocated: number[];
  attributes: AllocationAttributes[];
  /** Starts from the clock in nanoseconds, plus one each write. */
  sequenceNumber: number;
  /** Ordinal (decimal text) to the sequence number of its allocation. */
  sequenceNumberForAllocation: Record<string, number>;
  /** Always false: upstream's schema still requires the field, but no code reads it. */
  strictAffinity: boolean;
  deleted?: boolean;
}

export interface AllocationAttributes {
  handle_id?: string;
  /** `pod`, `namespace`, `node`, `timestamp`. */
  secondary?: Record<string, string>;
}

export interface BlockAffinitySpec {
  /** A pending affinity gives the node no routes and no ownership, and is not announced; an absent state means confirmed. */
  state?: "pending" | "confirmed" | "pendingDeletion";
  node: string;
  type?: "host" | "virtual";
  cidr: string;
  deleted?: boolean;
}

export interface IPAMHandleSpec {
  handleID: string;
  /** Block CIDR to the number of addresses that the handle holds in it. */
  block: Record<string, number>;
  deleted?: boolean;
}

/** The fields that every object has, which the schema of a kind does not describe. */
const TEXTS = { type: "object", additionalProperties: { type: "string" } } as const;

/** The whole IPAMBlock, as strict as upstream's CRD. */
export const IPAM_BLOCK_SCHEMA = {
  type: "object",
  description: "One block of addresses of a pool and who holds them. Written by the product only.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["allocations", "attributes", "cidr", "strictAffinity", "unallocated"],
      properties: {
        affinity: {
          type: "string",
          description: "Owner of the block, host:NODE; absent when no node owns it.",
          pattern: "^(host|virtual):[a-zA-Z0-9\\.\\-_]+$",
        },
        affinityClaimTime: { type: "string", description: "When the owner claimed the block.", format: "date-time" },
        allocations: {
          type: "array",
          description: "One entry for each address: null, or an index into attributes.",
          items: { type: "integer", nullable: true },
        },
        attributes: {
          type: "array",
          description: "Who holds addresses.",
          items: {
            type: "object",
            properties: {
              alternateOwnerAttrs: TEXTS,
              handle_id: { type: "string" },
              releasedAt: { type: "string", format: "date-time" },
              secondary: TEXTS,
            },
          },
        },
        cidr: { type: "string", description: "The addresses of the block.", format: "cidr" },
        deleted: { type: "boolean", description: "True while the block is being deleted." },
        sequenceNumber: { type: "integer", description: "Grows with every write.", format: "int64", default: 0 },
        sequenceNumberForAllocation: {
          type: "object",
          description: "Sequence number at which each held address was assigned.",
          additionalProperties: { type: "integer", format: "int64" },
        },
        strictAffinity: { type: "boolean", description: "Deprecated; always false." },
        unallocated: {
          type: "array",
          description: "Free addresses as offsets in the block, freed longest ago first.",
          items: { type: "integer" },
        },
      },
    },
  },
} as const satisfies Schema;

/** The whole BlockAffinity, as strict as upstream's CRD. */
export const BLOCK_AFFINITY_SCHEMA = {
  type: "object",
  description: "A node's claim to a block. Written by the product only.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["cidr", "deleted", "node", "state"],
      properties: {
        cidr: { type: "string", description: "The block.", format: "cidr" },
        deleted: { type: "boolean", description: "True while the affinity is being deleted.", default: false },
        node: { type: "string", description: "The node." },
        state: {
          type: "string",
          description: "State of the claim; only a confirmed one counts.",
          enum: ["", "confirmed", "pending", "pendingDeletion"],
        },
        type: { type: "string", description: "host, or virtual for owners that are not nodes." },
      },
    },
  },
} as const satisfies Schema;

/** The whole IPAMHandle, as strict as upstream's CRD. */
export const IPAM_HANDLE_SCHEMA = {
  type: "object",
  description: "The addresses that one holder has, by block. Written by the product only.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["block", "handleID"],
      properties: {
        block: {
          type: "object",
          description: "Number of addresses in each block.",
          additionalProperties: { type: "integer" },
        },
        deleted: { type: "boolean", description: "True while the handle is being deleted." },
        handleID: { type: "string", description: "Who holds the addresses." },
      },
    },
  },
} as const satisfies Schema;
