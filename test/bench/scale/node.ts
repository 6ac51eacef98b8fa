/** node: the node that is measured: the shipped executable, alone in its network namespace, with a real BIRD and pods of the bench's own. */
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { type Dataplane, dataplaneEnvironment } from "../../dataplane.ts";
import { CALICO, until } from "../../conformance/fixture.ts";
import { type PluginCall, type PluginRun } from "../plugin.ts";
import { LOCAL_NODE, localPod, POLICY_NAMESPACE } from "./scenario.ts";
import { NODE_ADDRESS, type Stage, WORLD_ADDRESS } from "./stage.ts";
import { wallMs } from "./clock.ts";
import type { MemberChange } from "./world.ts";

export const API_PORT = 8_080;

interface Status {
  readonly inSync: boolean;
  readonly bird: boolean;
  readonly backlog: number;
  readonly drivers: readonly { readonly name: string; readonly pending: number; readonly error?: string }[];
}

/** The API, as the rest of the cluster uses it. */
export class Cluster {
  readonly url = `http://${WORLD_ADDRESS}:${API_PORT}`;

  /** When the server did it. */
  async request(method: string, path: string, body?: object): Promise<number> {
    const response = await fetch(this.url + path, {
      method,
      headers: { "content-type": "application/json", "x-bench": "1" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${text}`);
    return Number(response.headers.get("x-bench-at"));
  }

  async changes(
    what: "addresses" | "labels" | "blocks" | "nodes",
    rate: number,
    count: number,
    blocks = false,
  ): Promise<readonly MemberChange[]> {
    const query = `rate=${rate}&count=${count}${blocks ? "&blocks=yes" : ""}`;
    const response = await fetch(`${this.url}/bench/${what}?${query}`, { timeout: false });
    if (!response.ok) throw new Error(await response.text());
    return (await response.json()) as readonly MemberChange[];
  }

  /** The address of a remote pod whose app is that. */
  async memberOf(app: number): Promise<string> {
    return (await (await fetch(`${this.url}/bench/member?app=${app}`)).json()) as string;
  }

  /** By method and kind, what the node wrote so far. */
  async writes(): Promise<Readonly<Record<string, number>>> {
    return (await (await fetch(`${this.url}/bench/writes`)).json()) as Readonly<Record<string, number>>;
  }
}

export class Node {
  readonly #stage: Stage;
  readonly #root: string;
  readonly #dataplane: Dataplane;
  #daemon: ReturnType<typeof Bun.spawn> | undefined;
  #bird: ReturnType<typeof Bun.spawn> | undefined;

  constructor(stage: Stage, dataplane: Dataplane) {
    this.#stage = stage;
    this.#dataplane = dataplane;
    this.#root = `${stage.directory}/node`;
    mkdirSync(this.#root);
    const server = `http://${WORLD_ADDRESS}:${API_PORT}`;
    writeFileSync(
      this.#kubeconfig,
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name: "bench", cluster: { server } }],
        users: [{ name: "bench", user: { token: "bench" } }],
        contexts: [{ name: "bench", context: { cluster: "bench", user: "bench" } }],
        "current-context": "bench",
      }),
    );
    const install = Bun.spawnSync([CALICO, "cni", "install", "--root", this.#root]);
    if (install.exitCode !== 0) throw new Error(install.stderr.toString());
  }

  get #kubeconfig(): string {
    return `${this.#root}/kubeconfig`;
  }

  get pid(): number {
    return this.#daemon?.pid ?? 0;
  }

  get birdPid(): number {
    return this.#bird?.pid ?? 0;
  }

  get log(): string {
    return readFileSync(`${this.#root}/calico.log`, "utf8");
  }

  /** When it was started. */
  spawn(): number {
    const log = openSync(`${this.#root}/calico.log`, "a");
    const options = [
      "--node-name",
      LOCAL_NODE,
      "--root",
      this.#root,
      "--kubeconfig",
      this.#kubeconfig,
      "--health-host",
      NODE_ADDRESS,
    ];
    const atMs = wallMs();
    this.#daemon = Bun.spawn(["nsenter", `--net=${this.#stage.netns("node")}`, "--", CALICO, "node", ...options], {
      stdin: "ignore",
      stdout: log,
      stderr: log,
      env: { ...process.env, ...dataplaneEnvironment(this.#dataplane) },
    });
    return atMs;
  }

  /** Takes all of its dataplane out of the kernel; the daemon is away. */
  clear(): void {
    this.#stage.in("node", process.execPath, `${import.meta.dir}/clear.ts`, this.#dataplane, this.#root);
  }

  /** When it was first seen to be so. */
  async inSync(): Promise<number> {
    let status: Status | undefined;
    try {
      await until(
        "the daemon to be in sync",
        async () => {
          if (this.#daemon?.exitCode !== null) throw new Error(`the daemon ended: ${this.log.slice(-2_000)}`);
          status = await this.status();
          return (
            status?.inSync === true &&
            status.drivers.every(({ pending, error }) => pending === 0 && error === undefined)
          );
        },
        120,
      );
    } catch (error) {
      throw new Error(`${String(error)}: ${JSON.stringify(status)}\n${this.log.slice(-2_000)}`, { cause: error });
    }
    return wallMs();
  }

  /** undefined: it does not answer. */
  async status(): Promise<Status | undefined> {
    try {
      return (await (await fetch(`http://${NODE_ADDRESS}:9099/readiness`)).json()) as Status;
    } catch {
      return undefined;
    }
  }

  /** Nothing is left to be written, and BIRD has its configuration. */
  async idle(): Promise<void> {
    await until(
      "the daemon to be idle",
      async () => {
        const status = await this.status();
        return status?.backlog === 0 && (status.bird || this.#bird === undefined);
      },
      120,
    );
  }

  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    this.#daemon?.kill(signal);
    await this.#daemon?.exited;
  }

  async startBird(): Promise<void> {
    const configuration = `${this.#root}/etc/calico/bird.conf`;
    await until("BIRD's configuration", () => existsSync(configuration));
    const sockets = `${this.#root}/var/run/calico`;
    const log = openSync(`${this.#root}/bird.log`, "a");
    const options = ["-f", "-R", "-c", configuration, "-s", `${sockets}/bird2.ctl`, "-P", `${sockets}/bird.pid`];
    this.#bird = Bun.spawn(["nsenter", `--net=${this.#stage.netns("node")}`, "--", "bird", ...options], {
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
    await this.idle();
  }

  /** The plugin's call for local pod i, as the container runtime makes it. */
  call(command: "ADD" | "DEL", i: number): PluginCall {
    const pod = localPod(i);
    const netns = this.#stage.netns(`p${i}`);
    return {
      command: `${this.#root}/opt/cni/bin/calico`,
      netns: this.#stage.netns("world"),
      config: {
        cniVersion: "1.0.0",
        name: "k8s-pod-network",
        type: "calico",
        daemon_socket: `${this.#root}/var/run/calico/cni.sock`,
        ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: "false" },
      },
      environment: cniEnvironment(
        command,
        `container${i}`,
        netns,
        `K8S_POD_NAMESPACE=${POLICY_NAMESPACE};K8S_POD_NAME=${pod.name}`,
      ),
    };
  }
}

export function cniEnvironment(
  command: string,
  container: string,
  netns: string,
  args: string,
): Record<string, string> {
  return {
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/usr/lib/cni",
    CNI_ARGS: `IgnoreUnknown=1;${args}`,
  };
}

/** The address that an ADD answered. */
export function addressIn({ stdout }: PluginRun): string {
  const answer = JSON.parse(stdout) as { readonly ips?: readonly { readonly address: string }[] };
  return answer.ips?.[0]?.address.split("/")[0] ?? "";
}
