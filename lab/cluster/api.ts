/** api: the lab's client of its Kubernetes API: plain requests with the kubeconfig's credentials. */
import { readFileSync } from "node:fs";
import { parseKubeconfig } from "../../src/datastore/kubernetes/kubeconfig.ts";
import { networkWords } from "../../src/host/network-words.ts";
import { formatParseError } from "../../src/lib/result.ts";
import { CommandError } from "./run.ts";

export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class LabApi {
  readonly #server: string;
  readonly #headers: Record<string, string>;
  readonly #tls: { ca?: string };

  readonly #timeoutMs: number;

  constructor(kubeconfigPath: string, timeoutMs = 15_000) {
    this.#timeoutMs = timeoutMs;
    const parsed = parseKubeconfig(readFileSync(kubeconfigPath, "utf8"), { directory: "/" });
    if (!parsed.ok) throw new CommandError(formatParseError(parsed.error));
    const { server, token, tls } = parsed.value;
    this.#server = server;
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.#tls = tls?.ca === undefined ? {} : { ca: tls.ca };
  }

  /** Rejects with ApiError for an unsuccessful answer, with CommandError when there is no answer. */
  async request<T = unknown>(
    method: string,
    path: string,
    body?: unknown,
    contentType = "application/json",
  ): Promise<T> {
    const headers = { ...this.#headers, ...(body === undefined ? {} : { "content-type": contentType }) };
    const init = {
      method,
      headers,
      tls: this.#tls,
      signal: AbortSignal.timeout(this.#timeoutMs),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    const { response, text } = await this.#send(path, init).catch((error: unknown) => {
      throw new CommandError(`${method} ${path}: no answer from ${this.#server}: ${networkWords(error)}`);
    });
    if (response.ok) return (text === "" ? undefined : text.startsWith("{") ? JSON.parse(text) : text) as T;
    let message = text;
    try {
      message = String((JSON.parse(text) as { message?: unknown }).message ?? text);
    } catch {
      // Not a Status: the text itself is the message.
    }
    throw new ApiError(response.status, `${method} ${path}: ${response.status} ${message}`);
  }

  async #send(path: string, init: BunFetchRequestInit): Promise<{ response: Response; text: string }> {
    const response = await fetch(this.#server + path, init);
    return { response, text: await response.text() };
  }

  /** Creates the object, or does nothing when it exists. */
  async ensure(path: string, object: object): Promise<void> {
    try {
      await this.request("POST", path, object);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 409) throw error;
    }
  }

  async ready(): Promise<boolean> {
    try {
      await this.request("GET", "/readyz");
      return true;
    } catch {
      return false;
    }
  }
}
