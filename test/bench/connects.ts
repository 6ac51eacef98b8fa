/** connects: new TCP connections one after the other, and the CPU time that client and server spend on each. */
import { cpuNanoseconds } from "./processes.ts";

/** Accepts and closes. */
const SERVER = `
import socket
listener = socket.create_server(("", PORT), backlog=1024)
while True:
    listener.accept()[0].close()
`;
/** Connects and resets, so that no port waits; prints how many connections and its nanoseconds of CPU. */
const CLIENT = `
import socket, struct, time
linger = struct.pack("ii", 1, 0)
count, first, end = 0, time.process_time_ns(), time.monotonic() + SECONDS
while time.monotonic() < end:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        SOURCE
        client.connect(("ADDRESS", PORT))
    count += 1
print(count, time.process_time_ns() - first)
`;

/** In the network namespace at the path; the caller ends it. */
export function startAcceptor(netns: string, port: number): { readonly pid: number; readonly kill: () => void } {
  const child = Bun.spawn(["nsenter", `--net=${netns}`, "--", "python3", "-c", SERVER.replace("PORT", String(port))], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
  });
  return { pid: child.pid, kill: () => child.kill() };
}

export interface ConnectOptions {
  readonly netns: string;
  readonly address: string;
  readonly port: number;
  readonly seconds: number;
  /** undefined: the kernel's choice. */
  readonly source?: string;
  /** Of the acceptor. */
  readonly serverPid: number;
}

/** Microseconds of CPU of client and server for each connection; rejects when one is refused. */
export async function cpuPerConnection(options: ConnectOptions): Promise<number> {
  const { netns, address, port, seconds, source, serverPid } = options;
  const text = CLIENT.replace("SECONDS", String(seconds))
    .replace("SOURCE", source === undefined ? "pass" : `client.bind((${JSON.stringify(source)}, 0))`)
    .replace("ADDRESS", address)
    .replace("PORT", String(port));
  const before = cpuNanoseconds(serverPid);
  const child = Bun.spawn(["nsenter", `--net=${netns}`, "--", "python3", "-c", text], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [printed, words] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`connections to ${address}: ${words}`);
  const [count = 0, client = 0] = printed.trim().split(" ").map(Number);
  return (cpuNanoseconds(serverPid) - before + client) / 1e3 / count;
}
