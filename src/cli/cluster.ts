/**
 * Cluster: reads what `why` needs of a cluster through its API, once: what policy applies to, Services where the question is about an address
 * or a Service, and other objects that may decide traffic. It only reads, and reports what it is not permitted to read.
 */
import { pageOf } from "../datastore/kubernetes/decode.ts";
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import type { KubernetesAccess } from "../datastore/kubernetes/kubeconfig.ts";
import { openKubernetesStore } from "../datastore/kubernetes/store.ts";
import { Transport } from "../datastore/kubernetes/transport.ts";
import { type Store, StoreError } from "../datastore/store.ts";
import { openClock } from "../host/bun/clock.ts";
import { openFiles } from "../host/bun/files.ts";
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
import { foreignEffect, type ForeignObject, foreignWarnings, hasForeignKinds } from "./foreign.ts";
import { InputError, type Inventory, type Warning } from "./inventory.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Services matter where an address or a Service is asked about; nodes where one is, or a pod on its node's network. */
export interface ClusterOptions {
  readonly kubeconfig: string | undefined;
  readonly environment: Environment;
  readonly needsServices: boolean;
}

/** Rejects with InputError or StoreError when the cluster cannot be read. */
export async function readCluster(options: ClusterOptions): Promise<Inventory> {
  const access = await accessOf(options);
  const dependencies = { files: openFiles(), clock: openClock(), random: openRandom(), sockets: openSockets() };
  const store = openKubernetesStore(access, dependencies);
  const transport = new Transport(access, dependencies);
  const warnings: Warning[] = [];
  try {
    const [pods, namespaces, networkPolicies, nodes, serviceAccounts, services, slices, foreign] = await Promise.all([
      listed(store, "Pod"),
      listed(store, "Namespace"),
      listed(store, "KubernetesNetworkPolicy"),
      orDoubt(listed(store, "Node"), warnings, "Nodes", "hosts"),
      orDoubt(listed(store, "ServiceAccount"), warnings, "ServiceAccounts", "none"),
      options.needsServices
        ? orDoubt(listAt(transport, "Service", "/api/v1/services"), warnings, "Services", "all")
        : [],
      options.needsServices
        ? orDoubt(
            listAt(transport, "EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices"),
            warnings,
            "EndpointSlices",
            "all",
          )
        : [],
      readForeign(transport, warnings),
    ]);
    return {
      resources: { pods, namespaces, serviceAccounts, nodes, networkPolicies },
      services: services.map(serviceOf),
      endpoints: slices.map(endpointSliceOf),
      unknownNamespaces: [],
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

/** Looks where kubectl does: the given file, else ~/.kube/config, else the pod that we run in. */
async function accessOf({ kubeconfig, environment }: ClusterOptions): Promise<KubernetesAccess> {
  const files = openFiles();
  const home = `${environment["HOME"] ?? ""}/.kube/config`;
  const path = kubeconfig ?? ((await files.exists(home)) ? home : undefined);
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
): Promise<readonly T[]> {
  try {
    return await list;
  } catch (error) {
    if (!(error instanceof StoreError) || error.reason !== "forbidden") throw error;
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

/** Objects that may decide traffic, of every API group of the server; one that could not be read is a warning. */
async function readForeign(transport: Transport, warnings: Warning[]): Promise<ForeignObject[]> {
  const groups = await attempt(
    () => get(transport, "API groups", "/apis"),
    (cause) => warnings.push({ text: `Policies of other kinds were not looked for: ${cause}`, doubt: "all" }),
  );
  const names = arrayAt(fieldAt(groups, "groups"))
    .map(objectAt)
    .filter(({ name }) => !OWN_GROUPS.has(stringAt(name)));
  const found = await Promise.all(
    names.map((group) =>
      readGroup(
        transport,
        stringAt(group["name"]),
        stringAt(fieldAt(group, "preferredVersion", "groupVersion")),
        warnings,
      ),
    ),
  );
  const unique = new Map(
    found.flat().map((object) => [`${object.kind} ${object.namespace ?? ""}/${object.name}`, object]),
  );
  return [...unique.values()];
}

async function readGroup(
  transport: Transport,
  group: string,
  apiVersion: string,
  warnings: Warning[],
): Promise<ForeignObject[]> {
  const doubt =
    (what: string) =>
    (cause: string): void =>
      void warnings.push({ text: `${what} could not be looked at, and may decide otherwise: ${cause}`, doubt: "all" });
  const resources = await attempt(
    () => get(transport, apiVersion, `/apis/${apiVersion}`),
    hasForeignKinds(group) ? doubt(apiVersion) : () => {},
  );
  const kinds = arrayAt(fieldAt(resources, "resources"))
    .map(objectAt)
    .filter(
      ({ name, kind }) => !stringAt(name).includes("/") && foreignEffect(apiVersion, stringAt(kind)) !== undefined,
    );
  const lists = await Promise.all(
    kinds.map(async ({ name, kind, namespaced }) => {
      const objects = await attempt(
        () => listAt(transport, stringAt(kind), `/apis/${apiVersion}/${stringAt(name)}`),
        doubt(`${stringAt(kind)} (${apiVersion})`),
      );
      return (objects ?? []).map((object) => {
        const { namespace, name: own } = objectAt(object["metadata"]);
        return {
          apiVersion,
          kind: stringAt(kind),
          namespace: namespaced === true ? stringAt(namespace) : undefined,
          name: stringAt(own),
        };
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
