/** server: the API server that a kubeconfig names, reached by plain HTTP requests with the kubeconfig's credentials. */
import { readFileSync } from "node:fs";
import { load } from "js-yaml";

interface Kubeconfig {
  readonly "current-context": string;
  readonly contexts: readonly {
    readonly name: string;
    readonly context: { readonly cluster: string; readonly user: string };
  }[];
  readonly clusters: readonly { readonly name: string; readonly cluster: Readonly<Record<string, string>> }[];
  readonly users: readonly { readonly name: string; readonly user: Readonly<Record<string, string>> }[];
}

export type Credentials = "administrator" | "none" | "wrong token";

export interface RequestOptions {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array<ArrayBuffer> | undefined;
  readonly credentials: Credentials;
  readonly signal?: AbortSignal;
}

export class ApiServer {
  readonly url: string;
  readonly #authority: string | undefined;
  readonly #user: Readonly<Record<string, string>>;

  /** Throws when the kubeconfig has no current context, or names what it does not hold. */
  constructor(kubeconfig: string) {
    const config = load(readFileSync(kubeconfig, "utf8")) as Kubeconfig;
    const context = found(config.contexts, config["current-context"], kubeconfig).context;
    const { cluster } = found(config.clusters, context.cluster, kubeconfig);
    this.#user = found(config.users, context.user, kubeconfig).user;
    this.url = cluster["server"] ?? "";
    this.#authority = content(cluster, "certificate-authority");
  }

  fetch(options: RequestOptions): Promise<Response> {
    const { credentials } = options;
    const administrator = credentials === "administrator";
    const token = administrator ? this.#user["token"] : credentials === "none" ? undefined : "wrong";
    const [cert, key] = administrator
      ? [content(this.#user, "client-certificate"), content(this.#user, "client-key")]
      : [undefined, undefined];
    return fetch(`${this.url}${options.path}`, {
      method: options.method,
      headers: { ...options.headers, ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }) },
      // A connection of one's own for requests without the administrator's certificate, which belongs to the connection.
      keepalive: administrator,
      tls: {
        ...(this.#authority === undefined ? {} : { ca: this.#authority }),
        ...(cert === undefined || key === undefined ? {} : { cert, key }),
      },
      ...(options.body === undefined ? {} : { body: options.body }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }
}

function found<T extends { readonly name: string }>(entries: readonly T[], name: string, kubeconfig: string): T {
  const entry = entries.find((candidate) => candidate.name === name);
  if (entry === undefined) throw new Error(`${kubeconfig} has no entry ${JSON.stringify(name)}`);
  return entry;
}

/** The PEM text that an entry holds or points to. */
function content(entry: Readonly<Record<string, string>>, name: string): string | undefined {
  const data = entry[`${name}-data`];
  if (data !== undefined) return Buffer.from(data, "base64").toString();
  const path = entry[name];
  return path === undefined ? undefined : readFileSync(path, "utf8");
}
