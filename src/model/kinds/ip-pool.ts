/** IPPool: a range of pod addresses, cut into blocks. Upstream: api/pkg/apis/projectcalico/v3/ippool.go. */

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
