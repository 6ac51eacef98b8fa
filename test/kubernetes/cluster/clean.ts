/**
 * clean: removes every trace of a cluster: processes, mounts, cgroups, network namespaces, folders; puts sysctls back.
 *
 * Works on what is found, not on what is remembered, so it serves after a crash as well. Clusters whose fixture is dead are
 * removed by the next one.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { removeCgroup } from "./cgroups.ts";
import { removeFabric } from "./fabric.ts";
import { layoutOf, PREFIX, STATE_ROOT } from "./layout.ts";
import { tryRun } from "./run.ts";
import { restoreSysctls } from "./sysctls.ts";

/** Who runs the cluster: "PID TICKS". */
export function ownerFile(id: string): string {
  return `${STATE_ROOT}/${id}/owner`;
}

export function sysctlFile(id: string): string {
  return `${STATE_ROOT}/${id}/sysctls.json`;
}

/** This process, told apart from a later one with the same pid. */
export function describeProcess(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return `${pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    return undefined;
  }
}

/** Ids of the clusters that have a folder. */
export function clusterIds(): readonly string[] {
  return existsSync(STATE_ROOT) ? readdirSync(STATE_ROOT).filter((entry) => entry.startsWith(PREFIX)) : [];
}

function isAbandoned(id: string): boolean {
  if (!existsSync(ownerFile(id))) return true;
  const owner = readFileSync(ownerFile(id), "utf8");
  return describeProcess(Number(owner.split(" ")[0])) !== owner;
}

/** Mount points below a folder, deepest first. */
function mountsBelow(folder: string): readonly string[] {
  const paths = readFileSync("/proc/self/mounts", "utf8").split("\n").flatMap((line) => line.split(" ")[1] ?? []);
  return paths.filter((path) => path.startsWith(`${folder}/`)).reverse();
}

/** Sockets of container shims lie in /run/containerd/s, named by a hash; each container's folder says its own. */
function removeShimSockets(id: string): void {
  for (const node of layoutOf(id).nodes) {
    const tasks = `${node.containerdState}/io.containerd.runtime.v2.task/k8s.io`;
    if (!existsSync(tasks)) continue;
    for (const container of readdirSync(tasks)) {
      const file = `${tasks}/${container}/address`;
      if (!existsSync(file)) continue;
      const socket = readFileSync(file, "utf8").replace(/^unix:\/\//, "");
      if (socket.startsWith("/run/containerd/s/")) rmSync(socket, { force: true });
    }
  }
}

export async function removeCluster(id: string): Promise<void> {
  const { directory, cgroup } = layoutOf(id);
  await removeCgroup(cgroup);
  removeShimSockets(id);
  for (const path of mountsBelow(directory)) await tryRun(["umount", "-l", path]);
  await removeFabric(id);
  restoreSysctls(sysctlFile(id));
  rmSync(directory, { recursive: true, force: true });
}

/** Removes what crashed runs left. */
export async function removeAbandoned(progress: (line: string) => void): Promise<void> {
  for (const id of clusterIds()) {
    if (!isAbandoned(id)) continue;
    progress(`removing ${id}, which an earlier run left`);
    await removeCluster(id);
  }
}
