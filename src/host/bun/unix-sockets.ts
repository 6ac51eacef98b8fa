/** Unix stream sockets of the real Sockets; alone in this file so that a CNI plugin loads nothing more. */
import { chmod, stat, unlink } from "node:fs/promises";
import type { Socket } from "bun";
import { BugError } from "../../lib/bug.ts";
import { type Connection, type Listener, SocketError, type Sockets } from "../sockets.ts";
import { UnixConnection } from "./connection.ts";

export function openUnixSockets(): Pick<Sockets, "connect" | "listen"> {
  return { connect, listen };
}

interface State {
  connection: UnixConnection | undefined;
}

/** The callbacks that lead a socket's events to its connection. */
function handlers(path: string, opened?: (connection: UnixConnection) => void, closed?: (connection: UnixConnection) => void) {
  const close = ({ data: { connection } }: Socket<State>): void => {
    if (connection === undefined) return;
    connection.close();
    closed?.(connection);
  };
  return {
    open(socket: Socket<State>) {
      socket.data = { connection: new UnixConnection(path, socket) };
      opened?.(connectionOf(socket));
    },
    data: (socket: Socket<State>, bytes: Buffer) => connectionOf(socket).arrive(bytes),
    drain: (socket: Socket<State>) => connectionOf(socket).flush(),
    end: (socket: Socket<State>) => connectionOf(socket).endInput(),
    close,
    error: close,
  };
}

function connectionOf(socket: Socket<State>): UnixConnection {
  const { connection } = socket.data;
  if (connection === undefined) throw new BugError("an event came before the socket was open");
  return connection;
}

async function connect(path: string): Promise<Connection> {
  try {
    const socket = await Bun.connect<State>({ unix: path, allowHalfOpen: true, data: { connection: undefined }, socket: handlers(path) });
    return connectionOf(socket);
  } catch (error) {
    throw new SocketError("connect to", path, codeOf(error));
  }
}

async function listen(path: string, mode: number, serveOne: (connection: Connection) => Promise<void>): Promise<Listener> {
  await removeStale(path);
  const open = new Set<UnixConnection>();
  const opened = (connection: UnixConnection): void => {
    open.add(connection);
    void serveOne(connection).then(
      () => connection.finish(),
      (error: unknown) => {
        connection.destroy();
        // A peer that went away is no fault. Anything else is a bug of the handler: unhandled, it ends the process.
        if (!(error instanceof SocketError)) throw error;
      },
    );
  };
  // The file is private until it has its mode: nobody may connect in between.
  const before = process.umask(0o177);
  let listener;
  try {
    listener = Bun.listen<State>({ unix: path, allowHalfOpen: true, data: { connection: undefined }, socket: handlers(path, opened, (connection) => open.delete(connection)) });
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

/** A socket file on which nobody answers any more is removed; one in use stays, and listening fails with EADDRINUSE. */
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

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : String(error);
}
