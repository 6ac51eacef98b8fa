/** ask: what the daemon that runs says over HTTP (health.ts), for the commands that look. */
import { SocketError, type Sockets } from "../host/sockets.ts";

const TIMEOUT_MS = 10_000;

export interface DaemonAddress {
  readonly host: string;
  readonly port: number;
}

/** The answer of that path, as `decode` takes it; undefined: it is none. Rejects with SocketError when no daemon answers there, or something else. */
export async function askDaemon<T>(
  sockets: Pick<Sockets, "fetch">,
  { host, port }: DaemonAddress,
  path: string,
  decode: (body: unknown) => T | undefined,
): Promise<T> {
  const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  const fail = (error: unknown): never => {
    throw new SocketError("ask the daemon at", address, error instanceof Error ? error.message : String(error));
  };
  let body: unknown;
  try {
    const answer = await sockets.fetch(`http://${address}${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    body = await answer.json();
  } catch (error) {
    return fail(error);
  }
  const error: unknown = typeof body === "object" && body !== null && "error" in body ? body.error : undefined;
  return decode(body) ?? fail(typeof error === "string" ? error : `the answer to ${path} is of another kind`);
}
