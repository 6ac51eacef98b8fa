/** fixture: one lab of the shipped executables for a file of tests, and the hands to use it: kubectl, calico, processes in pods. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { randomBytes } from "node:crypto";
import { type Dataplane, DATAPLANE_SPECS, givenDataplane } from "../dataplane.ts";
import { describeProcess } from "../processes.ts";

export const REPOSITORY = resolve(import.meta.dir, "../..");
export const CALICO = `${REPOSITORY}/bin/calico`;
export const CALICO_LAB = `${REPOSITORY}/bin/calico-lab`;
export const CALICOCTL = `${REPOSITORY}/bin/calicoctl`;

/** `embedded`, or `kubernetes` for the same tests on Kubernetes' own API server, whose programs must then be on PATH. */
export const LAB_API = process.env["CALICO_LAB_API"] ?? "embedded";

/** What the nodes of labs program policy by. */
export const DATAPLANE: Dataplane = givenDataplane() ?? "nftables";

export interface Output {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface LabPod {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly netns: string;
  readonly interface: string;
  readonly addresses: readonly string[];
}

export interface LabNode {
  readonly name: string;
  readonly netns: string;
  readonly addresses: readonly string[];
  readonly pid: number;
  readonly birdPid: number;
  readonly restarts: number;
  readonly root: string;
  readonly cniBinDir: string;
  readonly birdSocket: string;
}

export interface LabStatus {
  readonly kubeconfig: string;
  readonly apiPid: number;
  readonly controllersPid: number;
  readonly supervisor: { readonly pid: number };
  readonly fabric: { readonly netns: string; readonly bridge: string };
  readonly nodes: readonly LabNode[];
  readonly pods: readonly LabPod[];
}

export async function execute(
  command: readonly string[],
  options: { input?: string; env?: Record<string, string> } = {},
): Promise<Output> {
  const child = Bun.spawn([...command], {
    cwd: REPOSITORY,
    stdin: options.input === undefined ? "ignore" : Buffer.from(options.input),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...options.env },
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

/** Polls until the answer is not undefined or false. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  seconds = 45,
): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const asked = performance.now();
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > end) throw new Error(`waited ${seconds} s in vain for ${what}`);
    // Asking takes no more than half of the time: others need the processor for what is waited for.
    await Bun.sleep(Math.max(30, performance.now() - asked));
  }
}

/** Files in memory; what a test keeps there of a lab has a name that begins with the lab's. */
export const MEMORY = "/dev/shm";

/** A file for each lab of a test run, with the run's process and when it started, so that what a killed run leaves is known. */
const OWNERS = "/run/calico-test-labs";

async function removeAbandoned(): Promise<void> {
  for (const name of existsSync(OWNERS) ? readdirSync(OWNERS) : []) {
    // Empty: written, or removed by another run, at this moment.
    const owner = await Bun.file(`${OWNERS}/${name}`)
      .text()
      .catch(() => "");
    if (owner === "" || describeProcess(Number.parseInt(owner, 10)) === owner) continue;
    await execute([CALICO_LAB, "down", "--name", name]);
    await removeExtras(name);
    rmSync(`${OWNERS}/${name}`, { force: true });
  }
}

/** What tests add to a lab under names that begin with the lab's: namespaces with their processes, files in memory. */
async function removeExtras(lab: string): Promise<void> {
  for (const netns of (existsSync("/run/netns") ? readdirSync("/run/netns") : []).filter((name) =>
    name.startsWith(`${lab}-`),
  )) {
    const { stdout } = await execute(["ip", "netns", "pids", netns]);
    for (const pid of stdout.split("\n").filter((line) => line !== "")) await execute(["kill", "-9", pid]);
    await execute(["ip", "netns", "del", netns]);
  }
  for (const name of readdirSync(MEMORY).filter((file) => file.startsWith(`${lab}-`))) {
    await unmountBelow(`${MEMORY}/${name}`);
    rmSync(`${MEMORY}/${name}`, { recursive: true, force: true });
  }
}

/** Unmounts the file systems below the directory. */
export async function unmountBelow(directory: string): Promise<void> {
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, path = ""] = line.split(" ");
    if (path.startsWith(`${directory}/`)) await execute(["umount", path]);
  }
}

/** A name for what a file of tests makes; what a killed run has left under such a name is removed. */
export async function claimName(name = `t${process.pid % 10_000}-${randomBytes(3).toString("hex")}`): Promise<string> {
  await removeAbandoned();
  mkdirSync(OWNERS, { recursive: true });
  writeFileSync(`${OWNERS}/${name}`, describeProcess(process.pid) ?? "");
  return name;
}

/** Removes what was made under the name. */
export async function releaseName(name: string): Promise<void> {
  await removeExtras(name);
  rmSync(`${OWNERS}/${name}`, { force: true });
}

export class Lab {
  readonly name = `t${process.pid % 10_000}-${randomBytes(3).toString("hex")}`;
  readonly #dataplane: Dataplane;
  #kubeconfig = "";

  constructor(dataplane = DATAPLANE) {
    this.#dataplane = dataplane;
  }

  async up(...flags: readonly string[]): Promise<void> {
    await claimName(this.name);
    const { exitCode, stderr, stdout } = await execute([
      CALICO_LAB,
      "up",
      "--name",
      this.name,
      "--api",
      LAB_API,
      ...flags,
    ]);
    if (exitCode !== 0) throw new Error(`lab up failed: ${stderr}${stdout}`);
    this.#kubeconfig = (await this.status()).kubeconfig;
    if (this.#dataplane !== "nftables") await this.#choose(this.#dataplane);
  }

  /** By objects of the nodes: a test may have its own for all. */
  async #choose(dataplane: Dataplane): Promise<void> {
    const { nodes } = await this.status();
    const configuration = ({ name }: LabNode): object => ({
      apiVersion: "projectcalico.org/v3",
      kind: "FelixConfiguration",
      metadata: { name: `node.${name}` },
      spec: DATAPLANE_SPECS[dataplane],
    });
    // The kind may not be served yet.
    for (const node of nodes)
      await until(`the dataplane of ${node.name} to be chosen`, () =>
        this.apply(list(configuration(node))).then(
          () => true,
          () => false,
        ),
      );
    for (const node of nodes)
      await until(`${node.name} to run ${dataplane}`, async () =>
        (await this.daemon(node)).drivers.some(({ name, pending }) => name === dataplane && pending === 0),
      );
  }

  async down(): Promise<void> {
    await execute([CALICO_LAB, "down", "--name", this.name]);
    rmSync(`${OWNERS}/${this.name}`, { force: true });
  }

  get kubeconfig(): string {
    return this.#kubeconfig;
  }

  async status(): Promise<LabStatus> {
    const { stdout, stderr } = await execute([CALICO_LAB, "status", "--name", this.name, "-o", "json"]);
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout) as LabStatus;
  }

  kubectl(...args: readonly string[]): Promise<Output> {
    return execute(["kubectl", ...args], { env: { KUBECONFIG: this.#kubeconfig } });
  }

  /** Applies YAML or JSON text; throws when kubectl refuses. */
  async apply(text: string): Promise<void> {
    const { exitCode, stderr } = await execute(["kubectl", "apply", "-f", "-"], {
      input: text,
      env: { KUBECONFIG: this.#kubeconfig },
    });
    if (exitCode !== 0) throw new Error(stderr);
  }

  async must(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.kubectl(...args);
    if (exitCode !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  async node(name: string): Promise<LabNode> {
    const node = (await this.status()).nodes.find((entry) => entry.name === name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  /** Waits until the pods are wired, and answers them in that order. */
  async pods(namespace: string, ...names: readonly string[]): Promise<LabPod[]> {
    await this.must(
      "wait",
      "-n",
      namespace,
      "--for=condition=Ready",
      "--timeout=60s",
      ...names.map((name) => `pod/${name}`),
    );
    const { pods } = await this.status();
    return names.map((name) => {
      const pod = pods.find((entry) => entry.namespace === namespace && entry.name === name);
      if (pod === undefined) throw new Error(`pod ${namespace}/${name} is not in the lab's status`);
      return pod;
    });
  }

  inPod(pod: LabPod, ...command: readonly string[]): Promise<Output> {
    return execute(["nsenter", `--net=${pod.netns}`, "--", ...command]);
  }

  inNode(node: LabNode, ...command: readonly string[]): Promise<Output> {
    return execute(["nsenter", `--net=${node.netns}`, "--", ...command]);
  }

  /** The daemon's own account of itself. */
  async daemon(node: LabNode): Promise<{
    inSync: boolean;
    commits: number;
    backlog: number;
    drivers: { name: string; writes: number; pending: number; error?: string }[];
  }> {
    const { stdout } = await this.inNode(node, "wget", "-qO-", "-T", "5", "-t", "1", "http://127.0.0.1:9099/status");
    return JSON.parse(stdout) as Awaited<ReturnType<Lab["daemon"]>>;
  }

  /** True when a TCP connection to the address and port is accepted. */
  async connects(from: LabPod, address: string, port: number): Promise<boolean> {
    const host = address.includes(":") ? `[${address}]` : address;
    const { exitCode } = await this.inPod(
      from,
      "wget",
      "-q",
      "-T",
      "1",
      "-t",
      "1",
      "-O",
      "/dev/null",
      `http://${host}:${port}/Apache-2.0`,
    );
    return exitCode === 0;
  }
}

/** A Pod that serves files by HTTP on the port. */
export function serverPod(
  namespace: string,
  name: string,
  labels: Record<string, string>,
  port = 80,
  extra: object = {},
): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels },
    spec: {
      containers: [
        {
          name: "main",
          image: "none",
          command: ["busybox", "httpd", "-f", "-p", `[::]:${port}`, "-h", "/usr/share/common-licenses"],
          ports: [{ name: "http", containerPort: port }],
        },
      ],
      ...extra,
    },
  };
}

export function list(...items: readonly object[]): string {
  return JSON.stringify({ apiVersion: "v1", kind: "List", items });
}

export function namespace(name: string, labels: Record<string, string> = {}): object {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}
