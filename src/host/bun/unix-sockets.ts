/** Unix stream sockets of the real Sockets: connecting and listening. */
import { chmod, stat, unlink } from "node:fs/promises";
import { type Connection, type Listener, SocketError, type Sockets } from "../sockets.ts";
import type { UnixConnection } from "./connection.ts";
import { codeOf, connect, handlers, type State } from "./unix-connect.ts";

export function openUnixSockets(): Pick<Sockets, "connect" | "listen"> {
  return { connect, listen };
}

async function listen(
  path: string,
  mode: number,
  serveOne: (connection: Connection) => Promise<void>,
): Promise<Listener> {
  await removeStale(path);
  const open = new Set<UnixConnection>();
  const opened = (connection: UnixConnection): void => {
    open.add(connection);
    void serveOne(connection).then(
      () => connection.finish(),
      (error: unknown) => {
        connection.destroy();
        // A peer that disconnected is normal. Anything else is a bug of the handler: unhandled, it ends the process.
        if (!(error instanceof SocketError)) throw error;
      },
    );
  };
  // The file is private until it has its mode, so that nothing can connect in between.
  const before = process.umask(0o177);
  let listener;
  try {
    listener = Bun.listen<State>({
      unix: path,
      allowHalfOpen: true,
      data: { connection: undefined },
      socket: handlers(path, opened, (connection) => open.delete(connection)),
    });
  } catch (error) {
    throw new SocketError("listen on", path, codeOf(error));
  } finally {
    process.umask(before);
  }
  await chmod(path, mode);
  return {
    close: async () => {
      listener.stop();
      for (const connection of open) connection.destroy();
      await unlink(path).catch((error: unknown) => {
        if (codeOf(error) !== "ENOENT") throw new SocketError("remove", path, codeOf(error));
      });
    },
  };
}

/** Removes a socket file that has no listener any more; one in use stays, and listening fails with EADDRINUSE. */
export async function removeStale(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || !found.isSocket()) return;
  try {
    const socket = await Bun.connect({ unix: path, socket: { data: () => undefined } });
    socket.end();
  } catch {
    await unlink(path);
    return;
  }
  throw new SocketError("listen on", path, "EADDRINUSE");
}
