/**
 * Transport: one HTTP request to the API server with credentials, bounded in time; failures are StoreErrors.
 *
 * After a "too many requests" answer no request is sent until the time that the server named is over, whoever makes it.
 * Credential files are read for each request: the kubelet replaces tokens and certificates while we run.
 */
import { nextTurn } from "../../host/breath.ts";
import type { Clock } from "../../host/clock.ts";
import type { Files } from "../../host/files.ts";
import { networkWords } from "../../host/network-words.ts";
import type { FetchOptions, Sockets } from "../../host/sockets.ts";
import type { Key } from "../../model/key.ts";
import { StoreError } from "../store.ts";
import type { KubernetesAccess } from "./kubeconfig.ts";
import { startDeadline } from "./deadline.ts";
import { readErrorStatus, refusedError, unavailableError } from "./error-status.ts";

export interface TransportDependencies {
  readonly sockets: Sockets;
  readonly files: Files;
  readonly clock: Clock;
}

/** One request: as error messages name it, and in HTTP. */
export interface Ask {
  /** `get`, `list`, …: the verb in error messages. */
  readonly operation: string;
  /** As error messages name it; one of ours, or any other that a tool reads. */
  readonly kind: string;
  readonly key: Key | undefined;
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path and query. */
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
}

/** A request must be answered in full within this time; a watch must be established. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** The longest `Retry-After` that is obeyed. */
const RETRY_AFTER_MOST_MS = 60_000;
const TOO_MANY_REQUESTS = 429;
/** Length of a text for which nobody is kept waiting long: it is a fraction of a millisecond. */
const PARSED_AT_ONCE = 2 ** 16;

export class Transport {
  readonly #access: KubernetesAccess;
  readonly #dependencies: TransportDependencies;
  readonly #closed = new AbortController();
  /** When requests may be sent again, on the monotonic clock. */
  #notBeforeMs = 0;

  constructor(access: KubernetesAccess, dependencies: TransportDependencies) {
    this.#access = access;
    this.#dependencies = dependencies;
  }

  /** The JSON answer of a successful request; rejects with StoreError, or with the signal's reason when the caller aborted. */
  async ask(ask: Ask, outer?: AbortSignal): Promise<unknown> {
    return (await this.askSized(ask, outer)).value;
  }

  /** The same, with the length of the answer's text. */
  async askSized(ask: Ask, outer?: AbortSignal): Promise<{ readonly value: unknown; readonly length: number }> {
    outer?.throwIfAborted();
    const ended = outer === undefined ? this.#closed.signal : AbortSignal.any([outer, this.#closed.signal]);
    const deadline = startDeadline(this.#dependencies.clock, REQUEST_TIMEOUT_MS, ended);
    try {
      const response = await this.open(ask, deadline.signal);
      const text = await response.text();
      // Answers to several lists often come together.
      if (text.length > PARSED_AT_ONCE) await nextTurn(this.#dependencies.clock);
      return { value: JSON.parse(text), length: text.length };
    } catch (error) {
      outer?.throwIfAborted();
      if (error instanceof StoreError) throw error;
      if (this.#closed.signal.aborted)
        throw unavailableError(ask.operation, ask.kind, ask.key, "the client was closed before an answer came");
      if (deadline.expired())
        throw unavailableError(
          ask.operation,
          ask.kind,
          ask.key,
          `no answer from ${this.#access.server} within ${REQUEST_TIMEOUT_MS} ms`,
        );
      throw unavailableError(
        ask.operation,
        ask.kind,
        ask.key,
        `answer of ${this.#access.server} cannot be read: ${networkWords(error)}`,
      );
    } finally {
      deadline.clear();
    }
  }

  /** Fires when `close` is called. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Ends pending requests as unavailable; later ones end at once. */
  close(): void {
    this.#closed.abort();
  }

  /** A successful answer whose body has not been read. Rejects with StoreError, or as fetch does when the signal aborts. */
  async open(ask: Ask, signal: AbortSignal): Promise<Response> {
    const response = await this.#send(ask, signal);
    if (response.ok) return response;
    const body = await response.text();
    const status = readErrorStatus(response.status, body, response.headers.get("retry-after"));
    if (status.code === TOO_MANY_REQUESTS)
      this.#notBeforeMs =
        this.#dependencies.clock.monotonicMs() + Math.min(status.retryAfterMs ?? 0, RETRY_AFTER_MOST_MS);
    throw refusedError(ask.operation, ask.kind, ask.key, status);
  }

  /** Throws while the server's `Retry-After` is not over. */
  #obeyRetryAfter(ask: Ask): void {
    const left = this.#notBeforeMs - this.#dependencies.clock.monotonicMs();
    if (left > 0)
      throw unavailableError(
        ask.operation,
        ask.kind,
        ask.key,
        `${this.#access.server} answered ${TOO_MANY_REQUESTS} to an earlier request and accepts none for another ${Math.ceil(left)} ms`,
        left,
      );
  }

  async #send(ask: Ask, signal: AbortSignal): Promise<Response> {
    this.#obeyRetryAfter(ask);
    const options = await this.#options(ask, signal);
    try {
      return await this.#dependencies.sockets.fetch(this.#access.server + ask.path, options);
    } catch (error) {
      if (signal.aborted) throw error;
      throw unavailableError(
        ask.operation,
        ask.kind,
        ask.key,
        `cannot reach ${this.#access.server}: ${networkWords(error)}`,
      );
    }
  }

  async #options(ask: Ask, signal: AbortSignal): Promise<FetchOptions> {
    const access = this.#access;
    const headers: Record<string, string> = { accept: "application/json" };
    if (ask.body !== undefined) headers["content-type"] = ask.contentType ?? "application/json";
    const token = await this.#text(access.token, access.tokenFile, ask);
    if (token !== undefined) headers["authorization"] = `Bearer ${token.trim()}`;
    const ca = await this.#text(access.tls?.ca, access.tls?.caFile, ask);
    const cert = await this.#text(access.tls?.cert, access.tls?.certFile, ask);
    const key = await this.#text(access.tls?.key, access.tls?.keyFile, ask);
    const tls = {
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(access.tls?.insecure === true ? { insecure: true } : {}),
    };
    return {
      method: ask.method,
      headers,
      signal,
      ...(ask.body === undefined ? {} : { body: JSON.stringify(ask.body) }),
      tls,
    };
  }

  async #text(text: string | undefined, file: string | undefined, ask: Ask): Promise<string | undefined> {
    return file === undefined ? text : this.#file(file, ask);
  }

  async #file(path: string, ask: Ask): Promise<string> {
    const text = await this.#dependencies.files.readText(path);
    if (text === undefined)
      throw new StoreError(
        "forbidden",
        ask.kind,
        ask.key,
        `Cannot ${ask.operation} ${ask.kind}: credential file ${JSON.stringify(path)} does not exist`,
      );
    return text;
  }
}
