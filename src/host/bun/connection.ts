/**
 * One unix stream connection as the Connection of src/host/sockets.ts: input is queued for the reader, output waits until the kernel has
 * taken it.
 */
import type { Socket } from "bun";
import { BugError } from "../../lib/bug.ts";
import { type Connection, SocketError } from "../sockets.ts";

interface Pending {
  readonly bytes: Uint8Array;
  offset: number;
  readonly resolve: () => void;
  readonly reject: (error: SocketError) => void;
}

export class UnixConnection implements Connection {
  readonly #path: string;
  readonly #socket: Socket<unknown>;
  readonly #arrived: Uint8Array[] = [];
  readonly #unwritten: Pending[] = [];
  #inputEnded = false;
  #outputEnded = false;
  /** Close when everything is written, even if the peer is still sending. */
  #finishing = false;
  #closed = false;
  #wakeReader: (() => void) | undefined;

  constructor(path: string, socket: Socket<unknown>) {
    this.#path = path;
    this.#socket = socket;
  }

  readonly input: AsyncIterable<Uint8Array> = { [Symbol.asyncIterator]: () => this.#read() };

  async *#read(): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const chunk = this.#arrived.shift();
      if (chunk !== undefined) yield chunk;
      else if (this.#inputEnded) return;
      else await new Promise<void>((resolve) => (this.#wakeReader = resolve));
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#outputEnded) throw new BugError("write to a connection after its end");
    if (this.#closed) return Promise.reject(new SocketError("write to", this.#path, "EPIPE"));
    return new Promise((resolve, reject) => {
      this.#unwritten.push({ bytes, offset: 0, resolve, reject });
      if (this.#unwritten.length === 1) this.flush();
    });
  }

  end(): void {
    if (this.#outputEnded) return;
    this.#outputEnded = true;
    if (this.#unwritten.length === 0) this.#socket.shutdown();
  }

  /** Ends and, once everything is written, closes: what the peer still sends is not read. */
  finish(): void {
    this.#outputEnded = true;
    this.#finishing = true;
    if (this.#unwritten.length === 0) this.destroy();
  }

  /** Called by the socket's `drain`: the kernel accepts more. */
  flush(): void {
    for (let next = this.#unwritten[0]; next !== undefined; next = this.#unwritten[0]) {
      const written = next.bytes.length === 0 ? 0 : this.#socket.write(next.bytes.subarray(next.offset));
      if (written < 0) return this.close();
      next.offset += written;
      if (next.offset < next.bytes.length) return;
      this.#unwritten.shift();
      next.resolve();
    }
    if (this.#finishing) this.destroy();
    else if (this.#outputEnded && !this.#closed) this.#socket.shutdown();
  }

  /** Called by the socket's `data`; the bytes are the socket's own buffer and are copied. */
  arrive(bytes: Uint8Array): void {
    this.#arrived.push(new Uint8Array(bytes));
    this.#wakeReader?.();
  }

  /** Called by the socket's `end`: the peer will send no more. */
  endInput(): void {
    this.#inputEnded = true;
    this.#wakeReader?.();
  }

  /** Called by the socket's `close` and `error`. */
  close(): void {
    this.#closed = true;
    this.endInput();
    for (const pending of this.#unwritten.splice(0)) pending.reject(new SocketError("write to", this.#path, "EPIPE"));
  }

  /** Closes the descriptor whatever the peer does; unread input stays readable. */
  destroy(): void {
    if (!this.#closed) this.#socket.end();
  }
}
