/** names: the names and fixed addresses of one pod's network on the node. Upstream's tools and users depend on them. */
import { sha1Hex } from "../lib/sha1.ts";
import { unwrap } from "../lib/result.ts";
import { parseAddr } from "../net/addr.ts";
import { WORKLOAD_PREFIX } from "../program/path.ts";

/** Upstream: libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go. */
const HASH_DIGITS = 11;

/**
 * The host end of the pod's interface: `cali` and 11 hex digits. The names of two pods may collide, and a tenant can provoke that: the
 * caller uses the name of the next attempt when one is taken. Attempt 0 is upstream's name.
 */
export function hostInterfaceName(namespace: string, pod: string, attempt = 0): string {
  // A pod's name cannot contain `#`.
  const salt = attempt === 0 ? "" : `#${attempt}`;
  return `${WORKLOAD_PREFIX}${sha1Hex(`${namespace}.${pod}${salt}`).slice(0, HASH_DIGITS)}`;
}

/** MAC of every host end. */
export const HOST_MAC = "ee:ee:ee:ee:ee:ee";
/** The pod's IPv4 gateway: no interface has this address; the host end answers for it. */
export const GATEWAY_4 = unwrap(parseAddr("169.254.1.1"));
/** The pod's IPv6 gateway: the link-local address of the host end, derived from its MAC. */
export const GATEWAY_6 = unwrap(parseAddr("fe80::ecee:eeff:feee:eeee"));
