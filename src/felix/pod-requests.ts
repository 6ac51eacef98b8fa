/**
 * pod-requests: what a Pod asks of the network by its annotations and by those of its Namespace (`cni.projectcalico.org/…`): fixed
 * addresses, pools, families, a MAC; and which annotations have no effect here.
 *
 * Remembers what pods that may be wired here and namespaces say, as the watch brings it, so that ADD need not ask the datastore.
 * Upstream: cni-plugin/pkg/k8s/k8s.go.
 */
import { formatKey, type Key, type KeyText } from "../model/key.ts";
import {
  IP_ADDRS_ANNOTATION,
  IP_FAMILIES_ANNOTATION,
  IPV4_POOLS_ANNOTATION,
  IPV6_POOLS_ANNOTATION,
  MAC_ANNOTATION,
  SOURCES_ANNOTATION,
  validatePodAnnotations,
} from "../model/kubernetes/pod-annotations.ts";
import type { NamespaceRow } from "../model/convert/namespace.ts";
import type { PodRow, RowUpdate } from "../model/convert/rows.ts";
import type { ObjectMeta } from "../model/resource.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import { type Addr, type Family, parseAddr } from "../net/addr.ts";
import { fail, ok, type Result, unwrap } from "../lib/result.ts";

export interface PodRequests {
  /** Exactly these addresses, one of a family at most. */
  readonly addresses: readonly Addr[] | undefined;
  readonly families: readonly Family[] | undefined;
  readonly ipv4Pools: readonly string[] | undefined;
  readonly ipv6Pools: readonly string[] | undefined;
  /** Of the pod's end, `aa:bb:cc:dd:ee:ff`. */
  readonly mac: string | undefined;
}

/** A Pod as ADD needs it. */
export interface KnownPod {
  readonly metadata: Pick<ObjectMeta, "uid" | "resourceVersion">;
  /** Of a static pod: the uid by which its kubelet calls it. */
  readonly staticUid: string | undefined;
  readonly requests: Result<PodRequests, string>;
  /** Annotations of the Pod and its Namespace without effect, and why. */
  readonly ignored: readonly string[];
  readonly namespaceLabels: Readonly<Record<string, string>>;
}

type Annotations = Readonly<Record<string, string>>;

/** What one object asks for. */
interface Asked {
  readonly requests: Result<PodRequests, string>;
  readonly ignored: readonly string[];
}

const NOTHING: PodRequests = {
  addresses: undefined,
  families: undefined,
  ipv4Pools: undefined,
  ipv6Pools: undefined,
  mac: undefined,
};
const NOTHING_ASKED: Asked = { requests: ok(NOTHING), ignored: [] };

const PREFIX = "cni.projectcalico.org/";
const QOS_PREFIX = "qos.projectcalico.org/";
/** Of those, on which objects they are read. */
const READ = {
  Pod: [
    IP_ADDRS_ANNOTATION,
    IPV4_POOLS_ANNOTATION,
    IPV6_POOLS_ANNOTATION,
    IP_FAMILIES_ANNOTATION,
    MAC_ANNOTATION,
    SOURCES_ANNOTATION,
  ],
  Namespace: [IPV4_POOLS_ANNOTATION, IPV6_POOLS_ANNOTATION, IP_FAMILIES_ANNOTATION],
} as const;
/** What the plugin itself writes. */
const WRITTEN: readonly string[] = [`${PREFIX}podIP`, `${PREFIX}podIPs`, `${PREFIX}containerID`];
/** A pod that carries them would get other addresses than it asks for. */
const REFUSED: ReadonlyMap<string, string> = new Map([
  [
    `${PREFIX}ipAddrsNoIpam`,
    `must be absent: addresses outside every pool are not supported, ${IP_ADDRS_ANNOTATION} asks for addresses of a pool`,
  ],
  [`${PREFIX}floatingIPs`, "must be absent: floating addresses are not supported"],
]);
/** By which the API server's mirror of a static pod names the pod of the kubelet. */
const MIRROR_ANNOTATION = "kubernetes.io/config.mirror";

/** The requests, or what is wrong with them, naming object, annotation, value and what is allowed. An empty annotation counts as absent. */
function askedBy(key: Key<"Pod"> | Key<"Namespace">, all: Annotations): Asked {
  const set = Object.entries(all).filter(
    ([name, text]) =>
      (name.startsWith(PREFIX) || name.startsWith(QOS_PREFIX)) && text !== "" && !WRITTEN.includes(name),
  );
  if (set.length === 0) return NOTHING_ASKED;
  const read: readonly string[] = READ[key.kind];
  const where = key.kind === "Pod" ? `pod ${key.namespace}/${key.name}` : `namespace ${key.name}`;
  const annotations: Annotations = Object.fromEntries(set.filter(([name]) => read.includes(name)));
  const refused =
    key.kind === "Pod"
      ? set.flatMap(([name, text]) =>
          REFUSED.has(name)
            ? [`metadata.annotations[${name}]: Invalid value: ${JSON.stringify(text)}: ${REFUSED.get(name)}`]
            : [],
        )
      : [];
  const errors = [...refused, ...validatePodAnnotations(annotations).map(formatFieldError)];
  const ignored = set
    .filter(([name]) => !read.includes(name) && !(key.kind === "Pod" && REFUSED.has(name)))
    .map(([name, text]) => `annotation ${name}=${JSON.stringify(text)} of ${where}: ${whyIgnored(name)}`);
  return {
    requests: errors.length > 0 ? fail(`${where}: ${errors.join("; ")}`) : ok(readAnnotations(annotations)),
    ignored,
  };
}

function whyIgnored(name: string): string {
  return name.startsWith(QOS_PREFIX) ? "limits by annotation are not supported" : "it is not known";
}

/** Of valid annotations. */
function readAnnotations(annotations: Annotations): PodRequests {
  const list = (name: string): readonly string[] | undefined => {
    const text = annotations[name];
    const values = text === undefined ? [] : (JSON.parse(text) as readonly string[]);
    return values.length === 0 ? undefined : values;
  };
  const families = list(IP_FAMILIES_ANNOTATION);
  return {
    addresses: list(IP_ADDRS_ANNOTATION)?.map((text) => unwrap(parseAddr(text))),
    families: families && ([4, 6] as const).filter((family) => families.includes(`IPv${family}`)),
    ipv4Pools: list(IPV4_POOLS_ANNOTATION),
    ipv6Pools: list(IPV6_POOLS_ANNOTATION),
    mac: annotations[MAC_ANNOTATION]?.toLowerCase().replaceAll("-", ":"),
  };
}

/** The Pod's own word counts before its Namespace's, for each annotation. */
function merged(pod: PodRequests, namespace: PodRequests): PodRequests {
  return {
    addresses: pod.addresses,
    families: pod.families ?? namespace.families,
    ipv4Pools: pod.ipv4Pools ?? namespace.ipv4Pools,
    ipv6Pools: pod.ipv6Pools ?? namespace.ipv6Pools,
    mac: pod.mac,
  };
}

export class PodRequestIndex {
  readonly #pods = new Map<
    KeyText,
    Asked & Pick<KnownPod, "metadata" | "staticUid"> & { readonly written: Annotations }
  >();
  readonly #namespaces = new Map<string, Asked & { readonly labels: Readonly<Record<string, string>> }>();

  observe(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      if (update.kind === "Namespace") this.#setNamespace(update.key, update.value);
      if (update.kind === "Pod") this.#setPod(update.key, update.id, update.value?.here);
    }
  }

  #setNamespace(key: Key<"Namespace">, row: NamespaceRow | undefined): void {
    if (row === undefined) this.#namespaces.delete(key.name);
    else this.#namespaces.set(key.name, { ...askedBy(key, row.annotations), labels: row.labels });
  }

  #setPod(key: Key<"Pod">, id: KeyText, pod: PodRow["here"]): void {
    if (pod === undefined) return void this.#pods.delete(id);
    const { uid, revision, annotations } = pod;
    this.#pods.set(id, {
      ...askedBy(key, annotations),
      metadata: { uid, resourceVersion: revision },
      staticUid: annotations[MIRROR_ANNOTATION],
      written: Object.fromEntries(Object.entries(annotations).filter(([name]) => WRITTEN.includes(name))),
    });
  }

  /** What the Pod says of its network by the plugin's own annotations, as the watch brought it last. */
  written(key: Key<"Pod">): Annotations {
    return this.#pods.get(formatKey(key))?.written ?? {};
  }

  /** undefined: the watch has not brought the Pod, or it is another node's. */
  get(key: Key<"Pod">): KnownPod | undefined {
    const pod = this.#pods.get(formatKey(key));
    if (pod === undefined) return undefined;
    const namespace = this.#namespaces.get(key.namespace ?? "");
    const { metadata, staticUid } = pod;
    const ignored = [...pod.ignored, ...(namespace?.ignored ?? [])];
    return {
      metadata,
      staticUid,
      ignored,
      requests: requestsOf(pod, namespace ?? NOTHING_ASKED),
      namespaceLabels: namespace?.labels ?? {},
    };
  }
}

function requestsOf(pod: Asked, namespace: Asked): Result<PodRequests, string> {
  if (!pod.requests.ok) return pod.requests;
  if (!namespace.requests.ok) return namespace.requests;
  return ok(merged(pod.requests.value, namespace.requests.value));
}
