/**
 * Listener: requests over TLS for one handler, on one address.
 *
 * On `node:https` rather than `Bun.serve`, which holds back an answer's headers until the first byte of its body: a watch that has nothing
 * to say yet must be known to have begun, and its first byte is an event's.
 */
import { type IncomingMessage, type ServerResponse } from "node:http";
import { createServer } from "node:https";

export interface ListenerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  /** Longer bodies end the connection. */
  readonly maxBodyBytes: number;
  readonly handle: (request: Request) => Promise<Response>;
}

export interface RunningListener {
  readonly port: number;
  /** Takes no more connections; with `ending`, ends those that are there too. */
  stop(ending: boolean): void;
}

const IDLE_TIMEOUT_MS = 240_000;

/** Rejects when the address cannot be had. The socket is made before this returns, so in the network namespace of the calling thread. */
export function listenHttps(options: ListenerOptions): Promise<RunningListener> {
  const server = createServer(
    { cert: options.certificate, key: options.key },
    (incoming, outgoing) => void serve(incoming, outgoing, options),
  );
  server.keepAliveTimeout = IDLE_TIMEOUT_MS;
  server.requestTimeout = 0;
  server.timeout = 0;
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      const address = server.address();
      const stop = (ending: boolean): void => {
        server.close();
        if (ending) server.closeAllConnections();
      };
      resolve({ port: typeof address === "object" && address !== null ? address.port : options.port, stop });
    });
    server.listen(options.port, options.host);
  });
}

/** Never rejects: what a client sends, or that it goes, harms its own connection alone. */
async function serve(incoming: IncomingMessage, outgoing: ServerResponse, options: ListenerOptions): Promise<void> {
  const body = await readBody(incoming, options.maxBodyBytes);
  const request = body === undefined ? undefined : requestOf(incoming, body);
  if (request === undefined) {
    outgoing
      .writeHead(400, { "Content-Type": "text/plain; charset=utf-8", Connection: "close" })
      .end("400 Bad Request\n");
    return;
  }
  const response = await options.handle(request);
  try {
    await send(response, outgoing);
  } catch {
    outgoing.destroy();
  }
}

/** undefined for anything but a request to an API: a target that is not a path, a method of proxies, a malformed header. The client's Host is ignored. */
function requestOf(incoming: IncomingMessage, body: Buffer<ArrayBuffer>): Request | undefined {
  const { method = "GET", url = "" } = incoming;
  if (!url.startsWith("/")) return undefined;
  try {
    const headers = new Headers();
    for (const [name, value] of Object.entries(incoming.headers))
      if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
    return new Request(`https://localhost${url}`, {
      method,
      headers,
      ...(body.length === 0 || method === "GET" || method === "HEAD" ? {} : { body }),
    });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return undefined;
  }
}

/** undefined when it is too long, or the client went. */
async function readBody(incoming: IncomingMessage, most: number): Promise<Buffer<ArrayBuffer> | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of incoming as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > most) return undefined;
      chunks.push(chunk);
    }
  } catch {
    return undefined;
  }
  return Buffer.concat(chunks);
}

/** A body that comes in pieces, as its headers say, is sent as it comes, its headers at once; a client that goes ends it. */
async function send(response: Response, outgoing: ServerResponse): Promise<void> {
  outgoing.statusCode = response.status;
  for (const [name, value] of response.headers) {
    // Each warning is a header of its own.
    if (name === "warning") outgoing.setHeader(name, value.split(/, (?=299 - ")/));
    else if (name !== "transfer-encoding") outgoing.setHeader(name, value);
  }
  if (response.body === null || response.headers.get("transfer-encoding") !== "chunked") {
    outgoing.end(Buffer.from(await response.arrayBuffer()));
    return;
  }
  outgoing.flushHeaders();
  const reader = response.body.getReader();
  outgoing.once("close", () => void reader.cancel());
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    if (!outgoing.write(next.value))
      await new Promise<void>((resolve) => outgoing.once("drain", resolve).once("close", resolve));
  }
  outgoing.end();
}
