/**
 * Kubernetes access: the address of the API server and the credentials for it, read from a kubeconfig or from the files in a pod's
 * service account volume.
 *
 * Credentials stay file names wherever the source names files, so that rotated ones are picked up. An unsupported authentication
 * method is an error, never silently anonymous.
 * Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
 */
import { load } from "js-yaml";
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";

export interface KubernetesAccess {
  /** `https://10.0.0.1:6443`, without a trailing slash. */
  readonly server: string;
  /** PEM texts, or the files that hold them, which are read again for every request. */
  readonly tls?: {
    readonly ca?: string;
    readonly caFile?: string;
    readonly cert?: string;
    readonly certFile?: string;
    readonly key?: string;
    readonly keyFile?: string;
    /** True: the server's certificate is not checked. */
    readonly insecure?: boolean;
  };
  /** Bearer token. */
  readonly token?: string;
  /** File of the bearer token; wins over `token` and is read again for every request, because the kubelet replaces it. */
  readonly tokenFile?: string;
}

type Fields = Readonly<Record<string, unknown>>;

/**
 * The access that the kubeconfig's current context (or the context named) describes. `directory` is that of the file: relative paths
 * in it are relative to it.
 */
export function parseKubeconfig(
  text: string,
  options: { readonly directory?: string; readonly context?: string } = {},
): Result<KubernetesAccess, ParseError> {
  let document: unknown;
  try {
    document = load(text);
  } catch (error) {
    return wrong(text.slice(0, 40), `must be YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  const root = fieldsOf(document);
  if (root === undefined) return wrong(text.slice(0, 40), "must be a YAML mapping");
  const contextName = options.context ?? stringOf(root["current-context"]);
  if (contextName === undefined || contextName === "") return wrong("", "current-context is missing; name a context");
  const context = named(root["contexts"], contextName, "context");
  if (context === undefined) return wrong(contextName, "context must be one of contexts");
  const cluster = named(root["clusters"], stringOf(context["cluster"]) ?? "", "cluster");
  if (cluster === undefined)
    return wrong(
      String(context["cluster"]),
      `cluster of context ${JSON.stringify(contextName)} must be one of clusters`,
    );
  const userName = stringOf(context["user"]);
  const user = userName === undefined || userName === "" ? {} : named(root["users"], userName, "user");
  if (user === undefined)
    return wrong(String(userName), `user of context ${JSON.stringify(contextName)} must be one of users`);
  return accessOf(cluster, user, options.directory ?? ".");
}

function accessOf(cluster: Fields, user: Fields, directory: string): Result<KubernetesAccess, ParseError> {
  const server = stringOf(cluster["server"]) ?? "";
  if (!/^https?:\/\/[^/]/.test(server))
    return wrong(server, "cluster.server must be a URL such as https://10.0.0.1:6443");
  for (const field of ["exec", "auth-provider", "username", "password", "impersonate", "as"]) {
    if (user[field] !== undefined)
      return wrong(
        field,
        "authentication method is not supported: user must have token, tokenFile or client-certificate and client-key",
      );
  }
  for (const field of ["proxy-url", "tls-server-name"]) {
    if (cluster[field] !== undefined) return wrong(field, "this field of a cluster is not supported");
  }
  const ca = pemOf(cluster, "certificate-authority", directory, "ca");
  if (!ca.ok) return ca;
  const certificate = pemOf(user, "client-certificate", directory, "cert");
  if (!certificate.ok) return certificate;
  const key = pemOf(user, "client-key", directory, "key");
  if (!key.ok) return key;
  if (isEmpty(certificate.value) !== isEmpty(key.value))
    return wrong("client-certificate", "client-certificate and client-key must be given together");
  const tls = {
    ...ca.value,
    ...certificate.value,
    ...key.value,
    ...(cluster["insecure-skip-tls-verify"] === true ? { insecure: true } : {}),
  };
  const tokenFile = stringOf(user["tokenFile"]) ?? "";
  const token = stringOf(user["token"]) ?? "";
  return ok({
    server: server.replace(/\/+$/, ""),
    ...(Object.keys(tls).length === 0 ? {} : { tls }),
    ...(tokenFile !== "" ? { tokenFile: absolute(tokenFile, directory) } : token !== "" ? { token } : {}),
  });
}

/** Where the kubelet mounts a pod's credentials. */
const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The access of a pod, from its environment variables; fails when the process does not run in a pod. */
export function inClusterAccess(
  environment: Readonly<Record<string, string | undefined>>,
): Result<KubernetesAccess, ParseError> {
  const host = environment["KUBERNETES_SERVICE_HOST"] ?? "";
  const port = environment["KUBERNETES_SERVICE_PORT"] ?? "443";
  if (host === "")
    return fail({
      what: "pod environment",
      found: "",
      wanted: "KUBERNETES_SERVICE_HOST must be set (it is in every pod)",
    });
  const authority = host.includes(":") ? `[${host}]` : host;
  return ok({
    server: `https://${authority}:${port}`,
    tls: { caFile: `${SERVICE_ACCOUNT}/ca.crt` },
    tokenFile: `${SERVICE_ACCOUNT}/token`,
  });
}

/** `FIELD-data` (base64) as `name`, or `FIELD` (a path) as `nameFile`; the data takes precedence, as in kubectl. */
function pemOf(
  fields: Fields,
  field: string,
  directory: string,
  name: "ca" | "cert" | "key",
): Result<Readonly<Record<string, string>>, ParseError> {
  const data = stringOf(fields[`${field}-data`]);
  if (data !== undefined && data !== "") {
    try {
      return ok({ [name]: new TextDecoder().decode(Uint8Array.fromBase64(data.replace(/\s/g, ""))) });
    } catch {
      return wrong(`${data.slice(0, 20)}…`, `${field}-data must be base64`);
    }
  }
  const path = stringOf(fields[field]);
  return ok(path === undefined || path === "" ? {} : { [`${name}File`]: absolute(path, directory) });
}

function isEmpty(fields: object): boolean {
  return Object.keys(fields).length === 0;
}

function named(list: unknown, name: string, field: string): Fields | undefined {
  if (!Array.isArray(list)) return undefined;
  for (const entry of list) {
    const fields = fieldsOf(entry);
    if (fields?.["name"] === name) return fieldsOf(fields[field]) ?? {};
  }
  return undefined;
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
}

function stringOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function absolute(path: string, directory: string): string {
  return path.startsWith("/") ? path : `${directory.replace(/\/+$/, "")}/${path}`;
}

function wrong(found: string, wanted: string): { readonly ok: false; readonly error: ParseError } {
  return fail({ what: "kubeconfig", found, wanted });
}
