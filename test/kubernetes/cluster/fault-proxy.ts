/**
 * fault-proxy: a TLS proxy in front of kube-apiserver that injects the faults of networks, load balancers and busy servers for `calico node`.
 *
 * A separate process in the fabric's namespace. `fault.ts` starts it and sets the fault over a unix socket.
 * Usage: bun fault-proxy.ts CONFIG (a JSON file, `ProxyConfig`)
 */
import { createServer } from "node:https";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Asked, ProxyConfig, Fault } from "./fault.ts";

/** A watch lives so long under the fault `cut`. */
const CUT_AFTER_MS = 100;
/** Bytes that were written have left the process by then. */
const FLUSH_MS = 50;

const config = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as ProxyConfig;
const ca = readFileSync(config.ca, "utf8");
let fault: Fault = { kind: "none" };
let asked: Asked[] = [];
/** When the last answer 429 went out, and how long nothing may come after it. */
let refusal = { atMs: Number.NEGATIVE_INFINITY, forMs: 0 };
const watches = new Set<OpenWatch>();

/** One watch on its way through. */
class OpenWatch {
  readonly #response: ServerResponse;
  readonly #held: string[] = [];
  /** Nothing comes through any more, though the connection stays. */
  stalled = false;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  /** Lines as the server sent them, under the fault of the moment. */
  pass(lines: readonly string[]): void {
    if (this.stalled) return;
    const kept = fault.kind === "no-bookmarks" ? lines.filter((line) => !line.startsWith('{"type":"BOOKMARK"')) : lines;
    this.#held.push(...kept);
    if (fault.kind !== "silent") this.release();
  }

  /** What was held back, in order. */
  release(): void {
    for (const line of this.#held.splice(0)) this.#response.write(`${line}\n`);
  }

  cut(): void {
    this.#response.socket?.destroy();
  }
}

function change(next: Fault): void {
  fault = next;
  const lasts = ["none", "silent", "no-bookmarks", "expired-pages"].includes(next.kind);
  for (const watch of watches) {
    if (next.kind === "stalled") watch.stalled = true;
    else if (!lasts) watch.cut();
    else if (next.kind !== "silent") watch.release();
  }
}

function statusBody(
  code: number,
  reason: string,
  message: string,
  causes: readonly { readonly reason: string; readonly message: string }[] = [],
): string {
  return JSON.stringify({
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    code,
    reason,
    message,
    ...(causes.length === 0 ? {} : { details: { causes } }),
  });
}

function answer(
  response: ServerResponse,
  code: number,
  type: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(code, { "content-type": type, ...headers });
  response.end(body);
}

/** Sends the beginning of an answer and closes the connection. */
async function breakOff(response: ServerResponse, beginning: string): Promise<void> {
  response.writeHead(200, { "content-type": "application/json" });
  response.flushHeaders();
  if (beginning !== "") response.write(beginning);
  await Bun.sleep(FLUSH_MS);
  response.socket?.destroy();
}

/** Whether the fault answered in the server's stead. */
async function intervene(path: URL, response: ServerResponse): Promise<boolean> {
  const watch = path.searchParams.has("watch");
  switch (fault.kind) {
    case "refuse": {
      const { code, reason, message, retryAfterSeconds, causes } =
        fault.with[asked.length % fault.with.length] ?? fault.with[0];
      if (code === 429) refusal = { atMs: performance.now(), forMs: (retryAfterSeconds ?? 0) * 1000 };
      answer(
        response,
        code,
        "application/json",
        statusBody(code, reason, message, causes),
        retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) },
      );
      return true;
    }
    case "html":
      answer(response, 200, "text/html", "<html><body>Service temporarily somewhere else</body></html>\n");
      return true;
    case "headers-only":
      await breakOff(response, "");
      return true;
    case "half-line":
      await breakOff(
        response,
        watch
          ? '{"type":"ADDED","object":{"kind":"Po'
          : '{"kind":"List","metadata":{"resourceVersion":"1"},"items":[{"meta',
      );
      return true;
    case "expired-pages":
      if (!path.searchParams.has("continue")) return false;
      answer(
        response,
        410,
        "application/json",
        statusBody(410, "Expired", "The provided continue parameter is too old to display a consistent list result."),
      );
      return true;
    case "expired-watch":
      if (!watch) return false;
      answer(
        response,
        200,
        "application/json",
        `${JSON.stringify({ type: "ERROR", object: JSON.parse(statusBody(410, "Expired", "too old resource version: 1 (2)")) as unknown })}\n`,
      );
      return true;
    case "slow":
      await Bun.sleep(fault.seconds * 1000);
      return false;
    default:
      return false;
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks);
}

async function forward(
  request: IncomingMessage,
  body: Buffer,
  watch: boolean,
  response: ServerResponse,
): Promise<void> {
  const abort = new AbortController();
  response.on("close", () => abort.abort());
  const headers: Record<string, string> = {};
  for (const name of ["authorization", "accept", "content-type"]) {
    const value = request.headers[name];
    if (typeof value === "string") headers[name] = value;
  }
  const method = request.method ?? "GET";
  const upstream = await fetch(config.upstream + (request.url ?? "/"), {
    method,
    headers,
    signal: abort.signal,
    tls: { ca },
    timeout: false,
    ...(method === "GET" ? {} : { body }),
  } as RequestInit);
  if (watch && upstream.ok && upstream.body !== null) return follow(upstream.body, response);
  const retryAfter = upstream.headers.get("retry-after");
  answer(
    response,
    upstream.status,
    upstream.headers.get("content-type") ?? "application/json",
    await upstream.text(),
    retryAfter === null ? {} : { "retry-after": retryAfter },
  );
}

async function follow(body: ReadableStream<Uint8Array>, response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "application/json" });
  response.flushHeaders();
  const watch = new OpenWatch(response);
  watches.add(watch);
  if (fault.kind === "cut") setTimeout(() => watch.cut(), CUT_AFTER_MS);
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for await (const chunk of body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      watch.pass(lines);
    }
    if (!watch.stalled) response.end();
  } finally {
    watches.delete(watch);
  }
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", config.upstream);
  const atMs = performance.now();
  const sinceRefusalMs = atMs - refusal.atMs;
  // What was on its way when the refusal went out does not count.
  const disobeys = sinceRefusalMs > FLUSH_MS * 5 && sinceRefusalMs < refusal.forMs - FLUSH_MS;
  asked.push({ atMs, method: request.method ?? "", url: url.pathname + url.search, disobeys });
  const body = await bodyOf(request);
  if (await intervene(url, response)) return;
  await forward(request, body, url.searchParams.has("watch"), response);
}

createServer({ cert: readFileSync(config.certificate), key: readFileSync(config.key) }, (request, response) => {
  // A client or server that goes away in the middle is what this program is about.
  serve(request, response).catch(() => response.socket?.destroy());
}).listen(config.port, "::");

Bun.serve({
  unix: config.control,
  async fetch(request) {
    if (request.method === "PUT") {
      change((await request.json()) as Fault);
      asked = [];
      refusal = { atMs: Number.NEGATIVE_INFINITY, forMs: 0 };
    }
    return Response.json({ nowMs: performance.now(), watches: watches.size, asked });
  },
});
