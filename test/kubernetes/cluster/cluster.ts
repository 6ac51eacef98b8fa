/**
 * cluster: a whole Kubernetes on this machine, with the product as its network: made, asked, disturbed and removed.
 *
 * Start reading here. `startCluster` makes one; `attachCluster` is how a test process comes to the one that runs.
 */
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { describeProcess } from "../../processes.ts";
import { type Binaries, prepareBinaries } from "../build/binaries.ts";
import { certificateKubeconfig, makeCertificates, writeKubeconfig } from "./certificates.ts";
import { makeCgroup } from "./cgroups.ts";
import { clusterIds, ownerFile, sysctlFile } from "./clean.ts";
import { apiserver, controllerManager, etcd, scheduler } from "./control-plane.ts";
import { Daemons, type DaemonSpec } from "./daemons.ts";
import { makeFabric } from "./fabric.ts";
import { imageArchive, makeImages } from "./image.ts";
import { inNetns, type Layout, layoutOf, type NodeLayout, POOLS, PREFIX, type Wishes } from "./layout.ts";
import { bird, calicoNode, calicoReady, containerd, ctr, installPlugins, kubelet, kubeProxy } from "./node.ts";
import { ClusterError, type Output, run, tryRun, waitFor } from "./run.ts";
import { keepSysctls } from "./sysctls.ts";

const MANIFESTS = new URL("../../../manifests", import.meta.url).pathname;
/** Names the cluster that a test process works on. */
export const CLUSTER_VARIABLE = "CALICO_TEST_KUBERNETES";
/** Names all clusters of the run, separated by commas. */
export const CLUSTERS_VARIABLE = "CALICO_TEST_KUBERNETES_ALL";

export type NodeDaemon = "containerd" | "kubelet" | "kube-proxy" | "calico" | "bird";

export class Cluster {
  readonly layout: Layout;
  readonly binaries: Binaries;
  readonly daemons: Daemons;

  constructor(layout: Layout, binaries: Binaries) {
    this.layout = layout;
    this.binaries = binaries;
    this.daemons = new Daemons(layout);
  }

  node(name: string): NodeLayout {
    const found = this.layout.nodes.find((node) => node.name === name);
    if (found === undefined) throw new ClusterError(`the cluster has no node ${JSON.stringify(name)}`);
    return found;
  }

  /** kubectl as the cluster's administrator. */
  tryKubectl(args: readonly string[], input?: string): Promise<Output> {
    return tryRun(this.#kubectl(args), input);
  }

  /** Standard output of a kubectl that must succeed. */
  kubectl(args: readonly string[], input?: string): Promise<string> {
    return run(this.#kubectl(args), input);
  }

  #kubectl(args: readonly string[]): readonly string[] {
    return inNetns(this.layout.fabric, [
      "kubectl",
      `--kubeconfig=${this.layout.adminKubeconfig}`,
      `--cache-dir=${this.layout.directory}/kubectl-cache`,
      "--request-timeout=60s",
      ...args,
    ]);
  }

  /** A Namespace may have pods when this resolves. */
  async apply(...objects: readonly object[]): Promise<void> {
    await this.kubectl(["apply", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
    for (const object of objects) {
      if ("kind" in object && object.kind === "Namespace" && "metadata" in object)
        await serviceAccountReady(this, (object.metadata as { readonly name: string }).name);
    }
  }

  /** One object, or a list, as the API has it. */
  async get<T>(args: readonly string[]): Promise<T> {
    return JSON.parse(await this.kubectl(["get", "-o", "json", ...args])) as T;
  }

  /** A command in a node's network namespace. */
  nodeExec(node: string, command: readonly string[]): Promise<Output> {
    return tryRun(inNetns(this.node(node).netns, command));
  }

  /** A command inside a pod's container. */
  exec(namespace: string, pod: string, command: readonly string[]): Promise<Output> {
    return this.tryKubectl(["exec", "-n", namespace, pod, "--", ...command]);
  }

  spec(node: string, daemon: NodeDaemon): DaemonSpec {
    const at = this.node(node);
    switch (daemon) {
      case "containerd":
        return containerd(at, this.binaries);
      case "kubelet":
        return kubelet(this.layout, at, this.binaries);
      case "kube-proxy":
        return kubeProxy(this.layout, at, this.binaries);
      case "calico":
        return calicoNode(this.layout, at);
      case "bird":
        return bird(at);
      default: {
        const never: never = daemon;
        throw new ClusterError(`unknown daemon ${String(never)}`);
      }
    }
  }

  startDaemon(node: string, daemon: NodeDaemon): void {
    this.daemons.start(this.spec(node, daemon));
  }

  stopDaemon(node: string, daemon: NodeDaemon, signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    return this.daemons.stop(`${node}-${daemon}`, signal);
  }

  startApiserver(): void {
    this.daemons.start(apiserver(this.layout, this.binaries));
  }

  /** The API server answers that it is ready. */
  async apiReady(): Promise<boolean> {
    return (await this.tryKubectl(["get", "--raw", "/readyz"])).exitCode === 0;
  }

  calicoReady(node: string): Promise<boolean> {
    return calicoReady(this.node(node));
  }

  /** A new token for `calico node`, as the kubelet replaces it in a pod: the file changes, the daemon reads it again. */
  async rotateToken(seconds = 3600): Promise<void> {
    const token = await this.kubectl(["create", "token", "calico-node", "-n", "kube-system", `--duration=${seconds}s`]);
    writeFileSync(this.layout.calicoToken, token.trim(), { mode: 0o600 });
  }
}

/** The cluster that `make test-kubernetes` started. */
export async function attachCluster(): Promise<Cluster> {
  const id = process.env[CLUSTER_VARIABLE];
  if (id === undefined)
    throw new ClusterError(`no cluster: run "make test-kubernetes", which starts one and sets ${CLUSTER_VARIABLE}`);
  return new Cluster(layoutOf(id), await prepareBinaries(() => undefined));
}

/** All clusters of the run: what each asked of its API server is in its own audit log. */
export function clusterLayouts(): readonly Layout[] {
  const ids = process.env[CLUSTERS_VARIABLE];
  if (ids === undefined)
    throw new ClusterError(`no clusters: run "make test-kubernetes", which starts them and sets ${CLUSTERS_VARIABLE}`);
  return ids.split(",").map((id) => layoutOf(id));
}

/** An id that no other cluster has. */
export function newClusterId(): string {
  return `${PREFIX}${process.pid.toString(36)}${Math.floor(Math.random() * 36 ** 6).toString(36)}`;
}

/** Makes a cluster of two nodes and waits until it works. Whoever calls removes it, also when this rejects. */
export async function startCluster(
  id: string,
  binaries: Binaries,
  progress: (line: string) => void,
  wishes: Wishes = {},
): Promise<Cluster> {
  const layout = layoutOf(id, wishes);
  prepareFolders(layout);
  const cluster = new Cluster(layout, binaries);
  progress("making namespaces, certificates and images");
  await Promise.all([makeImages(layout.directory), makeCertificates(layout), makeFabric(layout)]);
  writeFileSync(layout.adminKubeconfig, await Bun.file(certificateKubeconfig(layout, "admin")).text(), { mode: 0o600 });
  progress("starting the control plane and containerd");
  cluster.daemons.start(etcd(layout, binaries));
  cluster.startApiserver();
  for (const node of layout.nodes) {
    makeCgroup(`${layout.cgroup}/${node.name}`);
    await installPlugins(node, binaries);
    cluster.startDaemon(node.name, "containerd");
  }
  await Promise.all(layout.nodes.map((node) => importImages(cluster, node)));
  await waitFor(
    "the API server to be ready",
    120,
    () => cluster.apiReady(),
    async () => cluster.daemons.tail("kube-apiserver"),
  );
  cluster.daemons.start(controllerManager(layout, binaries));
  cluster.daemons.start(scheduler(layout, binaries));
  await installProduct(cluster);
  progress("starting the nodes");
  for (const node of layout.nodes) await startNode(cluster, node.name);
  await nodesReady(cluster);
  await sessionsUp(cluster);
  await serviceAccountReady(cluster, "default");
  return cluster;
}

function prepareFolders(layout: Layout): void {
  for (const folder of [
    layout.pki,
    layout.logs,
    layout.pids,
    ...layout.nodes.flatMap((node) => [`${node.root}/var/run/calico`, `${node.root}/containerd`, node.kubeletRoot]),
  ]) {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
  }
  chmodSync(layout.directory, 0o755);
  writeFileSync(ownerFile(layout.id), describeProcess(process.pid) ?? "");
  keepSysctls(
    sysctlFile(layout.id),
    clusterIds()
      .filter((other) => other !== layout.id)
      .map(sysctlFile),
  );
}

/** Once containerd of the node answers. */
export async function importImages(
  cluster: Cluster,
  node: NodeLayout,
  archive = imageArchive(cluster.layout.directory),
): Promise<void> {
  const command = ctr(node, cluster.binaries, "images", "import", archive);
  await waitFor(
    `containerd of ${node.name}`,
    60,
    async () => (await tryRun(ctr(node, cluster.binaries, "version"))).exitCode === 0,
    async () => cluster.daemons.tail(`${node.name}-containerd`),
  );
  await run(command);
}

/** What a user applies: definitions, roles, pools. */
async function installProduct(cluster: Cluster): Promise<void> {
  const { layout } = cluster;
  await cluster.kubectl(["apply", "--server-side", "-f", `${MANIFESTS}/crds`]);
  await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", `${MANIFESTS}/crds`]);
  await cluster.kubectl([
    "apply",
    ...["node", "controllers"].flatMap((name) => ["-f", `${MANIFESTS}/calico-${name}.yaml`]),
  ]);
  await cluster.rotateToken();
  writeKubeconfig(layout, layout.calicoKubeconfig, { tokenFile: layout.calicoToken });
  const pools = POOLS.map(({ name, cidr }) => ({
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name },
    spec: { cidr, nodeSelector: "all()" },
  }));
  await waitFor("IPPools to be served", 30, async () => (await cluster.tryKubectl(["get", "ippools"])).exitCode === 0);
  await cluster.apply(...pools);
}

/** Starts everything on a node but containerd. */
export async function startNode(cluster: Cluster, name: string): Promise<void> {
  const node = cluster.node(name);
  cluster.startDaemon(name, "kubelet");
  cluster.startDaemon(name, "calico");
  cluster.startDaemon(name, "kube-proxy");
  await waitFor(
    `the BIRD configuration of ${name}`,
    60,
    () => existsSync(node.birdConfiguration),
    async () => cluster.daemons.tail(`${name}-calico`),
  );
  cluster.startDaemon(name, "bird");
}

interface NodeObject {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
}

export async function nodesReady(cluster: Cluster): Promise<void> {
  const tails = async (): Promise<string> =>
    cluster.layout.nodes.map((node) => cluster.daemons.tail(`${node.name}-kubelet`, 8)).join("\n");
  await waitFor(
    "the nodes to be Ready",
    120,
    async () => {
      const { items } = await cluster.get<{ items: readonly NodeObject[] }>(["nodes"]);
      return cluster.layout.nodes.every(({ name }) =>
        items.some(
          (node) =>
            node.metadata.name === name &&
            node.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True"),
        ),
      );
    },
    tails,
  );
  for (const { name } of cluster.layout.nodes)
    await waitFor(
      `calico node of ${name} to be ready`,
      60,
      () => cluster.calicoReady(name),
      async () => cluster.daemons.tail(`${name}-calico`),
    );
}

/** Every BGP session is established, as BIRD itself says. */
export async function sessionsUp(cluster: Cluster): Promise<void> {
  for (const node of cluster.layout.nodes) {
    await waitFor(
      `the BGP sessions of ${node.name}`,
      60,
      async () => {
        const { exitCode, stdout } = await tryRun(["birdc", "-s", node.birdSocket, "show", "protocols"]);
        const sessions = stdout.split("\n").filter((line) => /\bBGP\b/.test(line));
        return (
          exitCode === 0 &&
          sessions.length >= 2 * (cluster.layout.nodes.length - 1) &&
          sessions.every((line) => line.includes("Established"))
        );
      },
      async () =>
        (await tryRun(["birdc", "-s", node.birdSocket, "show", "protocols"])).stdout +
        cluster.daemons.tail(`${node.name}-calico`),
    );
  }
}

/** The controller manager makes it a moment after the namespace; without it the API server refuses pods. */
async function serviceAccountReady(cluster: Cluster, inNamespace: string): Promise<void> {
  await waitFor(
    `the default service account of ${inNamespace}`,
    60,
    async () => (await cluster.tryKubectl(["get", "serviceaccount", "default", "-n", inNamespace])).exitCode === 0,
  );
}
