/** Connecting to unix stream sockets. */
import type { Socket } from "bun";
import { BugError } from "../../lib/bug.ts";
import { type Connection, SocketError } from "../sockets.ts";
import { UnixConnection } from "./connection.ts";

export interface State {
  connection: UnixConnection | undefined;
}

/** The callbacks that pass a socket's events to its connection. */
export function handlers(
  path: string,
  opened?: (connection: UnixConnection) => void,
  closed?: (connection: UnixConnection) => void,
) {
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

/** Rejects with SocketError when there is no listener. */
export async function connect(path: string): Promise<Connection> {
  try {
    const socket = await Bun.connect<State>({
      unix: path,
      allowHalfOpen: true,
      data: { connection: undefined },
      socket: handlers(path),
    });
    return connectionOf(socket);
  } catch (error) {
    throw new SocketError("connect to", path, codeOf(error));
  }
}

/** The errno name of a system error, `ENOENT`. */
export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : String(error);
}
