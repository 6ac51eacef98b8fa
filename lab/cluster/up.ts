/** up: creates a lab and waits until it works: namespaces, supervisor, API, pools, nodes, BIRD sessions. Idempotent. */
import { existsSync, mkdirSync, openSync, closeSync, rmSync } from "node:fs";
import { CRDS } from "../../src/model/kinds/crds.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { LabApi } from "./api.ts";
import { killCgroup, spawnIn } from "./cgroup.ts";
import { checkPrograms, controlPlane, prepareControlPlane } from "./control-plane.ts";
import { identify, isAlive, prepareDirectories, type ProcessId } from "./daemon.ts";
import { makeFabric, missingNamespaces } from "./fabric.ts";
import { readJson, replaceFile } from "./files.ts";
import { checkHostPrograms, createHostObjects, hostProblems, writeCalicoctlConfig } from "./hosts.ts";
import { type LabConfig, type Layout, layoutOf, netnsPath, type NodeLayout } from "./layout.ts";
import { forgetPod, loadPods } from "./pod-state.ts";
import { CommandError, run, tryRun, waitFor } from "./run.ts";
import { labExecutable, nodeExecutable } from "./executables.ts";

function configFile(layout: Layout): string {
  return `${layout.directory}/lab.json`;
}

/** The lab's configuration, if the lab exists. */
export function readConfig(name: string): LabConfig | undefined {
  return readJson<LabConfig>(
    configFile(layoutOf({ name, nodes: 0, ipv4: true, ipv6: false, pools: [], api: "embedded" })),
  );
}

/** Creates the lab, or restores what was removed from it. */
export async function up(wanted: LabConfig, progress: (text: string) => void): Promise<Layout> {
  const existing = readConfig(wanted.name);
  if (existing !== undefined && JSON.stringify(existing) !== JSON.stringify(wanted)) {
    throw new CommandError(
      `lab ${wanted.name} exists with other settings (${describe(existing)}): run "calico-lab down --name ${wanted.name}" first, or give it another --name`,
    );
  }
  nodeExecutable();
  if (wanted.api === "kubernetes") checkPrograms();
  if (wanted.datastore === "etcd") checkHostPrograms();
  const layout = layoutOf(wanted);
  prepareDirectories(layout.directory, layout.logs, layout.pids, layout.podsDirectory, layout.apiDirectory);
  replaceFile(configFile(layout), JSON.stringify(wanted));
  if (existing !== undefined) await endWhatLostItsPlace(layout, progress);
  progress(`making ${wanted.nodes} nodes on one fabric`);
  makeFabric(layout);
  if (wanted.datastore === "etcd") {
    for (const node of layout.nodes) mkdirSync(`${node.root}/var/run/calico`, { recursive: true });
    writeCalicoctlConfig(layout);
    startSupervisor(layout);
    progress("starting etcd");
    await createHostObjects(layout);
    progress("waiting for the hosts and their machines");
    await waitFor(`the hosts; see ${layout.logs}`, 60, () => hostProblems(layout).length === 0);
    await waitForSessions(layout, progress);
    return layout;
  }
  for (const node of layout.nodes) installPlugins(layout, node);
  prepareControlPlane(layout);
  startSupervisor(layout);
  progress("starting the API");
  await waitFor(
    `the API of lab ${wanted.name}; see ${layout.logs}/api.log`,
    30,
    () => existsSync(layout.kubeconfig) && existsSync(layout.nodeKubeconfig),
  );
  const api = new LabApi(layout.kubeconfig);
  await waitFor(`the API of lab ${wanted.name}; see ${layout.logs}/api.log`, 60, () => api.ready());
  await createObjects(layout, api);
  if (existing !== undefined && (await missingNodes(layout, api)).length > 0) {
    // Kubelets register their nodes when they start.
    await stopSupervisor(layout);
    startSupervisor(layout);
  }
  progress("waiting for the nodes to be ready");
  await waitFor(
    `the nodes to be ready; see ${layout.logs}`,
    60,
    async () => (await unreadyNodes(layout, api)).length === 0,
  );
  await waitForSessions(layout, progress);
  return layout;
}

async function waitForSessions(layout: Layout, progress: (text: string) => void): Promise<void> {
  if (layout.nodes.length < 2) return;
  progress("waiting for BGP sessions between the nodes");
  await waitFor("BGP sessions between the nodes; see bird.log in " + layout.logs, 60, () =>
    layout.nodes.every((node) => sessionsUp(layout, node)),
  );
}

/**
 * Ends processes whose network namespace or kubeconfig was removed, so that they restart with the new ones. A node without its namespace is
 * a lost machine: its pod state is dropped, and its pods start again.
 */
async function endWhatLostItsPlace(layout: Layout, progress: (text: string) => void): Promise<void> {
  const fabricIsLost = !existsSync(netnsPath(layout.fabricNetns));
  const isOnEtcd = layout.config.datastore !== undefined;
  const apiIsLost =
    fabricIsLost || (!isOnEtcd && (!existsSync(layout.kubeconfig) || !existsSync(layout.nodeKubeconfig)));
  const lost = missingNamespaces(layout);
  if (!apiIsLost && lost.length === 0) return;
  await stopSupervisor(layout);
  for (const { name, cgroup } of apiIsLost ? controlPlane(layout) : []) {
    progress(`starting ${name} again`);
    await killCgroup(cgroup);
  }
  for (const node of lost) {
    progress(`making node ${node.name} anew`);
    await killCgroup(`${layout.cgroup}/${node.name}`);
    rmSync(`${node.root}/var/run/calico`, { recursive: true, force: true });
    for (const { node: at, netns, sandbox } of loadPods(layout.podsDirectory)) {
      if (at !== node.name) continue;
      tryRun(["ip", "netns", "del", netns]);
      forgetPod(layout.podsDirectory, sandbox.uid);
    }
  }
}

function describe(config: LabConfig): string {
  return `${config.nodes} nodes, ${config.ipv4 ? (config.ipv6 ? "dual-stack" : "IPv4") : "IPv6"}, pools ${config.pools.join(" ")}${config.api === "kubernetes" ? ", Kubernetes' own API" : ""}${config.datastore === "etcd" ? ", etcd without Kubernetes" : ""}`;
}

function installPlugins(layout: Layout, node: NodeLayout): void {
  const families = [...(layout.config.ipv6 ? ["--ipv6"] : []), ...(layout.config.ipv4 ? [] : ["--no-ipv4"])];
  run([
    nodeExecutable(),
    "cni",
    "install",
    "--root",
    node.root,
    "--bin-dir",
    node.cniBinDir,
    "--conf-dir",
    node.cniConfDir,
    ...families,
  ]);
  mkdirSync(`${node.root}/var/run/calico`, { recursive: true });
}

function supervisorFile(layout: Layout): string {
  return `${layout.directory}/supervisor.json`;
}

export function runningSupervisor(layout: Layout): ProcessId | undefined {
  const id = readJson<ProcessId>(supervisorFile(layout));
  return id !== undefined && isAlive(id) ? id : undefined;
}

/** The lab's other processes continue: the next supervisor adopts them. */
async function stopSupervisor(layout: Layout): Promise<void> {
  const id = runningSupervisor(layout);
  if (id === undefined) return;
  process.kill(id.pid, "SIGKILL");
  await waitFor("the supervisor to end", 10, () => !isAlive(id));
}

function startSupervisor(layout: Layout): void {
  if (runningSupervisor(layout) !== undefined) return;
  const log = openSync(`${layout.logs}/supervisor.log`, "a", 0o644);
  try {
    const child = spawnIn(`${layout.cgroup}/supervisor`, () =>
      Bun.spawn([labExecutable(), "supervise", "--name", layout.config.name], {
        stdin: "ignore",
        stdout: log,
        stderr: log,
        detached: true,
        cwd: "/",
      }),
    );
    child.unref();
    const id = identify(child.pid);
    if (id === undefined) throw new CommandError(`the supervisor ended at once; see ${layout.logs}/supervisor.log`);
    replaceFile(supervisorFile(layout), JSON.stringify(id));
  } finally {
    closeSync(log);
  }
}

async function createObjects(layout: Layout, api: LabApi): Promise<void> {
  for (const crd of CRDS) await api.ensure("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd);
  for (const [i, cidr] of layout.config.pools.entries()) {
    const family = parseAddr(cidr.slice(0, cidr.indexOf("/")));
    const name = `default-ipv${family.ok && family.value.includes(":") ? 6 : 4}-ippool${i > 1 ? `-${i}` : ""}`;
    const pool = {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name },
      spec: { cidr, nodeSelector: "all()" },
    };
    await waitFor("the IPPool kind to be served", 10, async () => {
      try {
        await api.ensure("/apis/projectcalico.org/v3/ippools", pool);
        return true;
      } catch (error) {
        if (error instanceof Error && "status" in error && error.status === 404) return false;
        throw error;
      }
    });
  }
}

interface NodeObject {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
}

async function nodeObjects(api: LabApi): Promise<ReadonlyMap<string, NodeObject>> {
  const { items } = await api.request<{ items: readonly NodeObject[] }>("GET", "/api/v1/nodes");
  return new Map(items.map((node) => [node.metadata.name, node]));
}

async function missingNodes(layout: Layout, api: LabApi): Promise<readonly NodeLayout[]> {
  const nodes = await nodeObjects(api);
  return layout.nodes.filter(({ name }) => !nodes.has(name));
}

/** The errors of the Nodes that are not Ready, one text each. */
export async function unreadyNodes(layout: Layout, api: LabApi): Promise<readonly string[]> {
  const nodes = await nodeObjects(api);
  return layout.nodes.flatMap(({ name }) => {
    const node = nodes.get(name);
    if (node === undefined) return [`Node ${name} is not in the API`];
    const ready = node.status?.conditions?.find(({ type }) => type === "Ready");
    return ready?.status === "True" ? [] : [`Node ${name} is not ready: ${ready?.message ?? "it has no status"}`];
  });
}

/** Whether every mesh session of the node is established, according to BIRD. */
export function sessionsUp(layout: Layout, node: NodeLayout): boolean {
  const { exitCode, stdout } = tryRun(["birdc", "-s", node.birdSocket, "show", "protocols"]);
  if (exitCode !== 0) return false;
  const sessions = stdout.split("\n").filter((line) => /\bBGP\b/.test(line));
  const wanted = (layout.nodes.length - 1) * node.addresses.length;
  return sessions.length >= wanted && sessions.every((line) => line.includes("Established"));
}
