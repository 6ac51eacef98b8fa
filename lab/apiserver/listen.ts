/** Listen: where the server listens, as written on the command line: `ADDR:PORT`, `[ADDR6]:PORT` or `netns:PATH@ADDR:PORT`. */
import { fail, ok, type ParseError, type Result } from "../../src/lib/result.ts";
import { type Addr, parseAddr } from "../../src/net/addr.ts";

export interface ListenAddress {
  readonly addr: Addr;
  /** 0 takes a free port. */
  readonly port: number;
  /** File of the network namespace to listen in; undefined: the server's own. */
  readonly namespacePath: string | undefined;
}

export function parseListenAddress(text: string): Result<ListenAddress, ParseError> {
  const bad = (wanted: string): Result<ListenAddress, ParseError> =>
    fail({ what: "listen address", found: text, wanted });
  const match = /^(?:netns:(.+)@)?(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (match === null) return bad("must be ADDRESS:PORT, [ADDRESS6]:PORT or netns:PATH@ADDRESS:PORT");
  const addr = parseAddr(match[2] ?? match[3] ?? "");
  if (!addr.ok) return bad(addr.error.wanted);
  const port = Number(match[4]);
  if (port > 65535) return bad(`port is ${port}, must be 0 to 65535`);
  return ok({ addr: addr.value, port, namespacePath: match[1] });
}

/** `https://10.0.0.1:6443`; an unspecified address is reached over loopback. */
export function formatUrl(addr: Addr, port: number): string {
  const host = addr === "0.0.0.0" ? "127.0.0.1" : addr === "::" ? "::1" : addr;
  return `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
