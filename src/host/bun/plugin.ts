/**
 * plugin: what a CNI plugin needs, fast to open: standard input, standard output, one exchange over a unix socket. Synchronous: a process that
 * lives for one request has nothing else to do, and the platform's streams and sockets take longer to start than all the rest of it.
 */
import { dlopen, read as foreign } from "bun:ffi";
import { SocketError } from "../sockets.ts";

export interface PluginHost {
  /** All of standard input, as text. */
  readStdin(): string;
  /** Sends the request to whoever listens there; its answer up to the end of the line, or less if it closes before. Throws SocketError. */
  exchange(path: string, request: string): string;
  /** Writes the text and a newline. */
  writeStdout(text: string): void;
}

const STDIN = 0;
const STDOUT = 1;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const MSG_NOSIGNAL = 0x4000;
/** Of sockaddr_un, which ends the path with a NUL. */
const PATH_MOST = 107;
const EINTR = 4;
/** Those that tell somebody what to do. Source: linux include/uapi/asm-generic/errno.h. */
const NAMES: Readonly<Record<number, string>> = {
  2: "ENOENT",
  13: "EACCES",
  32: "EPIPE",
  104: "ECONNRESET",
  111: "ECONNREFUSED",
};
const CHUNK = 1 << 16;
const NEWLINE = 10;

function openLibrary() {
  return dlopen("libc.so.6", {
    read: { args: ["i32", "ptr", "usize"], returns: "i32" },
    write: { args: ["i32", "ptr", "usize"], returns: "i32" },
    send: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
    __errno_location: { args: [], returns: "ptr" },
  }).symbols;
}

export function openPluginHost(): PluginHost {
  const libc = openLibrary();
  const errno = libc.__errno_location();

  /** Again when a signal came between. The result, or `-errno`. */
  const call = (run: () => number): number => {
    for (;;) {
      const result = run();
      if (result >= 0 || errno === null) return result;
      const code = foreign.i32(errno, 0);
      if (code !== EINTR) return -code;
    }
  };

  /** To the end of the input, or of a line. */
  const readAll = (fd: number, isLine: boolean): { readonly text: string; readonly error: number } => {
    const decoder = new TextDecoder();
    const chunk = new Uint8Array(CHUNK);
    for (let text = ""; ;) {
      const count = call(() => libc.read(fd, chunk, CHUNK));
      if (count <= 0) return { text, error: -count };
      text += decoder.decode(chunk.subarray(0, count), { stream: true });
      if (isLine && chunk[count - 1] === NEWLINE) return { text, error: 0 };
    }
  };

  /** 0, or `-errno`. */
  const writeAll = (text: string, write: (bytes: Uint8Array) => number): number => {
    for (let rest = new TextEncoder().encode(text); rest.length > 0;) {
      const part = rest;
      const count = call(() => write(part));
      if (count < 0) return count;
      rest = rest.subarray(count);
    }
    return 0;
  };

  const exchange = (path: string, request: string): string => {
    const name = new TextEncoder().encode(path);
    if (name.length > PATH_MOST) throw new SocketError("connect to", path, "ENAMETOOLONG");
    const address = new Uint8Array(2 + name.length + 1);
    address[0] = AF_UNIX;
    address.set(name, 2);
    const fd = call(() => libc.socket(AF_UNIX, SOCK_STREAM, 0));
    if (fd < 0) throw new SocketError("open", path, nameOf(-fd));
    const connected = call(() => libc.connect(fd, address, address.length));
    if (connected < 0) throw new SocketError("connect to", path, nameOf(-connected));
    const sent = writeAll(request, (bytes) => libc.send(fd, bytes, bytes.length, MSG_NOSIGNAL));
    if (sent < 0) throw new SocketError("write to", path, nameOf(-sent));
    const { text, error } = readAll(fd, true);
    if (error !== 0) throw new SocketError("read from", path, nameOf(error));
    return text;
  };

  return {
    readStdin: () => readAll(STDIN, false).text,
    exchange,
    // Whoever does not take it is gone.
    writeStdout: (text) => void writeAll(`${text}\n`, (bytes) => libc.write(STDOUT, bytes, bytes.length)),
  };
}

function nameOf(errno: number): string {
  return NAMES[errno] ?? `errno ${errno}`;
}
