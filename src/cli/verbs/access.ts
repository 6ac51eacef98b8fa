/**
 * Access: which datastore the verbs talk to: the API server of --kubeconfig, else what the file of --config (upstream's CalicoAPIConfig) or
 * the environment names: etcd, or Kubernetes by KUBECONFIG, ~/.kube/config, or the pod that we run in. Before anything else the cluster's
 * version of Calico is compared with ours.
 */
import { load } from "js-yaml";
import { kubernetesCredentials } from "../../datastore/kubernetes/credentials.ts";
import type { KubernetesAccess } from "../../datastore/kubernetes/kubeconfig.ts";
import { type DatastoreAccess, datastoreChoice, type Environment, openDatastore } from "../../datastore/open.ts";
import { isUnserved, type Store, StoreError } from "../../datastore/store.ts";
import { openClock } from "../../host/bun/clock.ts";
import { openFiles } from "../../host/bun/files.ts";
import { openServiceHosts } from "../../host/bun/names.ts";
import { openRandom } from "../../host/bun/random.ts";
import { openSockets } from "../../host/bun/sockets.ts";
import type { Files } from "../../host/files.ts";
import { formatParseError } from "../../lib/result.ts";
import { VERSION } from "../../lib/version.ts";
import { isJsonObject, type JsonObject, objectAt } from "../../model/schema/json.ts";
import { InputError } from "../inventory.ts";

export interface AccessOptions {
  readonly kubeconfig?: string | undefined;
  readonly config?: string | undefined;
  readonly context?: string | undefined;
  readonly allowVersionMismatch?: boolean | undefined;
}

export const DEFAULT_CONFIG = "/etc/calico/calicoctl.cfg";

/** Opens the datastore, lets `run` use it, and closes it. */
export async function withStore<T>(
  options: AccessOptions,
  environment: Environment,
  run: (store: Store) => Promise<T>,
): Promise<T> {
  const files = openFiles();
  const datastore = await accessOf(options, environment, files);
  const store = await openDatastore(datastore, {
    files,
    clock: openClock(),
    random: openRandom(),
    sockets: openSockets(),
  });
  try {
    if (options.allowVersionMismatch !== true) await checkVersion(store);
    return await run(store);
  } finally {
    await store.close();
  }
}

/** Rejects with InputError. */
export async function accessOf(
  options: AccessOptions,
  environment: Environment,
  files: Files,
): Promise<DatastoreAccess> {
  const settings = options.kubeconfig === undefined ? await configOf(options.config, files) : {};
  const named = options.kubeconfig === undefined ? settings : { datastoreType: "kubernetes" };
  const choice = await datastoreChoice(named, environment, files, openServiceHosts());
  if (!choice.ok) throw new InputError(`Cannot use the datastore: ${choice.error}`);
  if (choice.value.type === "etcdv3") return choice.value;
  const direct = directAccess(settings);
  if (direct !== undefined) return { ...choice.value, access: direct };
  const home = `${environment["HOME"] ?? ""}/.kube/config`;
  const path =
    options.kubeconfig ??
    (textOf(settings, "kubeconfig") || environment["KUBECONFIG"] || undefined) ??
    ((await files.exists(home)) ? home : undefined);
  if (path === undefined && environment["KUBERNETES_SERVICE_HOST"] === undefined)
    throw new InputError("Cannot find a cluster: give --kubeconfig, KUBECONFIG or --config");
  const context = options.context ?? (textOf(settings, "k8sCurrentContext") || undefined);
  const access = await kubernetesCredentials(path, files, environment, context);
  if (!access.ok) throw new InputError(formatParseError(access.error));
  return { ...choice.value, access: access.value };
}

/** `spec` of the file; the default file may be absent. Rejects with InputError. */
export async function configOf(path: string | undefined, files: Files): Promise<JsonObject> {
  const file = path ?? DEFAULT_CONFIG;
  const text = await files.readText(file);
  if (text === undefined) {
    if (path === undefined) return {};
    throw new InputError(`Cannot read config file ${JSON.stringify(file)}: it does not exist`);
  }
  let value: unknown;
  try {
    value = load(text);
  } catch (error) {
    throw new InputError(`Cannot read config file ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isJsonObject(value) || value["kind"] !== "CalicoAPIConfig")
    throw new InputError(`Cannot use config file ${file}: kind must be CalicoAPIConfig`);
  return objectAt(value["spec"]);
}

function directAccess(settings: JsonObject): KubernetesAccess | undefined {
  if (textOf(settings, "kubeconfigInline") !== "")
    throw new InputError(
      "Cannot use kubeconfigInline of the config file: write it to a file and name that as kubeconfig",
    );
  const server = textOf(settings, "k8sAPIEndpoint");
  if (server === "" || textOf(settings, "kubeconfig") !== "") return undefined;
  const [caFile, certFile, keyFile] = ["k8sCAFile", "k8sCertFile", "k8sKeyFile"].map((name) => textOf(settings, name));
  const token = textOf(settings, "k8sAPIToken");
  return {
    server: server.replace(/\/+$/, ""),
    tls: {
      ...(caFile ? { caFile } : {}),
      ...(certFile ? { certFile } : {}),
      ...(keyFile ? { keyFile } : {}),
      ...(settings["k8sInsecureSkipTLSVerify"] === true ? { insecure: true } : {}),
    },
    ...(token === "" ? {} : { token }),
  };
}

function textOf(settings: JsonObject, name: string): string {
  const value = settings[name];
  return typeof value === "string" ? value : "";
}

/** Refuses a cluster that another version of Calico runs: it may have other fields. Who may not read the version is not held up. */
async function checkVersion(store: Store): Promise<void> {
  const found = await store
    .get({ kind: "ClusterInformation", namespace: undefined, name: "default" })
    .catch((error: unknown) => {
      if (error instanceof StoreError && (error.reason === "forbidden" || isUnserved(error))) return undefined;
      throw error;
    });
  const version = bare(found?.spec?.calicoVersion ?? "");
  if (version !== "" && version !== bare(VERSION))
    throw new InputError(
      `version mismatch: calicoctl is ${VERSION}, Calico in the cluster is ${version}; --allow-version-mismatch overrides`,
    );
}

function bare(version: string): string {
  return version.replace(/^v/, "").split(/[-+]/)[0] ?? "";
}
