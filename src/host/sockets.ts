/** Sockets: unix stream sockets (CNI server, BIRD control) and HTTP (Kubernetes API, health and metrics). */
export interface Sockets {
  /** Connects to a unix stream socket; rejects when there is no listener. */
  connect(path: string): Promise<Connection>;
  /** Accepts on a unix stream socket with that file mode, replacing a stale socket file. */
  listen(path: string, mode: number, serve: (connection: Connection) => Promise<void>): Promise<Listener>;
  /** The platform's fetch, with a TLS identity per request; `timeout: false` is always set, so callers bound time by `signal`. */
  fetch(url: string, options: FetchOptions): Promise<Response>;
  /** Serves HTTP; with an identity (PEM) HTTPS. */
  serve(
    address: { readonly host: string; readonly port: number } | { readonly path: string },
    handle: (request: Request) => Promise<Response>,
    tls?: { readonly cert: string; readonly key: string },
  ): Promise<Listener & { readonly port: number | undefined }>;
}

export interface FetchOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly insecure?: boolean };
}

export interface Connection {
  /** Chunks as they arrive; ends when the peer closes. */
  readonly input: AsyncIterable<Uint8Array>;
  /** Resolves when everything has been handed to the kernel. */
  write(bytes: Uint8Array): Promise<void>;
  /** Half-closes after what was written; further writes are a bug. */
  end(): void;
}

export interface Listener {
  close(): Promise<void>;
}

/** Connecting to, listening on or writing to a unix socket failed. */
export class SocketError extends Error {
  override readonly name = "SocketError";
  readonly path: string;
  /** `ENOENT`, `ECONNREFUSED`, `EPIPE`, … */
  readonly code: string;
  constructor(operation: string, path: string, code: string) {
    super(`Cannot ${operation} socket ${JSON.stringify(path)}: ${code}`);
    this.path = path;
    this.code = code;
  }
}
