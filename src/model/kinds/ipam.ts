/** The IPAM objects, in upstream's shape. Upstream: api/pkg/apis/projectcalico/v3/{ipamblock,blockaffinity,ipamhandle}.go. */

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
  deleted?: boolean;
}

export interface AllocationAttributes {
  handle_id?: string;
  /** `pod`, `namespace`, `node`, `timestamp`. */
  secondary?: Record<string, string>;
}

export interface BlockAffinitySpec {
  /** A pending affinity confers nothing (calico-parity trap 61); an absent state means confirmed. */
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
