/** The real Sockets: unix sockets, Bun's fetch and HTTP server. */
import type { FetchOptions, Listener, Sockets } from "../sockets.ts";
import { openUnixSockets, removeStale } from "./unix-sockets.ts";

export function openSockets(): Sockets {
  return { ...openUnixSockets(), fetch: request, serve };
}

function request(url: string, options: FetchOptions): Promise<Response> {
  const { method, headers, body, signal, tls } = options;
  return fetch(url, {
    ...(method === undefined ? {} : { method }),
    ...(headers === undefined ? {} : { headers: { ...headers } }),
    ...(body === undefined ? {} : { body }),
    ...(signal === undefined ? {} : { signal }),
    ...(tls === undefined ? {} : { tls: tlsOptions(tls) }),
    // Cluster traffic must not go through a proxy that happens to be set in the environment.
    proxy: false,
    timeout: false,
  });
}

function tlsOptions(tls: NonNullable<FetchOptions["tls"]>): {
  ca?: string;
  cert?: string;
  key?: string;
  rejectUnauthorized: boolean;
} {
  return {
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls.key === undefined ? {} : { key: tls.key }),
    rejectUnauthorized: tls.insecure !== true,
  };
}

/** Idle connections to an HTTP server are closed after this time. */
const IDLE_SECONDS = 60;

async function serve(
  address: { readonly host: string; readonly port: number } | { readonly path: string },
  handle: (request: Request) => Promise<Response>,
  tls?: { readonly cert: string; readonly key: string },
): Promise<Listener & { readonly port: number | undefined }> {
  const options = { fetch: handle, development: false, ...(tls === undefined ? {} : { tls: { ...tls } }) };
  if ("path" in address) {
    await removeStale(address.path);
    const server = Bun.serve({ unix: address.path, ...options });
    return { port: undefined, close: () => server.stop(true) };
  }
  const server = Bun.serve({ hostname: address.host, port: address.port, idleTimeout: IDLE_SECONDS, ...options });
  return { port: server.port, close: () => server.stop(true) };
}
