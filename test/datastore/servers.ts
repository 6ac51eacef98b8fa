/** servers: an API server (the embedded one) and a real etcd for the tests of this folder, each in its own directory. */
import { afterAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseListenAddress } from "../../lab/apiserver/listen.ts";
import { runApiServer, type RunningApiServer } from "../../lab/apiserver/server.ts";
import { type EtcdStore, openEtcdStore } from "../../src/datastore/etcd/store.ts";
import { StoreError } from "../../src/datastore/store.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openFiles } from "../../src/host/bun/files.ts";
import { openRandom } from "../../src/host/bun/random.ts";
import { openSockets } from "../../src/host/bun/sockets.ts";
import { unwrap } from "../../src/lib/result.ts";
import { CRDS } from "../../src/model/kinds/crds.ts";

export const dependencies = { clock: openClock(), files: openFiles(), random: openRandom(), sockets: openSockets() };

/** Processes that a failed test left running. */
const open = new Set<{ close(): Promise<void> }>();
afterAll(async () => {
  for (const server of open) await server.close();
});

/** Number of changes that the API server keeps for watches. */
export const HISTORY = 300;

/** An API server with our CRDs in its own directory, which can restart at the same address. */
export class Server {
  readonly #directory = mkdtempSync(join(tmpdir(), "calico-datastore-"));
  #running: RunningApiServer | undefined;
  #port = 0;

  async start(): Promise<void> {
    open.add(this);
    const listen = [unwrap(parseListenAddress(`127.0.0.1:${this.#port}`))];
    this.#running = await runApiServer({
      dataDirectory: this.#directory,
      listen,
      storageLimits: { changes: HISTORY, changeBytes: 1 << 24 },
    });
    this.#port = Number(new URL(this.access.server).port);
  }

  get access() {
    if (this.#running === undefined) throw new Error("the server is not running");
    return {
      server: this.#running.urls[0] ?? "",
      tls: { ca: this.#running.authority },
      token: this.#running.adminToken,
    };
  }

  async stop(): Promise<void> {
    await this.#running?.stop();
  }

  async close(): Promise<void> {
    open.delete(this);
    await this.stop();
    rmSync(this.#directory, { recursive: true });
  }
}

export async function serveKubernetes(): Promise<Server> {
  const server = new Server();
  await server.start();
  const { server: url, tls, token } = server.access;
  for (const crd of CRDS) {
    const response = await fetch(`${url}/apis/apiextensions.k8s.io/v1/customresourcedefinitions`, {
      method: "POST",
      tls,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(crd),
    });
    expect(response.status).toBe(201);
  }
  return server;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}

/** An etcd with its own data directory on free loopback ports. */
export class Etcd {
  readonly #directory = mkdtempSync(join(tmpdir(), "calico-etcd-"));
  #ports: readonly [number, number] | undefined;
  #process: ReturnType<typeof Bun.spawn> | undefined;

  async start(): Promise<void> {
    open.add(this);
    this.#ports ??= [await freePort(), await freePort()];
    const [client, peer] = this.#ports.map((port) => `http://127.0.0.1:${port}`) as [string, string];
    this.#process = Bun.spawn(
      [
        "etcd",
        "--data-dir",
        this.#directory,
        "--listen-client-urls",
        client,
        "--advertise-client-urls",
        client,
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        `default=${peer}`,
        "--unsafe-no-fsync",
      ],
      { stdout: "ignore", stderr: "ignore", env: { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch } },
    );
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#ports?.[0]}`;
  }

  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#process?.exited;
  }

  async close(): Promise<void> {
    open.delete(this);
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Returns when etcd answers. */
export async function answering(store: EtcdStore): Promise<void> {
  for (;;) {
    try {
      await store.list("Node");
      return;
    } catch (error) {
      if (!(error instanceof StoreError) || error.reason !== "unavailable") throw error;
      await Bun.sleep(50);
    }
  }
}

export async function serveEtcd(): Promise<{ etcd: Etcd; store: EtcdStore }> {
  const etcd = new Etcd();
  await etcd.start();
  const store = openEtcdStore({ endpoints: [etcd.endpoint] }, dependencies);
  await answering(store);
  return { etcd, store };
}
