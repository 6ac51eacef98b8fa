/**
 * kubernetes: `make bench-kubernetes`: what the start of a pod costs as a container runtime does it, `crictl runp` from start to end,
 * with our plugin and with Debian's ptp and host-local, interleaved, under containerd 1 and containerd 2.
 *
 * Each contender has a containerd of its own, alike but for the network, in the network namespace of the node, with what its
 * user would have installed: `calico cni install` on n2 brings its own `loopback`, on n1 it finds Debian's. The kubelet of the
 * node stands still meanwhile, because it would end sandboxes that it did not make.
 * Usage: bun test/bench/kubernetes.ts [NODE…]; it takes the cluster that CALICO_TEST_KUBERNETES names, or starts one.
 */
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { prepareBinaries, Unavailable } from "../kubernetes/build/binaries.ts";
import {
  attachCluster,
  type Cluster,
  CLUSTER_VARIABLE,
  newClusterId,
  startCluster,
} from "../kubernetes/cluster/cluster.ts";
import { removeAbandoned, removeCluster, removeMounted } from "../kubernetes/cluster/clean.ts";
import { containerdIn, ctrOf, type RuntimeFolders } from "../kubernetes/cluster/containerd.ts";
import { imageArchive } from "../kubernetes/cluster/image.ts";
import { inNetns, type NodeLayout } from "../kubernetes/cluster/layout.ts";
import { CALICO } from "../kubernetes/cluster/node.ts";
import { run, tryRun, waitFor } from "../kubernetes/cluster/run.ts";
import { namespace, podTemplate } from "../kubernetes/objects.ts";
import { percentile, ratio, row } from "./figures.ts";

const SANDBOXES = Number(process.env["BENCH_SANDBOXES"] ?? "40");
const AT_ONCE = 50;
const ROUNDS = 3;
const NS = "bench";

interface Contender {
  readonly title: string;
  readonly key: string;
  readonly folders: RuntimeFolders;
  /** `crictl runp`, `crictl rmp -f`, and all sandboxes at once, in milliseconds. */
  readonly runMs: number[];
  readonly removeMs: number[];
  readonly atOnceMs: number[];
}

function folderOf(node: NodeLayout, key: string): string {
  return `${node.root}/bench-${key}`;
}

function contender(node: NodeLayout, key: string, title: string): Contender {
  const root = folderOf(node, key);
  const folders = {
    containerdRoot: `${root}/root`,
    containerdState: `${root}/state`,
    containerdSocket: `${root}/containerd.sock`,
    runcRoot: `${root}/runc`,
    cniBinDir: `${root}/bin`,
    cniConfDir: `${root}/net.d`,
  };
  for (const folder of [folders.cniBinDir, folders.cniConfDir]) mkdirSync(folder, { recursive: true });
  return { title, key, folders, runMs: [], removeMs: [], atOnceMs: [] };
}

/** Ours as it is installed, for IPv4 alone (as ptp, which waits for duplicate address detection otherwise) and for both families. */
async function contenders(cluster: Cluster, node: NodeLayout): Promise<readonly Contender[]> {
  const debian = `${cluster.binaries.debian}/usr/lib/cni`;
  const ours = [contender(node, "calico", "calico"), contender(node, "dual", "calico, IPv4 and IPv6")] as const;
  for (const { folders, key } of ours) {
    if (node.containerdMajor === 1) copyFileSync(`${debian}/loopback`, `${folders.cniBinDir}/loopback`);
    const families = key === "dual" ? ["--ipv6"] : [];
    await run([
      CALICO,
      "cni",
      "install",
      "--root",
      node.root,
      "--bin-dir",
      folders.cniBinDir,
      "--conf-dir",
      folders.cniConfDir,
      "--cni-version",
      node.cniVersion,
      ...families,
    ]);
  }
  const ptp = contender(node, "ptp", "ptp + host-local");
  for (const plugin of ["loopback", "ptp", "host-local"])
    copyFileSync(`${debian}/${plugin}`, `${ptp.folders.cniBinDir}/${plugin}`);
  const ipam = { type: "host-local", subnet: "10.67.0.0/16", dataDir: `${folderOf(node, "ptp")}/ipam` };
  writeFileSync(
    `${ptp.folders.cniConfDir}/10-ptp.conflist`,
    JSON.stringify({ cniVersion: "1.0.0", name: "bench", plugins: [{ type: "ptp", ipam }] }),
  );
  return [...ours, ptp];
}

class Bench {
  readonly #cluster: Cluster;
  readonly #node: NodeLayout;
  readonly #configs: string;

  constructor(cluster: Cluster, node: NodeLayout) {
    this.#cluster = cluster;
    this.#node = node;
    this.#configs = `${node.root}/bench-sandboxes`;
  }

  async measure(): Promise<readonly Contender[]> {
    const all = await contenders(this.#cluster, this.#node);
    await this.#cluster.stopDaemon(this.#node.name, "kubelet");
    try {
      await this.#createPods();
      for (const each of all) await this.#startRuntime(each);
      // The first of each warms caches and is not counted.
      for (const each of all) await this.#one(each, 0);
      for (const each of all) each.runMs.length = each.removeMs.length = 0;
      for (let i = 0; i < SANDBOXES; i++) for (const each of all) await this.#one(each, i % AT_ONCE);
      for (let i = 0; i < ROUNDS; i++) for (const each of all) await this.#allAtOnce(each);
      return all;
    } finally {
      await this.#cleanUp(all);
      this.#cluster.startDaemon(this.#node.name, "kubelet");
    }
  }

  /** The Pods that the sandboxes belong to: our plugin wires none that the datastore does not have. */
  async #createPods(): Promise<void> {
    mkdirSync(this.#configs, { recursive: true });
    const names = Array.from({ length: AT_ONCE }, (_, i) => `${this.#node.name}-${i}`);
    const spec = { tolerations: [{ operator: "Exists" }] };
    await this.#cluster.apply(namespace(NS));
    await this.#cluster.apply(
      ...names.map((name) => ({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { namespace: NS, name, labels: { app: name } },
        spec: podTemplate({ node: this.#node.name, spec }),
      })),
    );
    names.forEach((name, i) => {
      writeFileSync(
        this.#config(i),
        JSON.stringify({
          metadata: { namespace: NS, name, uid: name, attempt: 0 },
          hostname: name,
          linux: { cgroup_parent: `${this.#node.cgroupRoot}/bench` },
        }),
      );
    });
  }

  #config(index: number): string {
    return `${this.#configs}/${index}.json`;
  }

  async #startRuntime({ key, folders }: Contender): Promise<void> {
    const { containerdMajor: major, netns, name } = this.#node;
    const { binaries, daemons, layout } = this.#cluster;
    daemons.start({ name: `${name}-bench-${key}`, ...containerdIn(netns, major, folders, binaries) });
    await waitFor(
      `containerd of ${key}`,
      60,
      async () => (await tryRun(ctrOf(major, folders, binaries, "version"))).exitCode === 0,
      async () => daemons.tail(`${name}-bench-${key}`),
    );
    await run(ctrOf(major, folders, binaries, "images", "import", imageArchive(layout.directory)));
    await waitFor(
      `the network of ${key}`,
      60,
      async () =>
        /"NetworkReady",?\s*"status":\s*true|"status":\s*true,\s*"type":\s*"NetworkReady"/.test(
          (await tryRun(this.#crictl(folders, "info"))).stdout,
        ),
      async () => (await tryRun(this.#crictl(folders, "info"))).stdout.slice(0, 2000),
    );
  }

  #crictl(folders: RuntimeFolders, ...args: readonly string[]): readonly string[] {
    return [
      this.#cluster.binaries.crictl,
      "--config",
      "/dev/null",
      "--timeout",
      "60s",
      "--runtime-endpoint",
      `unix://${folders.containerdSocket}`,
      ...args,
    ];
  }

  async #one(each: Contender, index: number): Promise<void> {
    const started = performance.now();
    const id = (await run(this.#crictl(each.folders, "runp", this.#config(index)))).trim();
    each.runMs.push(performance.now() - started);
    const removing = performance.now();
    await run(this.#crictl(each.folders, "rmp", "-f", id));
    each.removeMs.push(performance.now() - removing);
    await this.#idle();
  }

  async #allAtOnce(each: Contender): Promise<void> {
    const started = performance.now();
    const ids = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, i) => run(this.#crictl(each.folders, "runp", this.#config(i)))),
    );
    each.atOnceMs.push(performance.now() - started);
    await run(this.#crictl(each.folders, "rmp", "-f", ...ids.map((id) => id.trim())));
    await this.#idle();
  }

  /** What one leaves for later must not be paid by the next. */
  async #idle(): Promise<void> {
    await waitFor("calico node to be idle", 60, async () => {
      const { stdout } = await tryRun(
        inNetns(this.#node.netns, [
          "wget",
          "-qO-",
          "-T",
          "5",
          "-t",
          "1",
          `http://127.0.0.1:${this.#node.healthPort}/status`,
        ]),
      );
      return /"backlog":0\b/.test(stdout);
    });
  }

  async #cleanUp(all: readonly Contender[]): Promise<void> {
    for (const { key, folders } of all) {
      if (existsSync(folders.containerdSocket)) await tryRun(this.#crictl(folders, "rmp", "-f", "-a"));
      await this.#cluster.daemons.stop(`${this.#node.name}-bench-${key}`);
      await removeMounted(folderOf(this.#node, key));
    }
    await this.#cluster.kubectl(["delete", "namespace", NS, "--ignore-not-found", "--wait=false"]);
    await this.#cluster.tryKubectl(["delete", "pods", "-n", NS, "--all", "--force", "--grace-period=0"]);
    await waitFor(
      "the namespace to be gone",
      120,
      async () => (await this.#cluster.tryKubectl(["get", "namespace", NS])).exitCode !== 0,
    );
    rmSync(this.#configs, { recursive: true, force: true });
  }
}

async function benchNode(cluster: Cluster, node: NodeLayout): Promise<void> {
  console.log(`\n== crictl runp on ${node.name}, containerd ${node.containerdMajor}, CNI ${node.cniVersion}`);
  const all = await new Bench(cluster, node).measure();
  for (const { title, runMs } of all) row(`runp ${title}`, runMs, "ms");
  for (const { title, removeMs } of all) row(`rmp -f ${title}`, removeMs, "ms");
  for (const { title, atOnceMs } of all) row(`${AT_ONCE} at once, until all run, ${title}`, atOnceMs, "ms");
  const [calico, dual, ptp] = all as [Contender, Contender, Contender];
  for (const ours of [calico, dual]) {
    ratio(`runp p50, ${ours.title} : ptp`, percentile(ours.runMs, 0.5) / percentile(ptp.runMs, 0.5), "1.0 at most");
    ratio(`runp p99, ${ours.title} : ptp`, percentile(ours.runMs, 0.99) / percentile(ptp.runMs, 0.99), "1.0 at most");
    ratio(
      `${AT_ONCE} at once p50, ${ours.title} : ptp`,
      percentile(ours.atOnceMs, 0.5) / percentile(ptp.atOnceMs, 0.5),
      "1.0 at most",
    );
  }
}

async function benchAll(cluster: Cluster, names: readonly string[]): Promise<void> {
  for (const node of cluster.layout.nodes)
    if (names.length === 0 || names.includes(node.name)) await benchNode(cluster, node);
}

async function main(names: readonly string[]): Promise<void> {
  if (process.env[CLUSTER_VARIABLE] !== undefined) {
    await benchAll(await attachCluster(), names);
    return;
  }
  const binaries = await prepareBinaries(console.log);
  const id = newClusterId();
  const clean = (): Promise<void> => removeCluster(id);
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => void clean().then(() => process.exit(1)));
  try {
    await removeAbandoned(console.log);
    await benchAll(await startCluster(id, binaries, console.log), names);
  } finally {
    await clean();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  console.log(`no Kubernetes to measure: ${error.message}`);
}
