/** add-requests: everything that one ADD is asked for, from the network configuration, CNI_ARGS, the Pod and its Namespace, in upstream's order. */
import type { Key } from "../model/key.ts";
import type { CniRequest } from "../podnet/protocol.ts";
import { CNI_INVALID_CONFIG, CNI_INVALID_ENVIRONMENT, CNI_TRY_AGAIN_LATER } from "../podnet/protocol.ts";
import type { TakeRequest } from "./addresses.ts";
import { CniRefusal } from "./cni-refusal.ts";
import { readArgs, readNetworkConfig } from "./network-config.ts";
import type { Report } from "../lib/report.ts";
import type { Pipeline } from "./pipeline.ts";
import type { KnownPod, PodRequestIndex } from "./pod-requests.ts";

export interface AddRequestsOptions {
  readonly node: string;
  readonly index: PodRequestIndex;
  readonly pipeline: Pick<Pipeline, "readPod">;
  readonly report: Report;
  /** Tells the users of the Pod, by an Event. */
  readonly warn: (warning: {
    readonly key: Key<"Pod">;
    readonly metadata: KnownPod["metadata"];
    readonly reason: "RequestIgnored" | "AddressConflict";
    readonly message: string;
  }) => void;
}

export interface AddRequest extends Pick<TakeRequest, "network" | "families" | "requests" | "namespaceLabels"> {
  /** Of the Pod in the datastore; undefined for a static pod. */
  readonly uid: string | undefined;
  /** undefined: automatic. */
  readonly mtuBytes: number | undefined;
  /** Of the pod's end; undefined: any. */
  readonly mac: string | undefined;
}

/** The pod that the runtime names; throws CniRefusal when it names none. */
export function podOf(request: CniRequest): Key<"Pod"> {
  const namespace = request.args["K8S_POD_NAMESPACE"];
  const name = request.args["K8S_POD_NAME"];
  if (namespace === undefined || namespace === "" || name === undefined || name === "") {
    throw new CniRefusal(CNI_INVALID_ENVIRONMENT, "CNI_ARGS must name the pod: K8S_POD_NAMESPACE and K8S_POD_NAME");
  }
  return { kind: "Pod", namespace, name };
}

export class AddRequests {
  readonly #options: AddRequestsOptions;
  /** Keys without effect that were reported. */
  readonly #reported = new Set<string>();

  constructor(options: AddRequestsOptions) {
    this.#options = options;
  }

  /** Rejects with CniRefusal for what cannot be obeyed; what has no effect is named, in the log or in an Event of the Pod. */
  async read(request: CniRequest, pod: Key<"Pod">): Promise<AddRequest> {
    const config = readNetworkConfig(request.config, this.#options.node);
    const args = readArgs(request.args);
    const found = await this.#podOfUid(pod, request.args["K8S_POD_UID"]);
    if (!found.requests.ok) throw new CniRefusal(CNI_INVALID_CONFIG, found.requests.error);
    const asked = found.requests.value;
    for (const key of [...config.ignored, ...args.ignored]) this.#reportOnce(key);
    const without = [...found.ignored, ...config.unserved];
    if (without.length > 0) this.warn(pod, "RequestIgnored", `Without effect: ${without.join("; ")}`);
    return {
      network: config.network,
      families: asked.families ?? config.families,
      requests: {
        addresses: asked.addresses ?? (args.address === undefined ? undefined : [args.address]),
        ipv4Pools: asked.ipv4Pools ?? config.ipv4Pools,
        ipv6Pools: asked.ipv6Pools ?? config.ipv6Pools,
      },
      namespaceLabels: found.namespaceLabels,
      // The API server's mirror of a static pod may be made anew while the pod itself goes on.
      uid: found.staticUid === undefined ? found.metadata.uid : undefined,
      mtuBytes: config.mtuBytes,
      mac: asked.mac,
    };
  }

  warn(pod: Key<"Pod">, reason: "RequestIgnored" | "AddressConflict", message: string): void {
    this.#options.warn({ key: pod, metadata: this.#options.index.get(pod)?.metadata ?? {}, reason, message });
  }

  #reportOnce(key: string): void {
    if (this.#reported.has(key)) return;
    this.#reported.add(key);
    this.#options.report("key of the network configuration has no effect", { key });
  }

  /** The Pod; it is read from the datastore if the watch has not brought it, or has brought another of the name. */
  async #podOfUid(pod: Key<"Pod">, uid: string | undefined): Promise<KnownPod> {
    const { index, pipeline } = this.#options;
    const isIt = ({ metadata, staticUid }: KnownPod): boolean =>
      uid === undefined || uid === "" || uid === metadata.uid || uid === staticUid;
    const known = index.get(pod);
    if (known !== undefined && isIt(known)) return known;
    const name = `pod ${pod.namespace}/${pod.name}`;
    const stored = await pipeline.readPod(pod);
    if (stored === undefined)
      throw new CniRefusal(CNI_TRY_AGAIN_LATER, `${name} does not exist in the datastore: its policy cannot be known`);
    const read = index.get(pod);
    if (read !== undefined && isIt(read)) return read;
    if (read !== undefined)
      throw new CniRefusal(
        CNI_TRY_AGAIN_LATER,
        `${name} has uid ${read.metadata.uid} in the datastore, and K8S_POD_UID is ${uid}: that pod was deleted`,
      );
    throw new CniRefusal(
      CNI_TRY_AGAIN_LATER,
      `${name} is bound to node ${JSON.stringify(stored.spec?.nodeName ?? "")}, and this is node ${JSON.stringify(this.#options.node)}`,
    );
  }
}
