/**
 * Why: `calicoctl why SRC DST[:PORT[/PROTOCOL]]`: whether traffic passes, and which rule decides at each end. Needs no daemon: a kubeconfig
 * or a directory of YAML is enough.
 *
 * Exit code 0: all that was asked about is allowed. 1: some or all of it is denied. 2: it could not be told.
 */
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import { openKubernetesStore } from "../datastore/kubernetes/store.ts";
import { openClock } from "../host/bun/clock.ts";
import { openFiles } from "../host/bun/files.ts";
import { openRandom } from "../host/bun/random.ts";
import { openSockets } from "../host/bun/sockets.ts";
import { formatParseError, type ParseError, type Result } from "../lib/result.ts";
import { formatName } from "../model/key.ts";
import { keyOf } from "../model/resource.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import { parseAddr } from "../net/addr.ts";
import { type Cluster, clusterOf, type ClusterResources, findPod } from "../semantics/cluster.ts";
import { explain, type Party } from "../verify/explain.ts";
import { InputError, readManifests } from "./manifests.ts";
import { parseDestination, parseSource, type Target } from "./target.ts";
import { type Pair, printJson, printText } from "./why-print.ts";

export interface WhyOptions {
  readonly source: string;
  readonly destination: string;
  /** Namespace of pods that are named without one. */
  readonly namespace: string;
  readonly output: "text" | "json";
  /** A file or directory of manifests; it wins over the kubeconfig. */
  readonly files: string | undefined;
  readonly kubeconfig: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface CommandResult {
  readonly code: 0 | 1 | 2;
  readonly out: string;
  readonly error: string;
}

/** Rejects with InputError or StoreError when the question or the cluster cannot be read. */
export async function runWhy(options: WhyOptions): Promise<CommandResult> {
  const source = read(parseSource(options.source, options.namespace));
  const { target, traffic } = read(parseDestination(options.destination, options.namespace));
  const resources = options.files === undefined ? await readCluster(options) : await readManifests(options.files);
  const cluster = clusterOf(resources);
  const sources = partiesOf(source, resources, cluster);
  const destinations = partiesOf(target, resources, cluster);
  const isOne = source.type !== "namespace" && target.type !== "namespace";
  const pairs: Pair[] = sources.flatMap((from) =>
    destinations.filter((to) => isOne || from.label !== to.label).map((to) => ({ source: from, destination: to, answers: explain({ cluster, source: from, destination: to, traffic }) })),
  );
  const allowed = pairs.every(({ answers }) => answers.length > 0 && answers.every((answer) => answer.allowed));
  const out = options.output === "json" ? printJson(pairs, allowed, cluster) : printText(pairs, isOne, cluster);
  return { code: allowed ? 0 : 1, out, error: warnings(cluster) };
}

function read<T>(result: Result<T, ParseError>): T {
  if (result.ok) return result.value;
  throw new InputError(formatParseError(result.error));
}

/** Where kubectl looks too: the file that is named, else ~/.kube/config, else the pod that we run in. */
async function readCluster({ kubeconfig, environment }: WhyOptions): Promise<ClusterResources> {
  const files = openFiles();
  const home = `${environment["HOME"] ?? ""}/.kube/config`;
  const path = kubeconfig ?? ((await files.exists(home)) ? home : undefined);
  if (path === undefined && environment["KUBERNETES_SERVICE_HOST"] === undefined) throw new InputError("Cannot find a cluster: give --kubeconfig, KUBECONFIG or, for YAML, -f");
  const access = read(await kubernetesCredentials(path, files, environment));
  const store = openKubernetesStore(access, { files, clock: openClock(), random: openRandom(), sockets: openSockets() });
  try {
    const [pods, namespaces, serviceAccounts, nodes, networkPolicies] = await Promise.all([
      store.list("Pod"),
      store.list("Namespace"),
      store.list("ServiceAccount"),
      store.list("Node"),
      store.list("KubernetesNetworkPolicy"),
    ]);
    return { pods: pods.items, namespaces: namespaces.items, serviceAccounts: serviceAccounts.items, nodes: nodes.items, networkPolicies: networkPolicies.items };
  } finally {
    await store.close();
  }
}

function partiesOf(target: Target, resources: ClusterResources, cluster: Cluster): Party[] {
  switch (target.type) {
    case "address":
      return [{ label: target.addr, pod: undefined, addresses: [target.addr] }];
    case "pod":
      return [podParty(target, resources, cluster)];
    case "namespace": {
      const pods = cluster.pods.filter(({ namespace }) => namespace === target.namespace);
      if (pods.length === 0) throw new InputError(`Cannot find a pod with an address in namespace ${JSON.stringify(target.namespace)}`);
      return pods.map(({ key, addresses }) => ({ label: formatName(key), pod: key, addresses }));
    }
  }
}

/** A pod on its host's network speaks from its node's addresses; policy does not know it as a pod. */
function podParty(target: Extract<Target, { readonly type: "pod" }>, resources: ClusterResources, cluster: Cluster): Party {
  const label = `${target.namespace}/${target.name}`;
  const resource = resources.pods.find((pod) => formatName(keyOf("Pod", pod)) === label);
  if (resource === undefined) throw new InputError(`Cannot find pod ${JSON.stringify(label)}`);
  const key = keyOf("Pod", resource);
  const pod = findPod(cluster, key);
  if (pod !== undefined) return { label, pod: key, addresses: pod.addresses };
  const { spec, status } = resource;
  if (spec?.hostNetwork === true) {
    const addresses = (status?.podIPs ?? []).flatMap(({ ip }) => [parseAddr(ip ?? "")]).flatMap((addr) => (addr.ok ? [addr.value] : []));
    if (addresses.length > 0) return { label: `${label} (on the network of node ${spec.nodeName})`, pod: undefined, addresses };
  }
  const cause = status?.phase === "Succeeded" || status?.phase === "Failed" ? `it has finished (phase ${status.phase})` : spec?.nodeName ? "its network is not set up, or was torn down" : "it is not scheduled";
  throw new InputError(`Cannot find an address of pod ${JSON.stringify(label)}: ${cause}`);
}

function warnings(cluster: Cluster): string {
  const invalid = cluster.policies.filter(({ errors }) => errors.length > 0);
  return invalid.map(({ key, errors }) => `warning: NetworkPolicy ${formatName(key)} is invalid and allows nothing: ${errors.map(formatFieldError).join("; ")}\n`).join("");
}
