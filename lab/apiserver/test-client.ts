/** TestClient: a server in a temporary directory and plain requests to it, for the tests of this folder. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unwrap } from "../../src/lib/result.ts";
import type { JsonObject, JsonValue } from "../../src/model/schema/json.ts";
import { isJsonObject } from "../../src/model/schema/json.ts";
import { parseListenAddress } from "./listen.ts";
import { type ApiServerOptions, runApiServer, type RunningApiServer } from "./server.ts";

export interface Reply {
  readonly status: number;
  readonly body: JsonObject;
  readonly headers: Headers;
}

export interface RequestOptions {
  readonly type?: string;
  readonly accept?: string;
  /** undefined: the administrator's; null: none. */
  readonly token?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

export class TestServer {
  readonly #directory = mkdtempSync(join(tmpdir(), "apiserver-"));
  readonly #options: Partial<ApiServerOptions>;
  #server: RunningApiServer | undefined;

  constructor(options: Partial<ApiServerOptions> = {}) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#server = await runApiServer({
      dataDirectory: this.#directory,
      listen: [unwrap(parseListenAddress("127.0.0.1:0"))],
      ...this.#options,
    });
  }

  async stop(): Promise<void> {
    this.#server?.stop();
    this.#server = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get running(): RunningApiServer {
    if (this.#server === undefined) throw new Error("the server is not running");
    return this.#server;
  }

  fetch(
    method: string,
    path: string,
    body?: JsonValue | Uint8Array<ArrayBuffer>,
    options: RequestOptions = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    const { urls, authority, adminToken } = this.running;
    const token = options.token === undefined ? adminToken : options.token;
    return fetch(`${urls[0]}${path}`, {
      method,
      tls: { ca: authority },
      headers: {
        "Content-Type": options.type ?? "application/json",
        Accept: options.accept ?? "application/json",
        ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
        ...options.headers,
      },
      ...(body === undefined ? {} : { body: body instanceof Uint8Array ? body : JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async call(
    method: string,
    path: string,
    body?: JsonValue | Uint8Array<ArrayBuffer>,
    options: RequestOptions = {},
  ): Promise<Reply> {
    const response = await this.fetch(method, path, body, options);
    const text = await response.text();
    const parsed: unknown = text.startsWith("{") ? JSON.parse(text) : { text };
    return { status: response.status, body: isJsonObject(parsed) ? parsed : {}, headers: response.headers };
  }

  /** Events of a watch, until `count` have come. */
  async watch(
    path: string,
    count: number,
    during: () => Promise<void> = async () => {},
    options: RequestOptions = {},
  ): Promise<JsonObject[]> {
    const abort = new AbortController();
    const response = await this.fetch("GET", path, undefined, options, abort.signal);
    const working = during();
    const events: JsonObject[] = [];
    let rest = "";
    const decoder = new TextDecoder();
    if (response.body === null) throw new Error("a watch without a body");
    for await (const chunk of response.body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.trim() !== "") events.push(JSON.parse(line) as JsonObject);
      if (events.length >= count) break;
    }
    await working;
    abort.abort();
    return events;
  }
}
