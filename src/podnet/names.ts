/** names: what one pod's network is called and addressed by on the node. Contracts with upstream: its tools and users know them. */
import { sha1Hex } from "../lib/sha1.ts";
import { unwrap } from "../lib/result.ts";
import { parseAddr } from "../net/addr.ts";
import { WORKLOAD_PREFIX } from "../program/path.ts";

/** Upstream: libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go. */
const HASH_DIGITS = 11;

/**
 * The host end of the pod's interface: `cali` and 11 hex digits. Two pods may have one name in common, which a tenant can bring about:
 * whoever finds it taken takes that of the next attempt. Attempt 0 is upstream's name.
 */
export function hostInterfaceName(namespace: string, pod: string, attempt = 0): string {
  // No name of a pod has a `#`.
  const salt = attempt === 0 ? "" : `#${attempt}`;
  return `${WORKLOAD_PREFIX}${sha1Hex(`${namespace}.${pod}${salt}`).slice(0, HASH_DIGITS)}`;
}

/** MAC of every host end. */
export const HOST_MAC = "ee:ee:ee:ee:ee:ee";
/** The pod's IPv4 gateway: an address that nobody has; the host end answers for it. */
export const GATEWAY_4 = unwrap(parseAddr("169.254.1.1"));
/** The pod's IPv6 gateway: the link-local address that the host end has by its MAC. */
export const GATEWAY_6 = unwrap(parseAddr("fe80::ecee:eeff:feee:eeee"));
