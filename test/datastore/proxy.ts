/** proxy: stands between a client and a server on loopback: passes bytes on late, or ends all connections and takes no new ones. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { Transform } from "node:stream";

export class Proxy {
  /** How late each piece is, in each direction. */
  delayMs = 0;
  readonly #address: string;
  readonly #port: number;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #listening = 0;

  /** To the port, from the address. */
  constructor(port: number, address = "127.0.0.1") {
    this.#port = port;
    this.#address = address;
  }

  /** Of the listener; the same after `stop` and `start`. */
  get port(): number {
    return this.#listening;
  }

  async start(): Promise<void> {
    const server = createServer((client) => this.#serve(client));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.#listening, this.#address, resolve);
    });
    const address = server.address();
    if (typeof address === "object" && address !== null) this.#listening = address.port;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(client: Socket): void {
    const server = connect(this.#port, "127.0.0.1");
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    client.pipe(this.#late()).pipe(server).pipe(this.#late()).pipe(client);
  }

  #late(): Transform {
    return new Transform({
      transform: (bytes, _, done) => {
        if (this.delayMs === 0) done(null, bytes);
        else setTimeout(() => done(null, bytes), this.delayMs);
      },
    });
  }
}
