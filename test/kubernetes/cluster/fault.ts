/**
 * fault: a kube-apiserver that is slow, busy, broken or partly down, for the `calico node` of one node; all other clients use the real one.
 *
 * `fault-proxy.ts` is between them; this file starts and controls it, and reads its log of requests.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { issued, writeKubeconfig } from "./certificates.ts";
import type { Cluster } from "./cluster.ts";
import { API_ADDRESS, API_PORT, inNetns } from "./layout.ts";
import { waitFor } from "./run.ts";

/** What the proxy does to requests that come, and to watches that are open. All but those marked (*) cut open watches when they begin. */
export type Fault =
  /** (*) Passes everything. */
  | { readonly kind: "none" }
  /** Each answer begins so much later. */
  | { readonly kind: "slow"; readonly seconds: number }
  /** Each request is answered with a Status, these in turn. */
  | { readonly kind: "refuse"; readonly with: readonly [Refusal, ...Refusal[]] }
  /** Each watch is cut a tenth of a second after it began. */
  | { readonly kind: "cut" }
  /** (*) Watches stay open and say nothing; what they had to say comes when the fault ends. */
  | { readonly kind: "silent" }
  /** (*) The watches that are open now never say anything again, and do not end; new ones are whole. */
  | { readonly kind: "stalled" }
  /** (*) Bookmarks are withheld. */
  | { readonly kind: "no-bookmarks" }
  /** (*) The second page of each list is gone (410). */
  | { readonly kind: "expired-pages" }
  /** Each watch ends at once with an ERROR event 410. */
  | { readonly kind: "expired-watch" }
  /** Each connection is closed after the headers of the answer. */
  | { readonly kind: "headers-only" }
  /** Each request is answered with a web page and 200. */
  | { readonly kind: "html" }
  /** Each answer ends in the middle of a line. */
  | { readonly kind: "half-line" };

export interface Refusal {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly retryAfterSeconds?: number;
  readonly causes?: readonly { readonly reason: string; readonly message: string }[];
}

export interface Asked {
  /** Of a monotonic clock. */
  readonly atMs: number;
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** It came before a `Retry-After` was over. */
  readonly disobeys: boolean;
}

export interface ProxyConfig {
  readonly port: number;
  readonly certificate: string;
  readonly key: string;
  readonly upstream: string;
  readonly ca: string;
  /** Unix socket on which the fault is set and the account is read. */
  readonly control: string;
}

/** What the proxy has seen since the fault began. */
export interface Account {
  readonly nowMs: number;
  /** Watches that are open. */
  readonly watches: number;
  readonly asked: readonly Asked[];
}

const PORT = API_PORT + 1;
const PROXY = "fault-proxy";

export class FaultyApi {
  readonly #cluster: Cluster;
  readonly #node: string;

  constructor(cluster: Cluster, node: string) {
    this.#cluster = cluster;
    this.#node = node;
  }

  get #control(): string {
    return `${this.#cluster.layout.directory}/${PROXY}.sock`;
  }

  get #kubeconfig(): string {
    return `${this.#cluster.layout.directory}/${PROXY}.kubeconfig`;
  }

  /** Starts the proxy, and the node's `calico node` anew with a kubeconfig that leads there. */
  async start(): Promise<void> {
    const { layout, daemons } = this.#cluster;
    const { certificate, key } = issued(layout, "apiserver");
    const upstream = `https://${API_ADDRESS}:${API_PORT}`;
    const config: ProxyConfig = {
      port: PORT,
      certificate,
      key,
      upstream,
      ca: issued(layout, "ca").certificate,
      control: this.#control,
    };
    const path = `${layout.directory}/${PROXY}.json`;
    rmSync(this.#control, { force: true });
    writeFileSync(path, JSON.stringify(config));
    writeKubeconfig(layout, this.#kubeconfig, { tokenFile: layout.calicoToken }, PORT);
    const program = new URL("./fault-proxy.ts", import.meta.url).pathname;
    daemons.start({ name: PROXY, command: inNetns(layout.fabric, [process.execPath, program, path]) });
    await waitFor(
      "the proxy of the API server",
      60,
      () => existsSync(this.#control),
      async () => daemons.tail(PROXY),
    );
    await this.restartNode();
    await this.#ready();
  }

  /** Ends and starts the node's `calico node`; does not wait until it is ready. */
  async restartNode(): Promise<void> {
    await this.#cluster.stopDaemon(this.#node, "calico");
    const spec = this.#cluster.spec(this.#node, "calico");
    this.#cluster.daemons.start({
      ...spec,
      command: spec.command.map((arg) => (arg === this.#cluster.layout.calicoKubeconfig ? this.#kubeconfig : arg)),
    });
  }

  /** Ends the proxy; the node's `calico node` talks to the real server again. */
  async stop(): Promise<void> {
    await this.#cluster.stopDaemon(this.#node, "calico");
    await this.#cluster.daemons.stop(PROXY, "SIGKILL");
    this.#cluster.startDaemon(this.#node, "calico");
    await this.#ready();
  }

  /** Ends the present fault and begins this one. */
  async make(fault: Fault): Promise<void> {
    await fetch("http://proxy/", { unix: this.#control, method: "PUT", body: JSON.stringify(fault) });
  }

  async account(): Promise<Account> {
    const response = await fetch("http://proxy/", { unix: this.#control });
    return (await response.json()) as Account;
  }

  #ready(): Promise<void> {
    return waitFor(
      `calico node of ${this.#node} to be ready`,
      60,
      () => this.#cluster.calicoReady(this.#node),
      async () => this.#cluster.daemons.tail(`${this.#node}-calico`),
    );
  }
}
