/**
 * Established flows on a dual-stack lab: a download that policy denies after it began stalls, for a policy, a label, and a daemon that was dead meanwhile;
 * another one from the same server goes on.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Subprocess } from "bun";
import { execute, Lab, type LabPod, list, namespace, serverPod, until } from "./fixture.ts";

const lab = new Lab();
const NS = "shop";
const PORTS = [8001, 8002] as const;
/** An endless answer: some bytes a millisecond to each caller. */
const SERVER = `
import socket, sys, threading, time
def serve(one):
    one.recv(4096)
    one.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n')
    try:
        while True:
            time.sleep(0.001)
            one.sendall(b'0123456789abcdef')
    except OSError: pass
def listen(sock):
    while True: threading.Thread(target=serve, args=(sock.accept()[0],), daemon=True).start()
for port in sys.argv[1:]:
    sock = socket.create_server(('::', int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=listen, args=(sock,), daemon=True).start()
time.sleep(3600)
`;

let client: LabPod;
let server: LabPod;
const processes: Subprocess[] = [];

beforeAll(async () => {
  await lab.up("--dual-stack");
  const pod = (name: string, node: string): object => serverPod(NS, name, { app: name }, 80, { nodeName: node });
  await lab.apply(list(namespace(NS), pod("client", "n1"), pod("server", "n2")));
  [client, server] = (await lab.pods(NS, "client", "server")) as [LabPod, LabPod];
  const command = ["nsenter", `--net=${server.netns}`, "--", "python3", "-c", SERVER, ...PORTS.map(String)];
  processes.push(Bun.spawn(command, { stdin: "ignore", stdout: "ignore" }));
  for (const address of server.addresses)
    for (const port of PORTS)
      await until(`${address} to answer at ${port}`, async () => {
        const connect = ["timeout", "2", "bash", "-c", `exec 3<>/dev/tcp/${address}/${port}`];
        return (await lab.inPod(client, ...connect)).exitCode === 0;
      });
}, 180_000);

afterAll(async () => {
  for (const process of processes) process.kill("SIGKILL");
  await lab.down();
}, 60_000);

class Download {
  bytes = 0;
  readonly #process: Subprocess<"ignore", "pipe", "ignore">;

  constructor(address: string, port: number) {
    const host = address.includes(":") ? `[${address}]` : address;
    const wget = ["wget", "-q", "-t", "1", "-T", "60", "-O", "-", `http://${host}:${port}/`];
    this.#process = Bun.spawn(["nsenter", `--net=${client.netns}`, "--", ...wget], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
    });
    processes.push(this.#process);
    void this.#count();
  }

  async #count(): Promise<void> {
    for await (const chunk of this.#process.stdout) this.bytes += chunk.length;
  }

  end(): void {
    this.#process.kill("SIGKILL");
  }
}

function policy(...ports: readonly number[]): object {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { name: "downloads", namespace: NS },
    spec: {
      selector: "app == 'server'",
      types: ["Ingress"],
      ingress: [
        { action: "Allow", protocol: "TCP", destination: { ports } },
        { action: "Allow", protocol: "TCP", source: { selector: "friend == 'yes'" } },
      ],
    },
  };
}

interface Downloads {
  readonly denied: readonly Download[];
  readonly others: readonly Download[];
}

async function withDownloads(run: (downloads: Downloads) => Promise<void>): Promise<void> {
  const of = (port: number): Download[] => server.addresses.map((address) => new Download(address, port));
  const [denied, others] = [of(PORTS[0]), of(PORTS[1])];
  const all = [...denied, ...others];
  try {
    await until("all downloads to run", () => Promise.resolve(all.every(({ bytes }) => bytes > 1000)));
    await run({ denied, others });
  } finally {
    for (const each of all) each.end();
    await lab.must("delete", "networkpolicies.projectcalico.org", "-n", NS, "downloads", "--ignore-not-found");
  }
}

/** Nothing arrives for a second, while the others go on. */
async function expectStalled({ denied, others }: Downloads): Promise<void> {
  const sum = (downloads: readonly Download[]): number => downloads.reduce((all, { bytes }) => all + bytes, 0);
  let before = -1;
  await until("the denied downloads to stall", async () => {
    before = sum(denied);
    await Bun.sleep(1000);
    return sum(denied) === before;
  });
  const ongoing = others.map(({ bytes }) => bytes);
  await until("the others to go on", () =>
    Promise.resolve(others.every(({ bytes }, i) => bytes > (ongoing[i] ?? 0) + 1000)),
  );
  expect(sum(denied)).toBe(before);
}

test(
  "a policy that comes",
  () =>
    withDownloads(async (downloads) => {
      await lab.apply(list(policy(PORTS[1])));
      await expectStalled(downloads);
    }),
  60_000,
);

test(
  "a label of the peer that goes",
  () =>
    withDownloads(async (downloads) => {
      await lab.must("label", "pod", "-n", NS, "client", "friend=yes");
      await lab.apply(list(policy(PORTS[1])));
      const before = downloads.denied.map(({ bytes }) => bytes);
      await until("the downloads to go on", () =>
        Promise.resolve(downloads.denied.every(({ bytes }, i) => bytes > (before[i] ?? 0) + 1000)),
      );
      await lab.must("label", "pod", "-n", NS, "client", "friend-");
      await expectStalled(downloads);
    }),
  60_000,
);

test(
  "a daemon that is dead when the policy comes",
  () =>
    withDownloads(async (downloads) => {
      const node = await lab.node("n2");
      await execute(["kill", "-STOP", `${node.pid}`]);
      await lab.apply(list(policy(PORTS[1])));
      const before = downloads.denied.map(({ bytes }) => bytes);
      await until("the downloads to go on", () =>
        Promise.resolve(downloads.denied.every(({ bytes }, i) => bytes > (before[i] ?? 0) + 1000)),
      );
      await execute(["kill", "-KILL", `${node.pid}`]);
      await expectStalled(downloads);
    }),
  60_000,
);
