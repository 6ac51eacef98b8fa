/**
 * The real Watcher: registers the descriptor in Bun's event loop as if it were a connected stream socket. Bun receives one datagram at
 * a time, into 512 KiB, and closes the descriptor at the first error: ENOTSOCK, when something else than a socket can be read.
 */
import type { Socket } from "bun";
import type { Watch, WatchEvents, Watcher } from "../watcher.ts";
import { codeOf } from "./unix-connect.ts";

export function openWatcher(): Watcher {
  return { watch, awaitReadable: (fd, readable) => watch(fd, { received: () => {}, lost: readable }) };
}

function watch(fd: number, events: WatchEvents): Watch {
  let closed = false;
  const lost = (cause: string): void => {
    if (closed) return;
    closed = true;
    events.lost(cause);
  };
  const options: Bun.FdSocketOptions = {
    fd,
    socket: {
      data: (_socket: Socket, bytes: Buffer) => {
        if (!closed) events.received(bytes);
      },
      close: (_socket: Socket, error?: unknown) => lost(error === undefined ? "closed" : codeOf(error)),
    },
  };
  // Bun's types have these options, but no overload that takes them.
  const opening = Bun.connect(options as Bun.FdSocketOptions & Bun.UnixSocketOptions);
  opening.catch((error: unknown) => lost(codeOf(error)));
  return {
    close: () => {
      if (closed) return;
      closed = true;
      void opening.then((socket) => socket.terminate());
    },
  };
}
