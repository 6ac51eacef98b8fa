/**
 * Server: the embedded Kubernetes-compatible API: listeners over TLS, authentication, and the way of a request to what answers it.
 *
 * One process, one thread; a request's work on the storage is never interrupted by another request.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parsePrefix, type Prefix } from "../../src/net/prefix.ts";
import { unwrap } from "../../src/lib/result.ts";
import { type Credentials, openCredentials } from "../pki/certificates.ts";
import { ApiError } from "./errors.ts";
import { forbiddenAnonymous, Tokens, type User } from "./http/authenticate.ts";
import { MAX_BODY_BYTES, tooLarge } from "./http/body.ts";
import { serveDocument } from "./http/documents.ts";
import { parseTarget } from "./http/request.ts";
import { listenHttps, type RunningListener } from "./http/listener.ts";
import { serveResource, UnknownResource } from "./http/resources.ts";
import { respondError, respondText } from "./http/respond.ts";
import { formatUrl, type ListenAddress } from "./listen.ts";
import type { Admission, Advice, Context, Retention } from "./objects/context.ts";
import { createFirstNamespaces, Lifecycle } from "./objects/lifecycle.ts";
import { ServiceAddresses } from "./objects/service-addresses.ts";
import { Storage, type StorageLimits } from "./objects/storage.ts";
import { ServedKinds } from "./registry.ts";

export interface ApiServerOptions {
  readonly dataDirectory: string;
  readonly listen: readonly ListenAddress[];
  /** Rules for creates and updates beyond those of the kinds, and for deletions. */
  readonly admission?: readonly Admission[];
  readonly retention?: readonly Retention[];
  readonly advice?: readonly Advice[];
  /** Further users, by bearer token. */
  readonly tokens?: readonly { readonly token: string; readonly user: User }[];
  readonly serviceRange?: Prefix;
  readonly storageLimits?: StorageLimits;
  /** Runs the action with the thread in the network namespace of the file; needed only for listeners in namespaces. */
  readonly inNamespace?: <T>(path: string, action: () => T) => T;
  /** Milliseconds since 1970; the machine's clock when absent. */
  readonly nowMs?: () => number;
  /** Called for failures of the server itself. */
  readonly report?: (message: string) => void;
}

export interface RunningApiServer {
  /** `https://ADDR:PORT` of each listener, in the order asked for, with the ports taken. */
  readonly urls: readonly string[];
  /** PEM of the authority that signed the serving certificate. */
  readonly authority: string;
  readonly adminToken: string;
  /** Renews certificates that end soon; it is done by itself, too. Throws when openssl or a listener fails. */
  renew(): Promise<void>;
  /** Ends all connections and closes the storage. */
  stop(): void;
}

const RENEWAL_CHECK_MS = 60_000;
const DEFAULT_SERVICE_RANGE = unwrap(parsePrefix("10.96.0.0/16"));

/** Starts the server; rejects when the data directory, the certificates or a listener cannot be had. */
export async function runApiServer(options: ApiServerOptions): Promise<RunningApiServer> {
  mkdirSync(options.dataDirectory, { recursive: true, mode: 0o700 });
  const nowMs = options.nowMs ?? Date.now;
  const openPki = (): Credentials =>
    openCredentials(
      join(options.dataDirectory, "pki"),
      options.listen.map((entry) => entry.addr),
      nowMs(),
    );
  let credentials = openPki();
  const storage = new Storage(join(options.dataDirectory, "state.sqlite"), options.storageLimits);
  const registry = new ServedKinds(storage, nowMs);
  const context: Context = {
    storage,
    registry,
    admission: options.admission ?? [],
    retention: options.retention ?? [],
    advice: options.advice ?? [],
    addresses: new ServiceAddresses(options.serviceRange ?? DEFAULT_SERVICE_RANGE),
    nowMs,
  };
  if (createFirstNamespaces(context)) storage.compact(storage.revision);
  const endLifecycle = new Lifecycle(context).start();
  const tokens = new Tokens();
  tokens.add(credentials.adminToken, { name: "admin", groups: ["system:masters"] });
  for (const { token, user } of options.tokens ?? []) tokens.add(token, user);
  const handler = new Handler(context, registry, tokens, options.report ?? (() => {}));
  const servers: RunningListener[] = [];
  /** Listen no more, but serve those who were connected when a certificate was renewed. */
  const retired: RunningListener[] = [];
  /** Existing connections continue; new ones get the new certificate. */
  const renew = async (): Promise<void> => {
    if (nowMs() < credentials.renewAtMs) return;
    const renewed = openPki();
    for (const [index, entry] of options.listen.entries()) {
      const before = servers[index];
      if (before !== undefined) retired.push(before);
      before?.stop(false);
      servers[index] = await listenAt({ ...entry, port: before?.port ?? entry.port }, options, handler, renewed);
    }
    // Only now: what failed before is tried again.
    credentials = renewed;
  };
  const failed = (error: unknown): void =>
    options.report?.(
      `Cannot renew certificates, will try again: ${error instanceof Error ? error.message : String(error)}`,
    );
  const renewal = setInterval(() => void renew().catch(failed), RENEWAL_CHECK_MS);
  const stop = (): void => {
    clearInterval(renewal);
    endLifecycle();
    for (const server of [...servers, ...retired]) server.stop(true);
    storage.close();
  };
  try {
    for (const entry of options.listen) servers.push(await listenAt(entry, options, handler, credentials));
  } catch (error) {
    stop();
    throw error;
  }
  const urls = options.listen.map((entry, index) => formatUrl(entry.addr, servers[index]?.port ?? entry.port));
  return { urls, authority: credentials.authority, adminToken: credentials.adminToken, renew, stop };
}

interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

/** Rejects with the address when it cannot be had. */
async function listenAt(
  entry: ListenAddress,
  options: ApiServerOptions,
  handler: Handler,
  pair: KeyPair,
): Promise<RunningListener> {
  // Bodies beyond the API's limit are refused with its message; beyond this one the connection ends.
  const maxBodyBytes = 8 * MAX_BODY_BYTES;
  const open = (): Promise<RunningListener> =>
    listenHttps({
      host: entry.addr,
      port: entry.port,
      ...pair,
      maxBodyBytes,
      handle: (request) => handler.handle(request),
    });
  if (entry.namespacePath !== undefined && options.inNamespace === undefined) {
    throw new Error(
      `Cannot listen in the network namespace ${JSON.stringify(entry.namespacePath)}: this process has no system calls for it`,
    );
  }
  try {
    return await (entry.namespacePath === undefined
      ? open()
      : (options.inNamespace?.(entry.namespacePath, open) ?? open()));
  } catch (error) {
    throw new Error(
      `Cannot listen on ${entry.addr} port ${entry.port}: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}

const HEALTH_PATHS: ReadonlySet<string> = new Set(["/healthz", "/livez", "/readyz"]);

class Handler {
  readonly #context: Context;
  readonly #registry: ServedKinds;
  readonly #tokens: Tokens;
  readonly #report: (message: string) => void;

  constructor(context: Context, registry: ServedKinds, tokens: Tokens, report: (message: string) => void) {
    this.#context = context;
    this.#registry = registry;
    this.#tokens = tokens;
    this.#report = report;
  }

  async handle(request: Request): Promise<Response> {
    try {
      return await this.#route(request);
    } catch (error) {
      if (error instanceof ApiError) return respondError(error);
      if (error instanceof UnknownResource) return respondText(404, "404 page not found\n");
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#report(`${request.method} ${request.url}: ${text}`);
      return respondError(
        new ApiError(
          500,
          "InternalError",
          `Internal error occurred: ${error instanceof Error ? error.message : String(error)}`,
        ),
      );
    }
  }

  async #route(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const path = url.pathname;
    const user = this.#tokens.authenticate(request.headers.get("authorization"));
    if (HEALTH_PATHS.has(path) || HEALTH_PATHS.has(path.slice(0, path.indexOf("/", 1)))) return respondText(200, "ok");
    const target = parseTarget(path);
    if (user === undefined && path !== "/version")
      throw forbiddenAnonymous(request.method, target, path, url.searchParams);
    if (target === undefined) {
      const document = serveDocument(this.#registry, request, path);
      if (document !== undefined) return document;
      throw new UnknownResource();
    }
    if (Number(request.headers.get("content-length") ?? "0") > MAX_BODY_BYTES) throw tooLarge();
    const body = request.body === null ? new Uint8Array() : new Uint8Array(await request.arrayBuffer());
    if (body.length > MAX_BODY_BYTES) throw tooLarge();
    return serveResource(this.#context, {
      method: request.method,
      target,
      query: url.searchParams,
      headers: request.headers,
      body,
    });
  }
}
