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

  /** A request as any client makes it; the answer's body. */
  async call(method: string, path: string, body?: object): Promise<unknown> {
    const { server, tls, token } = this.access;
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const text = body === undefined ? {} : { body: JSON.stringify(body) };
    return (await fetch(`${server}${path}`, { method, tls, headers, ...text })).json();
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

/** The definitions as most clusters have them: `crd.projectcalico.org/v1`, which prunes little and checks less. */
export function classicCrds(): readonly object[] {
  const open = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  return CRDS.filter(({ spec }) => spec.group === "projectcalico.org" && spec.names.kind !== "Profile").map((crd) => {
    const isSettings = crd.spec.names.kind === "IPAMConfiguration";
    const kind = isSettings ? "IPAMConfig" : crd.spec.names.kind;
    const plural = isSettings ? "ipamconfigs" : crd.spec.names.plural;
    // As upstream's, whose type is that of releases that took it for text.
    const isAffinity = kind === "BlockAffinity";
    const affinity = { ...open, required: ["deleted"], properties: { deleted: { type: "string" } } };
    const openAPIV3Schema = { type: "object", properties: { spec: isAffinity ? affinity : open, status: open } };
    return {
      apiVersion: crd.apiVersion,
      kind: crd.kind,
      metadata: { name: `${plural}.crd.projectcalico.org` },
      spec: {
        group: "crd.projectcalico.org",
        names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase() },
        scope: crd.spec.scope,
        versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema } }],
      },
    };
  });
}

export async function serveKubernetes(crds: readonly object[] = CRDS): Promise<Server> {
  const server = new Server();
  await server.start();
  const { server: url, tls, token } = server.access;
  for (const crd of crds) {
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

/** Files of one party: its certificate by the authority, and its key. */
export interface Party {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** An authority, and certificates of a server at the addresses and of a client. */
export function makeParties(
  directory: string,
  addresses: readonly string[] = ["127.0.0.1"],
): { readonly server: Party; readonly client: Party } {
  const file = (name: string): string => join(directory, name);
  const make = (name: string, extensions: readonly string[], authority?: string): Party => {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file(`${name}.key`)];
    const by = authority === undefined ? [] : ["-CA", file(`${authority}.crt`), "-CAkey", file(`${authority}.key`)];
    const more = extensions.flatMap((extension) => ["-addext", extension]);
    const request = ["openssl", "req", "-x509", ...key, "-days", "7", "-subj", `/CN=${name}`];
    const { exitCode, stderr } = Bun.spawnSync([...request, ...by, ...more, "-out", file(`${name}.crt`)]);
    if (exitCode !== 0) throw new Error(stderr.toString());
    return { ca: file("ca.crt"), cert: file(`${name}.crt`), key: file(`${name}.key`) };
  };
  make("ca", ["basicConstraints=critical,CA:TRUE"]);
  const usage = "extendedKeyUsage=clientAuth,serverAuth";
  const server = make("server", [usage, `subjectAltName=${addresses.map((each) => `IP:${each}`).join(",")}`], "ca");
  return { server, client: make("client", [usage], "ca") };
}

/** An etcd with its own data directory on free loopback ports. */
export class Etcd {
  readonly #directory = mkdtempSync(join(tmpdir(), "calico-etcd-"));
  readonly #tls: Party | undefined;
  #ports: readonly [number, number] | undefined;
  #process: ReturnType<typeof Bun.spawn> | undefined;

  /** `tls`: it serves by TLS, and asks its clients for a certificate. */
  constructor(tls?: Party) {
    this.#tls = tls;
  }

  async start(): Promise<void> {
    open.add(this);
    this.#ports ??= [await freePort(), await freePort()];
    const peer = `http://127.0.0.1:${this.#ports[1]}`;
    const tls = this.#tls;
    const secure =
      tls === undefined
        ? []
        : ["--cert-file", tls.cert, "--key-file", tls.key, "--trusted-ca-file", tls.ca, "--client-cert-auth"];
    this.#process = Bun.spawn(
      [
        // However the test ends, it ends with it.
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        "etcd",
        "--data-dir",
        this.#directory,
        "--listen-client-urls",
        this.endpoint,
        "--advertise-client-urls",
        this.endpoint,
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        `default=${peer}`,
        "--unsafe-no-fsync",
        ...secure,
      ],
      { stdout: "ignore", stderr: "ignore", env: { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch } },
    );
  }

  get port(): number {
    return this.#ports?.[0] ?? 0;
  }

  get endpoint(): string {
    return `${this.#tls === undefined ? "http" : "https"}://127.0.0.1:${this.port}`;
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
