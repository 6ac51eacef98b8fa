/**
 * pod-requests: what a Pod asks of the network by its annotations (`cni.projectcalico.org/…`): fixed addresses, pools, a MAC.
 *
 * Remembers the annotations of pods that may be wired here, as the watch brings them, so that ADD need not ask the datastore.
 */
import { formatKey, type Key, type KeyText } from "../model/key.ts";
import { IP_ADDRS_ANNOTATION, IPV4_POOLS_ANNOTATION, IPV6_POOLS_ANNOTATION, MAC_ANNOTATION, validatePodAnnotations } from "../model/kubernetes/pod-annotations.ts";
import type { Resource } from "../model/resource.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import type { Update } from "../model/update.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { fail, ok, type Result, unwrap } from "../lib/result.ts";

export interface PodRequests {
  /** Exactly these addresses, one of a family at most. */
  readonly addresses: readonly Addr[] | undefined;
  readonly ipv4Pools: readonly string[] | undefined;
  readonly ipv6Pools: readonly string[] | undefined;
  /** Of the pod's end, `aa:bb:cc:dd:ee:ff`. */
  readonly mac: string | undefined;
}

const NOTHING: PodRequests = { addresses: undefined, ipv4Pools: undefined, ipv6Pools: undefined, mac: undefined };
const READ: readonly string[] = [IP_ADDRS_ANNOTATION, IPV4_POOLS_ANNOTATION, IPV6_POOLS_ANNOTATION, MAC_ANNOTATION];

/** The requests, or what is wrong with the first annotation that makes no sense, naming pod, annotation, value and what is allowed. */
export function requestsOf(key: Key<"Pod">, annotations: Readonly<Record<string, string>>): Result<PodRequests, string> {
  const errors = validatePodAnnotations(annotations);
  if (errors.length > 0) return fail(`pod ${key.namespace}/${key.name}: ${errors.map(formatFieldError).join("; ")}`);
  const list = (name: string): readonly string[] | undefined => {
    const text = annotations[name];
    return text === undefined ? undefined : (JSON.parse(text) as readonly string[]);
  };
  return ok({
    addresses: list(IP_ADDRS_ANNOTATION)?.map((text) => unwrap(parseAddr(text))),
    ipv4Pools: list(IPV4_POOLS_ANNOTATION),
    ipv6Pools: list(IPV6_POOLS_ANNOTATION),
    mac: annotations[MAC_ANNOTATION]?.toLowerCase().replaceAll("-", ":"),
  });
}

export class PodRequestIndex {
  readonly #node: string;
  readonly #known = new Map<KeyText, Result<PodRequests, string>>();

  constructor(node: string) {
    this.#node = node;
  }

  observe(updates: readonly Update[]): void {
    for (const update of updates) {
      if (update.kind !== "Pod") continue;
      const node = update.value?.spec?.nodeName;
      if (update.value === undefined || (node !== undefined && node !== this.#node)) this.#known.delete(formatKey(update.key));
      else this.#known.set(formatKey(update.key), readRequests(update.key, update.value));
    }
  }

  /** undefined: the watch has not brought the Pod. */
  get(key: Key<"Pod">): Result<PodRequests, string> | undefined {
    return this.#known.get(formatKey(key));
  }
}

/** Most pods ask for nothing; they share one value. */
function readRequests(key: Key<"Pod">, pod: Resource<"Pod">): Result<PodRequests, string> {
  const annotations = pod.metadata.annotations ?? {};
  return READ.some((name) => annotations[name] !== undefined) ? requestsOf(key, annotations) : ok(NOTHING);
}
