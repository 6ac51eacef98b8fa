/**
 * streams: flows of TCP, UDP or SCTP between two namespaces, of one message a millisecond each, counted at both ends. Up to port 5009 the client sends,
 * above the server (not over UDP, and once the client has called).
 */
import type { Subprocess } from "bun";
import type { Namespace } from "./fixture.ts";

const PROGRAM = `
import json, select, socket, sys, threading, time
role, ports, addresses, kinds = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
DOWN = 5010
counts, lock, stop = {}, threading.Lock(), threading.Event()
def add(key, n=1):
    with lock: counts[key] = counts.get(key, 0) + n
def family(a): return socket.AF_INET6 if ':' in a else socket.AF_INET
SCTP, SCTP_NODELAY = 132, 3
def new(kind, a): return socket.socket(family(a), socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM, SCTP if kind == 'sctp' else 0)
def hasten(kind, sock): sock.setsockopt(*((SCTP, SCTP_NODELAY) if kind == 'sctp' else (socket.IPPROTO_TCP, socket.TCP_NODELAY)), 1)
def name(kind, a, port): return '%s%d:%d' % (kind, 6 if ':' in a else 4, port)
def send(key, sock):
    sock.setblocking(False)
    part = b''
    while not stop.is_set():
        time.sleep(0.001)
        part = part or bytes(8)
        try:
            part = part[sock.send(part):]
            if not part: add(key)
        except BlockingIOError: pass
        except OSError as error:
            if error.errno not in (1, 111): return
def receive(key, sock, size):
    got = 0
    while True:
        try: data = sock.recv(65536)
        except OSError: return
        if not data: return
        got += len(data)
        add(key, got // 8); got %= 8
def answer(key, sock):
    while True:
        data, peer = sock.recvfrom(65536)
        add(key)
        try: sock.sendto(data, peer)
        except OSError: pass
def run(*args): threading.Thread(target=args[0], args=args[1:], daemon=True).start()
def serve(kind, a, port):
    key = name(kind, a, port)
    sock = new(kind, a)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((a, port))
    if kind == 'udp': return run(answer, key, sock)
    sock.listen(8)
    def accept():
        while True:
            one, _ = sock.accept()
            hasten(kind, one)
            run(send if port >= DOWN else receive, key, one, *(() if port >= DOWN else (8,)))
    run(accept)
def call(kind, a, port):
    key = name(kind, a, port)
    sock = new(kind, a)
    sock.connect((a, port))
    if kind != 'udp': hasten(kind, sock)
    if port >= DOWN: return run(receive, key, sock, 8)
    if kind == 'udp': run(receive, key + ' answers', sock, 8)
    run(send, key, sock)
for a in addresses:
    for kind in kinds:
        for port in ports:
            if kind == 'udp' and port >= DOWN: continue
            (serve if role == 'server' else call)(kind, a, port)
print('{}', flush=True)
def say():
    while True:
        time.sleep(0.01)
        with lock: text = json.dumps(counts)
        print(text, flush=True)
run(say)
sys.stdin.readline()
stop.set()
time.sleep(3600)
`;

export type StreamKind = "tcp" | "udp" | "sctp";

/** One end of all flows. */
export class StreamEnd {
  /** By \`tcp4:5001\`: messages sent, or received, at this end. */
  counts: Readonly<Record<string, number>> = {};
  readonly #process: Subprocess<"pipe", "pipe", "inherit">;
  readonly #begun = Promise.withResolvers<void>();

  constructor(
    namespace: Namespace,
    role: "server" | "client",
    ports: readonly number[],
    servers: readonly string[],
    kinds: readonly StreamKind[] = ["tcp", "udp"],
  ) {
    const args = [PROGRAM, role, ...[ports, servers, kinds].map((list) => JSON.stringify(list))];
    this.#process = Bun.spawn(["ip", "netns", "exec", namespace.name, "python3", "-c", ...args], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    void this.#listen();
  }

  /** Resolves when the sockets are there, and over TCP connected. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  async #listen(): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of this.#process.stdout) {
      rest += decoder.decode(chunk, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      const last = lines.at(-1);
      if (last === undefined) continue;
      this.counts = JSON.parse(last) as Record<string, number>;
      this.#begun.resolve();
    }
  }

  /** Sends no more. */
  rest(): void {
    this.#process.stdin.write("\n");
    void this.#process.stdin.flush();
  }

  end(): void {
    this.#process.kill("SIGKILL");
  }
}
