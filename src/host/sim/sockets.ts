/** SimSockets: the unix sockets of a simulated machine, and the HTTP servers of its processes. Nothing leaves the machine. */
import { type Connection, SocketError, type Sockets } from "../sockets.ts";
import { type SimProcess, Stopped } from "./process.ts";

interface Server {
  readonly serve: (connection: Connection) => void;
}

type Handler = (request: Request) => Promise<Response>;

/** One direction of a connection. */
class Pipe {
  readonly #chunks: Uint8Array[] = [];
  #ended = false;
  #wake: () => void = () => {};

  push(bytes: Uint8Array): boolean {
    if (this.#ended) return false;
    this.#chunks.push(bytes.slice());
    this.#wake();
    return true;
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *read(): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) yield chunk;
      else if (this.#ended) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

/** Both ends of a new connection; `cut` breaks it. */
function connectionPair(path: string): { readonly near: Connection; readonly far: Connection; cut(): void } {
  const [there, back] = [new Pipe(), new Pipe()];
  const end = (input: Pipe, output: Pipe): Connection => ({
    input: { [Symbol.asyncIterator]: () => input.read() },
    write: async (bytes) => {
      if (!output.push(bytes)) throw new SocketError("write to", path, "EPIPE");
    },
    end: () => output.end(),
  });
  const cut = (): void => {
    there.end();
    back.end();
  };
  return { near: end(back, there), far: end(there, back), cut };
}

export class SimSockets {
  readonly #servers = new Map<string, Server>();
  readonly #http = new Map<number, Handler>();
  #ports = 40_000;

  /** As somebody outside every simulated process connects. */
  connect(path: string): Connection {
    const server = this.#servers.get(path);
    if (server === undefined) throw new SocketError("connect to", path, "ECONNREFUSED");
    const { near, far } = connectionPair(path);
    server.serve(far);
    return near;
  }

  /** Serves until the result is called: somebody outside every simulated process. */
  listen(path: string, serve: (connection: Connection) => Promise<void>): () => void {
    if (this.#servers.has(path)) throw new SocketError("listen on", path, "EADDRINUSE");
    const server = { serve: (connection: Connection) => void serve(connection).then(() => connection.end()) };
    this.#servers.set(path, server);
    return () => {
      if (this.#servers.get(path) === server) this.#servers.delete(path);
    };
  }

  /** The answer of the HTTP server that was opened last, to somebody outside every simulated process; undefined when there is none. */
  async request(path: string): Promise<Response | undefined> {
    const handle = [...this.#http.values()].at(-1);
    return handle?.(new Request(`http://127.0.0.1${path}`));
  }

  /** As the process sees them. */
  open(owner: SimProcess): Sockets {
    return {
      connect: (path) =>
        owner.run(`connect ${path}`, () => {
          const server = this.#servers.get(path);
          if (server === undefined) throw new SocketError("connect to", path, "ECONNREFUSED");
          const { near, far, cut } = connectionPair(path);
          owner.atEnd(cut);
          server.serve(far);
          return this.#guarded(owner, path, near);
        }),
      listen: (path, _mode, serve) =>
        owner.run(`listen ${path}`, () => {
          if (this.#servers.has(path)) throw new SocketError("listen on", path, "EADDRINUSE");
          const server = { serve: (far: Connection) => this.#serve(owner, path, far, serve) };
          this.#servers.set(path, server);
          const close = (): void => {
            if (this.#servers.get(path) === server) this.#servers.delete(path);
          };
          owner.atEnd(close);
          return { close: async () => close() };
        }),
      fetch: () => Promise.reject(new Error("a simulated machine is connected to no network")),
      serve: (_address, handle) =>
        owner.run("serve HTTP", () => {
          const port = ++this.#ports;
          this.#http.set(port, handle);
          owner.atEnd(() => this.#http.delete(port));
          return { port, close: async () => void this.#http.delete(port) };
        }),
    };
  }

  /** The process answers one connection; what it throws other than by its end is a mistake of it. */
  #serve(owner: SimProcess, path: string, far: Connection, serve: (connection: Connection) => Promise<void>): void {
    owner.atEnd(() => far.end());
    void serve(this.#guarded(owner, path, far)).then(
      () => far.end(),
      (error: unknown) => {
        far.end();
        if (!(error instanceof Stopped) && !(error instanceof SocketError)) throw error;
      },
    );
  }

  /** Its reads and writes are operations of the process. */
  #guarded(owner: SimProcess, path: string, connection: Connection): Connection {
    async function* read(): AsyncGenerator<Uint8Array, void, void> {
      for await (const chunk of connection.input) yield await owner.wait(Promise.resolve(chunk));
      await owner.wait(Promise.resolve());
    }
    return {
      input: { [Symbol.asyncIterator]: read },
      write: (bytes) => owner.run(`write ${path}`, () => connection.write(bytes)),
      end: () => {
        if (!owner.stopped) connection.end();
      },
    };
  }
}
