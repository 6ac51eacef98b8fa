/**
 * Client: the gRPC calls to etcd, bounded in time, over one of the endpoints at a time.
 *
 * When an endpoint does not answer, the next call uses the next one. HTTP/2 pings detect a peer that died silently.
 */
import {
  Client,
  type ClientDuplexStream,
  connectivityState,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { Root } from "protobufjs/light.js";
import type { Clock } from "../../host/clock.ts";
import { type Addr, parseAddr } from "../../net/addr.ts";
import { BugError } from "../../lib/bug.ts";
import { formatKey, type Key } from "../../model/key.ts";
import type { Kind } from "../../model/kind.ts";
import { StoreError, type StoreReason } from "../store.ts";
import { ETCD_DESCRIPTOR, type RangeResponse, type TxnResponse, type WatchResponse } from "./protocol.ts";

export interface EtcdAccess {
  /** `https://10.0.0.1:2379` or `http://[fd00::1]:2379`; at least one. */
  readonly endpoints: readonly string[];
  /** PEM texts; used by `https` endpoints. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  /** Where etcd's own authentication is on. */
  readonly user?: { readonly name: string; readonly password: string };
}

/** What a call is for, as error messages name it. */
export interface Purpose {
  readonly operation: string;
  readonly kind: Kind;
  readonly key: Key | undefined;
}

export type EtcdWatchStream = ClientDuplexStream<object, WatchResponse>;

const CALL_TIMEOUT_MS = 30_000;
/** An endpoint that takes longer to connect to is passed over where there are others. */
const CONNECT_MS = 3_000;
const CHANNEL = {
  // Lists are larger than gRPC's default of 4 MiB.
  "grpc.max_receive_message_length": -1,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
} as const;

interface Method {
  readonly path: string;
  readonly requestSerialize: (request: object) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => object;
}

const ROOT = Root.fromJSON(ETCD_DESCRIPTOR);
const FORM = { longs: String, enums: String, bytes: Buffer, defaults: true, arrays: true, objects: true } as const;
const METHODS = new Map<string, Method>();

function methodOf(service: "KV" | "Watch" | "Auth", name: string): Method {
  const path = `/etcdserverpb.${service}/${name}`;
  const known = METHODS.get(path);
  if (known !== undefined) return known;
  const definition = ROOT.lookupService(`etcdserverpb.${service}`).methods[name];
  if (definition === undefined) throw new BugError(`etcd has no method ${service}.${name}`);
  const [request, response] = [definition.requestType, definition.responseType].map((type) =>
    ROOT.lookupType(`etcdserverpb.${type}`),
  );
  if (request === undefined || response === undefined) throw new BugError(`no messages of ${path}`);
  const method: Method = {
    path,
    requestSerialize: (message) => Buffer.from(request.encode(request.fromObject(message)).finish()),
    responseDeserialize: (bytes) => response.toObject(response.decode(bytes), FORM),
  };
  METHODS.set(path, method);
  return method;
}

export class EtcdClient {
  readonly #clients: readonly { readonly endpoint: string; readonly client: Client }[];
  readonly #clock: Clock;
  readonly #user: EtcdAccess["user"];
  /** Of the user; made anew when etcd knows it no more. */
  #token: Promise<string> | undefined;
  #current = 0;

  constructor(access: EtcdAccess, clock: Clock) {
    this.#clock = clock;
    this.#user = access.user;
    this.#clients = access.endpoints.map((endpoint) => ({ endpoint, client: clientOf(endpoint, access.tls ?? {}) }));
    if (this.#clients.length === 0) throw new BugError("an etcd client needs an endpoint");
  }

  /** A read may be asked of every endpoint; a write, of which nobody knows whether it was done, may not. */
  async range(purpose: Purpose, request: object, signal?: AbortSignal): Promise<RangeResponse> {
    for (let left = this.#clients.length - 1; ; left--) {
      try {
        return await this.#authorized((token) => this.#call(purpose, methodOf("KV", "Range"), request, signal, token));
      } catch (error) {
        if (!(error instanceof StoreError) || error.reason !== "unavailable" || left <= 0) throw error;
      }
    }
  }

  txn(purpose: Purpose, request: object, signal?: AbortSignal): Promise<TxnResponse> {
    return this.#authorized((token) => this.#call(purpose, methodOf("KV", "Txn"), request, signal, token));
  }

  /** Discards the history before the revision. */
  async compact(revision: string): Promise<void> {
    const purpose: Purpose = { operation: "compact before", kind: "Event", key: undefined };
    const request = { revision, physical: true };
    await this.#authorized((token) => this.#call(purpose, methodOf("KV", "Compact"), request, undefined, token));
  }

  /** Does the call with the user's token, and once more with a new one: etcd forgets tokens when it restarts, and after some minutes. */
  async #authorized<T>(call: (token: string | undefined) => Promise<T>): Promise<T> {
    if (this.#user === undefined) return call(undefined);
    const token = (this.#token ??= this.#authenticate(this.#user));
    const text = await this.#orForgotten(token);
    try {
      return await call(text);
    } catch (error) {
      if (!(error instanceof StoreError) || error.reason !== "forbidden") throw error;
      if (this.#token === token) this.#token = undefined;
      return call(await this.#orForgotten((this.#token ??= this.#authenticate(this.#user))));
    }
  }

  async #authenticate({ name, password }: NonNullable<EtcdAccess["user"]>): Promise<string> {
    const purpose: Purpose = { operation: "log in to etcd, to read", kind: "ClusterInformation", key: undefined };
    const method = methodOf("Auth", "Authenticate");
    const answer = await this.#call<{ token: string }>(purpose, method, { name, password }, undefined, undefined);
    return answer.token;
  }

  /** A watch stream with its first request sent; `cancel` on the stream ends it. Call `failed` when it ended in an error. */
  async watch(createRequest: object): Promise<{
    readonly stream: EtcdWatchStream;
    readonly failed: (error: unknown, purpose: Purpose) => StoreError;
  }> {
    const asked = this.#user === undefined ? undefined : (this.#token ??= this.#authenticate(this.#user));
    const token = await this.#orForgotten(asked);
    const { client, endpoint } = await this.#connected();
    const { path, requestSerialize, responseDeserialize } = methodOf("Watch", "Watch");
    const stream = client.makeBidiStreamRequest<object, WatchResponse>(
      path,
      requestSerialize,
      (bytes) => responseDeserialize(bytes) as unknown as WatchResponse,
      metadataOf(token),
      {},
    );
    stream.write({ createRequest });
    const failed = (error: unknown, purpose: Purpose): StoreError => {
      // etcd does not say that a token is why a watch ends.
      if (this.#token === asked) this.#token = undefined;
      return error instanceof StoreError ? error : this.#failure(purpose, endpoint, error);
    };
    return { stream, failed };
  }

  /** A login that failed is not asked again for its answer. */
  async #orForgotten(token: Promise<string> | undefined): Promise<string | undefined> {
    try {
      return await token;
    } catch (error) {
      if (this.#token === token) this.#token = undefined;
      throw error;
    }
  }

  close(): void {
    for (const { client } of this.#clients) client.close();
  }

  #pick(): { readonly endpoint: string; readonly client: Client } {
    const picked = this.#clients[this.#current % this.#clients.length];
    if (picked === undefined) throw new BugError("an etcd client without endpoints");
    return picked;
  }

  /** The current endpoint, or the first after it that can be connected to; without any the current one, so that a call says why. */
  async #connected(): Promise<{ readonly endpoint: string; readonly client: Client }> {
    const first = this.#pick();
    if (this.#clients.length === 1) return first;
    for (let tried = 0; tried < this.#clients.length; tried++) {
      const picked = this.#pick();
      if (await isConnected(picked.client, this.#clock.wallMs() + CONNECT_MS)) return picked;
      if (this.#pick() === picked) this.#current++;
    }
    return first;
  }

  async #call<T>(
    purpose: Purpose,
    method: Method,
    request: object,
    signal: AbortSignal | undefined,
    token: string | undefined,
  ): Promise<T> {
    signal?.throwIfAborted();
    const { client, endpoint } = await this.#connected();
    signal?.throwIfAborted();
    const { path, requestSerialize, responseDeserialize } = method;
    const options = { deadline: this.#clock.wallMs() + CALL_TIMEOUT_MS };
    return new Promise<T>((resolve, reject) => {
      const call = client.makeUnaryRequest<object, T>(
        path,
        requestSerialize,
        (bytes) => responseDeserialize(bytes) as unknown as T,
        request,
        metadataOf(token),
        options,
        (error, answer) => {
          signal?.removeEventListener("abort", cancel);
          if (signal?.aborted === true) reject(signal.reason);
          else if (error !== null) reject(this.#failure(purpose, endpoint, error));
          else if (answer === undefined) reject(this.#failure(purpose, endpoint, new Error("an empty answer")));
          else resolve(answer);
        },
      );
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  #failure(purpose: Purpose, endpoint: string, error: unknown): StoreError {
    const reason = reasonOf(error);
    if (reason === "unavailable" && this.#pick().endpoint === endpoint) this.#current++;
    const object = purpose.key === undefined ? purpose.kind : formatKey(purpose.key);
    const cause = error instanceof Error ? error.message : String(error);
    return new StoreError(
      reason,
      purpose.kind,
      purpose.key,
      `Cannot ${purpose.operation} ${object}: etcd at ${endpoint}: ${cause}`,
    );
  }
}

/** Connects if need be; false: refused, or not there by the deadline (of the wall clock). */
async function isConnected(client: Client, deadlineMs: number): Promise<boolean> {
  const channel = client.getChannel();
  for (;;) {
    const state = channel.getConnectivityState(true);
    if (state === connectivityState.READY) return true;
    if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) return false;
    const isLate = await new Promise<boolean>((resolve) =>
      channel.watchConnectivityState(state, deadlineMs, (error) => resolve(error !== undefined)),
    );
    if (isLate) return false;
  }
}

function clientOf(endpoint: string, { ca, cert, key }: NonNullable<EtcdAccess["tls"]>): Client {
  const { protocol, host, hostname } = new URL(endpoint);
  if (protocol !== "https:") return new Client(host, credentials.createInsecure(), CHANNEL);
  const bytes = (text: string | undefined): Buffer | null => (text === undefined ? null : Buffer.from(text));
  const address = parseAddr(hostname.replace(/^\[|\]$/g, ""));
  if (!address.ok) return new Client(host, credentials.createSsl(bytes(ca), bytes(key), bytes(cert)), CHANNEL);
  // An address may not be asked for by name, as gRPC would: another name is, and the certificate checked for the address.
  const checkServerIdentity = (_: string, { subjectaltname = "" }: { subjectaltname?: string }): Error | undefined =>
    certifies(subjectaltname, address.value) ? undefined : new Error(`its certificate is not for ${address.value}`);
  const secured = credentials.createSsl(bytes(ca), bytes(key), bytes(cert), { checkServerIdentity });
  return new Client(host, secured, { ...CHANNEL, "grpc.ssl_target_name_override": "etcd" });
}

/** Whether a certificate's alternative names, as `DNS:a, IP Address:10.0.0.1`, contain the address. A quoted name may contain anything. */
function certifies(names: string, address: Addr): boolean {
  if (names.includes('"')) return false;
  return names.split(", ").some((name) => {
    const [, text] = /^IP Address:(.*)$/.exec(name) ?? [];
    const found = text === undefined ? undefined : parseAddr(text.toLowerCase());
    return found?.ok === true && found.value === address;
  });
}

function metadataOf(token: string | undefined): Metadata {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("token", token);
  return metadata;
}

function reasonOf(error: unknown): StoreReason {
  const { code, details = "" } = (error ?? {}) as Partial<ServiceError>;
  // Of the request; a full disk is exhausted too.
  if (code === status.RESOURCE_EXHAUSTED && /larger than max/.test(details)) return "invalid";
  // A missing or wrong name, password or token is an invalid argument to etcd.
  if (code === status.INVALID_ARGUMENT && /auth|user name/.test(details)) return "forbidden";
  switch (code) {
    case status.UNAUTHENTICATED:
    case status.PERMISSION_DENIED:
      return "forbidden";
    case status.OUT_OF_RANGE:
      return "gone";
    case status.INVALID_ARGUMENT:
      return "invalid";
    default:
      return "unavailable";
  }
}
