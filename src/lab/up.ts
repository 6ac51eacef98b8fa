/** up: makes a lab and waits until it works: namespaces, supervisor, API, pools, nodes, sessions of BIRD. May be repeated. */
import { existsSync, mkdirSync, openSync, closeSync, readFileSync, writeFileSync } from "node:fs";
import { CRDS } from "../model/kinds/crds.ts";
import { parseAddr } from "../net/addr.ts";
import { LabApi } from "./api.ts";
import { spawnIn } from "./cgroup.ts";
import { checkPrograms, prepareControlPlane } from "./control-plane.ts";
import { identify, isAlive, prepareDirectories, type ProcessId } from "./daemon.ts";
import { makeFabric } from "./fabric.ts";
import { type LabConfig, type Layout, layoutOf, type NodeLayout } from "./layout.ts";
import { CommandError, run, tryRun, waitFor } from "./run.ts";
import { executable } from "./executable.ts";

export function configFile(layout: Layout): string {
  return `${layout.directory}/lab.json`;
}

/** The lab's configuration, if it has been made. */
export function readConfig(name: string): LabConfig | undefined {
  const path = configFile(layoutOf({ name, nodes: 0, ipv4: true, ipv6: false, pools: [], api: "embedded" }));
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as LabConfig) : undefined;
}

export async function up(wanted: LabConfig, progress: (text: string) => void): Promise<Layout> {
  const existing = readConfig(wanted.name);
  if (existing !== undefined && JSON.stringify(existing) !== JSON.stringify(wanted)) {
    throw new CommandError(`lab ${wanted.name} exists with other settings (${describe(existing)}): run "calico lab down --name ${wanted.name}" first, or give it another --name`);
  }
  if (wanted.api === "kubernetes") checkPrograms();
  const layout = layoutOf(wanted);
  prepareDirectories(layout.directory, layout.logs, layout.pids, layout.podsDirectory, layout.apiDirectory);
  writeFileSync(configFile(layout), JSON.stringify(wanted));
  progress(`making ${wanted.nodes} nodes on one fabric`);
  makeFabric(layout);
  for (const node of layout.nodes) installPlugins(layout, node);
  prepareControlPlane(layout);
  startSupervisor(layout);
  progress("starting the API");
  await waitFor(`the API of lab ${wanted.name}; see ${layout.logs}/api.log`, 30, () => existsSync(layout.kubeconfig));
  const api = new LabApi(layout.kubeconfig);
  await waitFor(`the API of lab ${wanted.name}; see ${layout.logs}/api.log`, 60, () => api.ready());
  await createObjects(layout, api);
  progress("waiting for the nodes to be ready");
  await waitFor(`the nodes to be ready; see ${layout.logs}`, 60, () => nodesReady(layout, api));
  if (layout.nodes.length > 1) {
    progress("waiting for BGP sessions between the nodes");
    await waitFor("BGP sessions between the nodes; see bird.log in " + layout.logs, 60, () => layout.nodes.every((node) => sessionsUp(layout, node)));
  }
  return layout;
}

function describe(config: LabConfig): string {
  return `${config.nodes} nodes, ${config.ipv4 ? (config.ipv6 ? "dual-stack" : "IPv4") : "IPv6"}, pools ${config.pools.join(" ")}${config.api === "kubernetes" ? ", Kubernetes' own API" : ""}`;
}

function installPlugins(layout: Layout, node: NodeLayout): void {
  const families = [...(layout.config.ipv6 ? ["--ipv6"] : []), ...(layout.config.ipv4 ? [] : ["--no-ipv4"])];
  run([executable(), "cni", "install", "--root", node.root, "--bin-dir", node.cniBinDir, "--conf-dir", node.cniConfDir, ...families]);
  mkdirSync(`${node.root}/var/run/calico`, { recursive: true });
}

export function supervisorFile(layout: Layout): string {
  return `${layout.directory}/supervisor.json`;
}

export function runningSupervisor(layout: Layout): ProcessId | undefined {
  if (!existsSync(supervisorFile(layout))) return undefined;
  const id = JSON.parse(readFileSync(supervisorFile(layout), "utf8")) as ProcessId;
  return isAlive(id) ? id : undefined;
}

function startSupervisor(layout: Layout): void {
  if (runningSupervisor(layout) !== undefined) return;
  const log = openSync(`${layout.logs}/supervisor.log`, "a", 0o644);
  try {
    const child = spawnIn(`${layout.cgroup}/supervisor`, () => Bun.spawn([executable(), "lab", "supervise", "--name", layout.config.name], { stdin: "ignore", stdout: log, stderr: log, detached: true, cwd: "/" }));
    child.unref();
    const id = identify(child.pid);
    if (id === undefined) throw new CommandError(`the supervisor ended at once; see ${layout.logs}/supervisor.log`);
    writeFileSync(supervisorFile(layout), JSON.stringify(id));
  } finally {
    closeSync(log);
  }
}

async function createObjects(layout: Layout, api: LabApi): Promise<void> {
  for (const crd of CRDS) await api.ensure("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd);
  for (const [i, cidr] of layout.config.pools.entries()) {
    const family = parseAddr(cidr.slice(0, cidr.indexOf("/")));
    const name = `default-ipv${family.ok && family.value.includes(":") ? 6 : 4}-ippool${i > 1 ? `-${i}` : ""}`;
    const pool = { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { cidr, nodeSelector: "all()" } };
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

async function nodesReady(layout: Layout, api: LabApi): Promise<boolean> {
  const { items } = await api.request<{ items: { metadata: { name: string }; status?: { conditions?: { type: string; status: string }[] } }[] }>("GET", "/api/v1/nodes");
  const ready = new Set(items.filter((node) => node.status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True")).map((node) => node.metadata.name));
  return layout.nodes.every((node) => ready.has(node.name));
}

/** Every mesh session of the node is established, as BIRD itself says. */
function sessionsUp(layout: Layout, node: NodeLayout): boolean {
  const { exitCode, stdout } = tryRun(["birdc", "-s", node.birdSocket, "show", "protocols"]);
  if (exitCode !== 0) return false;
  const sessions = stdout.split("\n").filter((line) => /\bBGP\b/.test(line));
  const wanted = (layout.nodes.length - 1) * node.addresses.length;
  return sessions.length >= wanted && sessions.every((line) => line.includes("Established"));
}
