/**
 * Open: the datastore that the configuration names: Kubernetes or etcd, from a CalicoAPIConfig file's settings or from the environment, under
 * upstream's names (each also with the prefix CALICO_). Errors name the variable or the setting, and never a secret.
 * Upstream: libcalico-go/lib/apiconfig.
 */
import type { Clock } from "../host/clock.ts";
import { FileError, type Files } from "../host/files.ts";
import { NameError, type ServiceHosts } from "../host/names.ts";
import type { Random } from "../host/random.ts";
import type { Sockets } from "../host/sockets.ts";
import { fail, ok, type Result } from "../lib/result.ts";
import { type JsonObject, stringAt } from "../model/schema/json.ts";
import type { EtcdAccess } from "./etcd/client.ts";
import { API_GROUPS, type ApiGroup } from "./kubernetes/codec.ts";
import type { KubernetesAccess } from "./kubernetes/kubeconfig.ts";
import { openKubernetesStore } from "./kubernetes/store.ts";
import { openSplitStore } from "./split.ts";
import type { Store } from "./store.ts";

/** For the help of programs. */
export const DATASTORE_HELP = `
Environment (each variable also with the prefix CALICO_):
  DATASTORE_TYPE                 kubernetes or etcdv3 (default: etcdv3 where
                                 ETCD_ENDPOINTS is set, else kubernetes)
  ETCD_ENDPOINTS                 https://10.0.0.1:2379,https://10.0.0.2:2379
  ETCD_DISCOVERY_SRV             in its place a domain whose SRV records
                                 _etcd-client-ssl._tcp (or _etcd-client._tcp,
                                 without TLS) name etcd's members
  ETCD_CA_CERT_FILE              the authority of etcd's certificate
  ETCD_CERT_FILE, ETCD_KEY_FILE  the client's certificate and its key
  ETCD_USERNAME, ETCD_PASSWORD   where etcd's own authentication is on
  CALICO_API_GROUP               with kubernetes: projectcalico.org/v3 or
                                 crd.projectcalico.org/v1 (default: the latter
                                 where the cluster serves it)
`;

export type Environment = Readonly<Record<string, string | undefined>>;

export interface OpenDependencies {
  readonly clock: Clock;
  readonly files: Files;
  readonly random: Random;
  readonly sockets: Sockets;
}

export type DatastoreAccess =
  | { readonly type: "kubernetes"; readonly access: KubernetesAccess; readonly group: ApiGroup | "detect" }
  | { readonly type: "etcdv3"; readonly access: EtcdAccess; readonly kubernetes?: KubernetesAccess };

/** Opens no connection yet: the first operation does. The client of etcd, which is large, is loaded only where it is used. */
export async function openDatastore(datastore: DatastoreAccess, dependencies: OpenDependencies): Promise<Store> {
  if (datastore.type === "kubernetes") return openKubernetesStore(datastore.access, dependencies, datastore.group);
  const { openEtcdStore } = await import("./etcd/store.ts");
  const etcd = openEtcdStore(datastore.access, dependencies);
  const { kubernetes } = datastore;
  return kubernetes === undefined ? etcd : openSplitStore(openKubernetesStore(kubernetes, dependencies), etcd);
}

/** One setting: its value, and how an error names it. */
interface Setting {
  readonly value: string;
  readonly name: string;
}

/** A setting of the file, else of the environment. */
type Settings = (field: string, variable: string) => Setting;

/** `file`: the `spec` of a CalicoAPIConfig; what it leaves out is asked of the environment. */
function settingsOf(file: JsonObject, environment: Environment): Settings {
  return (field, variable) => {
    const inFile = file[field];
    if (typeof inFile === "string" && inFile !== "") return { value: inFile, name: field };
    const prefix = variable.startsWith("CALICO_") ? "" : "CALICO_";
    const name = [`${prefix}${variable}`, variable].find((each) => (environment[each] ?? "") !== "");
    return { value: name === undefined ? "" : (environment[name] ?? ""), name: name ?? variable };
  };
}

/** All but how the Kubernetes API is reached. */
export type DatastoreChoice =
  | Omit<Extract<DatastoreAccess, { readonly type: "kubernetes" }>, "access">
  | Extract<DatastoreAccess, { readonly type: "etcdv3" }>;

/** Which datastore is meant, and for etcd how it is reached. Without a type, endpoints of etcd mean etcd. */
export async function datastoreChoice(
  file: JsonObject,
  environment: Environment,
  files: Files,
  serviceHosts: ServiceHosts,
): Promise<Result<DatastoreChoice, string>> {
  const setting = settingsOf(file, environment);
  const type = setting("datastoreType", "DATASTORE_TYPE");
  const endpoints = setting("etcdEndpoints", "ETCD_ENDPOINTS");
  const discovery = setting("etcdDiscoverySrv", "ETCD_DISCOVERY_SRV");
  const hasEtcd = endpoints.value !== "" || discovery.value !== "";
  if (type.value === "kubernetes" || (type.value === "" && !hasEtcd)) {
    const { name, value } = setting("calicoAPIGroup", "CALICO_API_GROUP");
    const group = value === "" ? "detect" : API_GROUPS.find((each) => each === value.toLowerCase());
    if (group !== undefined) return ok({ type: "kubernetes", group });
    return fail(`${name} is ${JSON.stringify(value)}, must be ${API_GROUPS.join(" or ")}`);
  }
  if (type.value !== "etcdv3" && type.value !== "")
    return fail(`${type.name} is ${JSON.stringify(type.value)}, must be kubernetes or etcdv3`);
  const urls = discovery.value === "" ? urlsOf(endpoints) : await discovered(discovery, endpoints, serviceHosts);
  if (!urls.ok) return urls;
  const access = await etcdAccess(urls.value, setting, file, files);
  return access.ok ? ok({ type: "etcdv3", access: access.value }) : access;
}

/** In the order of the records. Where some are by TLS, only those: nobody may lead away from it. */
async function discovered(
  discovery: Setting,
  endpoints: Setting,
  serviceHosts: ServiceHosts,
): Promise<Result<readonly string[], string>> {
  const { name, value: domain } = discovery;
  if (endpoints.value !== "") return fail(`${name} and ${endpoints.name} exclude each other`);
  if (!/^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?$/.test(domain))
    return fail(`${name} is ${JSON.stringify(domain)}, must be a domain, as example.org`);
  for (const [service, scheme] of [
    ["_etcd-client-ssl", "https"],
    ["_etcd-client", "http"],
  ] as const) {
    try {
      const hosts = await serviceHosts(`${service}._tcp.${domain}`);
      if (hosts.length > 0) return ok(hosts.map(({ host, port }) => `${scheme}://${host}:${port}`));
    } catch (error) {
      if (!(error instanceof NameError)) throw error;
      return fail(`${name} is ${JSON.stringify(domain)}, which cannot be looked up: ${error.message}`);
    }
  }
  return fail(
    `${name} is ${JSON.stringify(domain)}, which has no SRV records _etcd-client-ssl._tcp or _etcd-client._tcp`,
  );
}

function urlsOf(endpoints: Setting): Result<readonly string[], string> {
  const urls = endpoints.value.split(",").map((each) => each.trim());
  if (endpoints.value === "")
    return fail(`${endpoints.name} is not set, must list etcd's addresses, as https://10.0.0.1:2379`);
  for (const url of urls) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    const isPlain =
      parsed !== undefined && ["", "/"].includes(parsed.pathname) && parsed.search === "" && parsed.username === "";
    if (!isPlain || !["http:", "https:"].includes(parsed.protocol) || parsed.port === "")
      // Not the text itself: it may contain a password.
      return fail(`${endpoints.name} has an address that is not of the form https://10.0.0.1:2379`);
  }
  return ok(urls);
}

async function etcdAccess(
  urls: readonly string[],
  setting: Settings,
  file: JsonObject,
  files: Files,
): Promise<Result<EtcdAccess, string>> {
  const tls: { ca?: string; cert?: string; key?: string } = {};
  const given: Record<string, string> = {};
  for (const [part, field, variable, inline] of [
    ["ca", "etcdCACertFile", "ETCD_CA_CERT_FILE", "etcdCACert"],
    ["cert", "etcdCertFile", "ETCD_CERT_FILE", "etcdCert"],
    ["key", "etcdKeyFile", "ETCD_KEY_FILE", "etcdKey"],
  ] as const) {
    const path = setting(field, variable);
    const text = stringAt(file[inline]);
    if (text !== "" && path.value !== "") return fail(`${inline} and ${path.name} exclude each other`);
    given[part] = text === "" ? path.name : inline;
    if (text === "" && path.value === "") continue;
    const read = text === "" ? await readPem(path, files) : ok(text);
    if (!read.ok) return read;
    tls[part] = read.value;
  }
  const user = setting("etcdUsername", "ETCD_USERNAME");
  const password = setting("etcdPassword", "ETCD_PASSWORD");
  const half =
    halfOf("a client certificate", [tls.cert ?? "", given["cert"] ?? ""], [tls.key ?? "", given["key"] ?? ""]) ??
    halfOf("a login", [user.value, user.name], [password.value, password.name]);
  if (half !== undefined) return fail(half);
  const login = user.value === "" ? {} : { user: { name: user.value, password: password.value } };
  return ok({ endpoints: urls, tls, ...login });
}

/** What is wrong when one of two settings, each a value and its name, is given without the other. */
function halfOf(what: string, a: readonly [string, string], b: readonly [string, string]): string | undefined {
  if ((a[0] === "") === (b[0] === "")) return undefined;
  const [present, absent] = a[0] === "" ? [b[1], a[1]] : [a[1], b[1]];
  return `${present} is set, but ${absent} is not: ${what} needs both`;
}

async function readPem({ name, value }: Setting, files: Files): Promise<Result<string, string>> {
  try {
    const text = await files.readText(value);
    if (text === undefined) return fail(`${name} is ${JSON.stringify(value)}, which does not exist`);
    return text.includes("-----BEGIN ")
      ? ok(text)
      : fail(`${name} is ${JSON.stringify(value)}, which is not a PEM file`);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    return fail(`${name} is ${JSON.stringify(value)}, which cannot be read: ${error.message}`);
  }
}
