/**
 * Cluster: reads what `why` needs of a cluster through its API, once: what policy applies to, Services where the question is about an address
 * or a Service, and other objects that may decide traffic. It only reads, and reports what it is not permitted to read.
 */
import { pageOf } from "../datastore/kubernetes/decode.ts";
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import type { KubernetesAccess } from "../datastore/kubernetes/kubeconfig.ts";
import { type DatastoreAccess, datastoreChoice } from "../datastore/open.ts";
import { openKubernetesStore } from "../datastore/kubernetes/store.ts";
import { Transport } from "../datastore/kubernetes/transport.ts";
import { type Store, StoreError } from "../datastore/store.ts";
import { openClock } from "../host/bun/clock.ts";
import { openFiles } from "../host/bun/files.ts";
import { openServiceHosts } from "../host/bun/names.ts";
import { openRandom } from "../host/bun/random.ts";
import { openSockets } from "../host/bun/sockets.ts";
import { formatParseError } from "../lib/result.ts";
import { KINDS } from "../model/kind.ts";
import type { Resource } from "../model/resource.ts";
import {
  arrayAt,
  fieldAt,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../model/schema/json.ts";
import { endpointSliceOf, serviceOf } from "../verify/services.ts";
import { readEtcdCluster } from "./etcd-cluster.ts";
import { foreignEffect, type ForeignObject, foreignWarnings, hasForeignKinds } from "./foreign.ts";
import { InputError, type Inventory, type Warning } from "./inventory.ts";
import {
  CLUSTER_NETWORK_POLICY,
  type PolicyKind,
  policyKindOf,
  policyObject,
  PolicyObjects,
  sliceResource,
} from "./policy-objects.ts";

import { configOf } from "./verbs/access.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Services matter where an address or a Service is asked about; nodes where one is, or a pod on its node's network. */
export interface ClusterOptions {
  readonly kubeconfig: string | undefined;
  /** A CalicoAPIConfig. */
  readonly config: string | undefined;
  readonly environment: Environment;
  readonly needsServices: boolean;
}

/** Rejects with InputError or StoreError when the cluster cannot be read. */
export async function readCluster(options: ClusterOptions): Promise<Inventory> {
  const access = await accessOf(options);
  if ("type" in access) return readEtcdCluster(access);
  const dependencies = { files: openFiles(), clock: openClock(), random: openRandom(), sockets: openSockets() };
  const store = openKubernetesStore(access, dependencies);
  const transport = new Transport(access, dependencies);
  const warnings: Warning[] = [];
  try {
    const objects = new PolicyObjects();
    const readSlices = (): Promise<readonly JsonObject[]> =>
      orDoubt(
        listAt(transport, "EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices"),
        warnings,
        "EndpointSlices",
        "all",
      );
    let isAccountsKnown = true;
    const [pods, namespaces, networkPolicies, nodes, serviceAccounts, services, early, foreign] = await Promise.all([
      listed(store, "Pod"),
      listed(store, "Namespace"),
      listed(store, "KubernetesNetworkPolicy"),
      orDoubt(listed(store, "Node"), warnings, "Nodes", "hosts"),
      orDoubt(listed(store, "ServiceAccount"), warnings, "ServiceAccounts", "none", () => (isAccountsKnown = false)),
      options.needsServices
        ? orDoubt(listAt(transport, "Service", "/api/v1/services"), warnings, "Services", "all")
        : [],
      options.needsServices ? readSlices() : undefined,
      readForeign(transport, objects, warnings),
    ]);
    const asked = early ?? (objects.asksServices ? await readSlices() : []);
    return {
      resources: {
        pods,
        namespaces,
        serviceAccounts,
        nodes,
        networkPolicies,
        ...objects.resources,
        endpointSlices: asked.map(sliceResource),
      },
      services: services.map(serviceOf),
      endpoints: asked.map(endpointSliceOf),
      objects,
      unknowns: { namespaces: [], ...(isAccountsKnown ? {} : { knownAccounts: new Set<string>() }) },
      warnings: [...warnings, ...foreignWarnings(foreign)],
    };
  } finally {
    transport.close();
    await store.close();
  }
}

/** The alternative for authentication methods that only kubectl supports. */
const BY_KUBECTL =
  '; or use "kubectl get namespaces,nodes,serviceaccounts,pods,services,endpointslices,networkpolicies -A -o json | calicoctl why -f - …"';

/** etcd where the file of --config or the environment names it; else where kubectl looks: the given file, else ~/.kube/config, else the pod that we run in. */
async function accessOf({
  kubeconfig,
  config,
  environment,
}: ClusterOptions): Promise<KubernetesAccess | Extract<DatastoreAccess, { type: "etcdv3" }>> {
  const files = openFiles();
  const settings = config === undefined && kubeconfig !== undefined ? {} : await configOf(config, files);
  const choice = await datastoreChoice(settings, environment, files, openServiceHosts());
  if (!choice.ok) throw new InputError(`Cannot use the datastore: ${choice.error}`);
  if (choice.value.type === "etcdv3") {
    if (kubeconfig === undefined && environment["KUBERNETES_SERVICE_HOST"] === undefined) return choice.value;
    throw new InputError("Cannot look into etcd and Kubernetes together: give manifests with -f");
  }
  const home = `${environment["HOME"] ?? ""}/.kube/config`;
  const named = kubeconfig ?? (stringAt(settings["kubeconfig"]) || undefined);
  const path = named ?? ((await files.exists(home)) ? home : undefined);
  if (path === undefined && environment["KUBERNETES_SERVICE_HOST"] === undefined)
    throw new InputError("Cannot find a cluster: give --kubeconfig, KUBECONFIG or, for manifests, -f");
  const access = await kubernetesCredentials(path, files, environment);
  if (!access.ok)
    throw new InputError(
      `${formatParseError(access.error)}${path !== undefined && (await files.exists(path)) ? BY_KUBECTL : ""}`,
    );
  return access.value;
}

async function listed<K extends "Pod" | "Namespace" | "KubernetesNetworkPolicy" | "Node" | "ServiceAccount">(
  store: Store,
  kind: K,
): Promise<readonly Resource<K>[]> {
  return (await store.list(kind)).items;
}

/** Returns nothing, with a warning, when reading is not permitted; any other error is rethrown. */
async function orDoubt<T>(
  list: Promise<readonly T[]>,
  warnings: Warning[],
  what: string,
  doubt: Warning["doubt"],
  onRefusal: () => void = () => {},
): Promise<readonly T[]> {
  try {
    return await list;
  } catch (error) {
    if (!(error instanceof StoreError) || error.reason !== "forbidden") throw error;
    onRefusal();
    warnings.push({ text: `${what} were not looked at: ${error.message}`, doubt });
    return [];
  }
}

const PAGE_SIZE = 500;

/** All objects of a collection, of any kind. */
async function listAt(transport: Transport, kind: string, path: string): Promise<JsonObject[]> {
  const items: JsonObject[] = [];
  let next: string | undefined;
  do {
    const query = `?limit=${PAGE_SIZE}${next === undefined ? "" : `&continue=${encodeURIComponent(next)}`}`;
    const page = pageOf(
      kind,
      await transport.ask({ operation: "list", kind, key: undefined, method: "GET", path: path + query }),
    );
    items.push(...page.items.filter(isJsonObject));
    next = page.next;
  } while (next !== undefined);
  return items;
}

/** Groups of Kubernetes itself in which no kind is foreign. */
const OWN_GROUPS = new Set(
  [
    ...Object.values(KINDS).map(({ apiVersion }) => apiVersion.split("/")[0]),
    "apps",
    "batch",
    "autoscaling",
    "events.k8s.io",
    "metrics.k8s.io",
  ].filter((group) => group !== "projectcalico.org" && group !== "policy.networking.k8s.io"),
);

/**
 * Objects of every API group of the server: those that `why` understands go to `objects`, those that may decide traffic all the same are
 * returned. What could not be read is a warning.
 */
async function readForeign(
  transport: Transport,
  objects: PolicyObjects,
  warnings: Warning[],
): Promise<ForeignObject[]> {
  const groups = await attempt(
    () => get(transport, "API groups", "/apis"),
    (cause) => warnings.push({ text: `Policies of other kinds were not looked for: ${cause}`, doubt: "all" }),
  );
  const versions = arrayAt(fieldAt(groups, "groups"))
    .map(objectAt)
    .filter(({ name }) => !OWN_GROUPS.has(stringAt(name)))
    .flatMap(versionsOf);
  const found = (await Promise.all(versions.map((version) => readVersion(transport, version, warnings)))).flat();
  const unique = new Map<string, Found>();
  for (const each of found.sort((a, b) => rank(a) - rank(b))) {
    const name = `${each.policyKind ?? each.kind} ${each.namespace ?? ""}/${each.name}`;
    if (!unique.has(name)) unique.set(name, each);
  }
  for (const { policyKind, object } of unique.values())
    if (policyKind !== undefined && object !== undefined) objects.add(policyKind, object);
  return [...unique.values()].filter(({ policyKind }) => policyKind === undefined);
}

/** An object, in `object` if it is one that is understood. */
interface Found extends ForeignObject {
  readonly policyKind?: PolicyKind | undefined;
  readonly object?: Resource;
}

/** The same object may be served by Calico's API and by the one in which it is kept. */
function rank({ apiVersion }: Found): number {
  return apiVersion.startsWith("crd.") ? 1 : 0;
}

/** The preferred version of a group; all versions of the one that has other kinds in each. */
function versionsOf(group: JsonObject): { readonly group: string; readonly apiVersion: string }[] {
  const name = stringAt(group["name"]);
  const preferred = stringAt(fieldAt(group, "preferredVersion", "groupVersion"));
  const all = arrayAt(group["versions"]).map((version) => stringAt(objectAt(version)["groupVersion"]));
  const isMixed = CLUSTER_NETWORK_POLICY.startsWith(`${name}/`) && all.length > 0;
  return (isMixed ? all : [preferred]).map((apiVersion) => ({ group: name, apiVersion }));
}

async function readVersion(
  transport: Transport,
  { group, apiVersion }: { readonly group: string; readonly apiVersion: string },
  warnings: Warning[],
): Promise<Found[]> {
  const doubt =
    (what: string, effect: Warning["doubt"] = "all") =>
    (cause: string): void =>
      void warnings.push({
        text: `${what} could not be looked at, and may decide otherwise: ${cause}`,
        doubt: effect,
      });
  const resources = await attempt(
    () => get(transport, apiVersion, `/apis/${apiVersion}`),
    hasForeignKinds(group) ? doubt(apiVersion) : () => {},
  );
  const kinds = arrayAt(fieldAt(resources, "resources"))
    .map(objectAt)
    .filter(({ name }) => !stringAt(name).includes("/"))
    .map(({ name, kind, namespaced }) => ({ plural: stringAt(name), kind: stringAt(kind), namespaced }))
    .filter(
      ({ kind }) => policyKindOf(apiVersion, kind) !== undefined || foreignEffect(apiVersion, kind) !== undefined,
    );
  const lists = await Promise.all(
    kinds.map(async ({ plural, kind, namespaced }): Promise<Found[]> => {
      const policyKind = policyKindOf(apiVersion, kind);
      const what = `${kind} (${apiVersion})`;
      const effect = kind.startsWith("Staged") ? "none" : kind === "FelixConfiguration" ? "hosts" : "all";
      const objects = await attempt(
        () => listAt(transport, kind, `/apis/${apiVersion}/${plural}`),
        doubt(what, effect),
      );
      return (objects ?? []).flatMap((object): Found[] => {
        const metadata = objectAt(object["metadata"]);
        const namespace = namespaced === true ? stringAt(metadata["namespace"]) : undefined;
        const found = { apiVersion, kind, namespace, name: stringAt(metadata["name"]) };
        if (policyKind === undefined) return [found];
        const read = policyObject(policyKind, { ...object, apiVersion, kind });
        if (read.ok) return [{ ...found, policyKind, object: read.value, name: read.value.metadata.name }];
        doubt(`${what} ${found.name}`, effect)(read.error);
        return [];
      });
    }),
  );
  return lists.flat();
}

async function get(transport: Transport, what: string, path: string): Promise<JsonValue> {
  return (await transport.ask({ operation: "get", kind: what, key: undefined, method: "GET", path })) as JsonValue;
}

/** undefined, after a warning, when the server refuses or does not answer. */
async function attempt<T>(run: () => Promise<T>, tell: (cause: string) => void): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    tell(error.message);
    return undefined;
  }
}
