/**
 * bare-node: one more node on a lab's fabric, without a kubelet: a namespace with a `calico node` in it. The test itself is the
 * container runtime of its pods, and the supervisor of its daemon.
 */
import { mkdirSync, rmSync, openSync } from "node:fs";
import { dataplaneEnvironment } from "../dataplane.ts";
import { CALICO, DATAPLANE, execute, type Lab, type LabNode, list, MEMORY, unmountBelow, until } from "./fixture.ts";

const ADDRESS4 = "172.30.0.200";
const ADDRESS6 = "fd00:30::200";

export class BareNode {
  readonly name = "bare";
  /** In memory, as /var/run is on a host of its own. */
  readonly root: string;
  readonly cniBinDir: string;
  readonly socket: string;
  readonly journal: string;
  readonly #lab: Lab;
  readonly #netns: string;
  /** Of the daemon, beside what it is told here. */
  environment: Readonly<Record<string, string>> = {};
  #daemon: ReturnType<typeof Bun.spawn> | undefined;

  constructor(lab: Lab) {
    this.#lab = lab;
    this.#netns = `${lab.name}-bare`;
    this.root = `${MEMORY}/${lab.name}-bare`;
    this.cniBinDir = `${this.root}/opt/cni/bin`;
    this.socket = `${this.root}/var/run/calico/cni.sock`;
    this.journal = `${this.root}/var/run/calico/cni`;
  }

  get path(): string {
    return `/run/netns/${this.#netns}`;
  }

  /** As much of a lab's node as the fixture's helpers ask for. */
  get asNode(): LabNode {
    return {
      name: this.name,
      netns: this.path,
      addresses: [ADDRESS4, ADDRESS6],
      pid: this.#daemon?.pid ?? 0,
      birdPid: 0,
      restarts: 0,
      root: this.root,
      cniBinDir: this.cniBinDir,
      birdSocket: "",
    };
  }

  async up(): Promise<void> {
    await this.make();
    await this.start();
  }

  /** All but the daemon. */
  async make(): Promise<void> {
    const { fabric } = await this.#lab.status();
    const fabricName = fabric.netns.slice(fabric.netns.lastIndexOf("/") + 1);
    const must = async (...command: readonly string[]): Promise<void> => {
      const { exitCode, stderr } = await execute(command);
      if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
    };
    mkdirSync(this.root);
    await must("ip", "netns", "add", this.#netns);
    await must("ip", "-n", this.#netns, "link", "set", "lo", "up");
    await must(
      "ip",
      "-n",
      fabricName,
      "link",
      "add",
      "port-bare",
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      this.#netns,
    );
    await must("ip", "-n", fabricName, "link", "set", "port-bare", "master", fabric.bridge, "up");
    await must("ip", "-n", this.#netns, "link", "set", "eth0", "up");
    await must("ip", "-n", this.#netns, "addr", "add", `${ADDRESS4}/24`, "dev", "eth0");
    await must("ip", "-n", this.#netns, "addr", "add", `${ADDRESS6}/64`, "dev", "eth0", "nodad");
    await must(
      CALICO,
      "cni",
      "install",
      "--root",
      this.root,
      "--bin-dir",
      this.cniBinDir,
      "--conf-dir",
      `${this.root}/etc/cni/net.d`,
      "--ipv6",
    );
    await this.#lab.apply(list({ apiVersion: "v1", kind: "Node", metadata: { name: this.name } }));
  }

  /** Starts the daemon and waits until it is in sync. */
  async start(): Promise<void> {
    const log = openSync(`${this.root}/calico.log`, "a");
    const kubeconfig = this.#lab.kubeconfig.replace(/kubeconfig$/, "node-kubeconfig");
    this.#daemon = Bun.spawn(
      [
        "nsenter",
        `--net=${this.path}`,
        "--",
        CALICO,
        "node",
        "--node-name",
        this.name,
        "--root",
        this.root,
        "--kubeconfig",
        kubeconfig,
      ],
      {
        stdin: "ignore",
        stdout: log,
        stderr: log,
        env: { ...process.env, ...dataplaneEnvironment(DATAPLANE), ...this.environment },
      },
    );
    await until(
      "the daemon to be in sync",
      async () => (await this.#lab.daemon(this.asNode).catch(() => undefined))?.inSync === true,
    );
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.#daemon?.kill("SIGKILL");
    await this.#daemon?.exited;
  }

  async down(): Promise<void> {
    await this.kill();
    await execute(["ip", "netns", "del", this.#netns]);
    await unmountBelow(this.root);
    rmSync(this.root, { recursive: true, force: true });
  }
}
