/**
 * clean: removes every trace of a cluster: processes, mounts, cgroups, network namespaces, folders; puts sysctls back.
 *
 * Works on what is found, not on what is remembered, so it serves after a crash as well. Clusters whose fixture is dead are
 * removed by the next one.
 */
import { Glob } from "bun";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { describeProcess } from "../../processes.ts";
import { removeCgroup } from "./cgroups.ts";
import { removeFabric } from "./fabric.ts";
import { layoutOf, PREFIX, STATE_ROOT } from "./layout.ts";
import { tryRun } from "./run.ts";
import { restoreSysctls } from "./sysctls.ts";

const CNI_RESULTS = "/var/lib/cni/results";

/** Who runs the cluster: "PID TICKS". */
export function ownerFile(id: string): string {
  return `${STATE_ROOT}/${id}/owner`;
}

export function sysctlFile(id: string): string {
  return `${STATE_ROOT}/${id}/sysctls.json`;
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
  const paths = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .flatMap((line) => line.split(" ")[1] ?? []);
  return paths.filter((path) => path.startsWith(`${folder}/`)).reverse();
}

/** Removes a folder with whatever is mounted below it. */
export async function removeMounted(folder: string): Promise<void> {
  for (const path of mountsBelow(folder)) await tryRun(["umount", "-l", path]);
  rmSync(folder, { recursive: true, force: true });
}

/** Socket of the shim of one container: containerd 1 writes it into `address`, containerd 2 into `bootstrap.json`. */
function shimSocket(bundle: string): string | undefined {
  if (existsSync(`${bundle}/address`)) return readFileSync(`${bundle}/address`, "utf8").replace(/^unix:\/\//, "");
  if (!existsSync(`${bundle}/bootstrap.json`)) return undefined;
  return /"address":\s*"unix:\/\/([^"]+)"/.exec(readFileSync(`${bundle}/bootstrap.json`, "utf8"))?.[1];
}

/** Sockets of container shims lie in /run/containerd/s, named by a hash; each container's folder says its own. */
function removeShimSockets(directory: string): void {
  const bundles = existsSync(directory)
    ? [
        ...new Glob("*/*/state/io.containerd.runtime.v2.task/k8s.io/*/config.json").scanSync({
          cwd: directory,
          absolute: true,
        }),
      ]
    : [];
  for (const bundle of bundles.map((file) => dirname(file))) {
    const socket = shimSocket(bundle);
    if (socket?.startsWith("/run/containerd/s/") === true) rmSync(socket, { force: true });
  }
}

/** libcni remembers each pod's result in one folder for the whole machine; a result of ours names a namespace below the cluster's folder. */
function removeCniResults(directory: string): void {
  for (const name of existsSync(CNI_RESULTS) ? readdirSync(CNI_RESULTS) : []) {
    try {
      if (readFileSync(`${CNI_RESULTS}/${name}`, "utf8").includes(`"${directory}/`))
        rmSync(`${CNI_RESULTS}/${name}`, { force: true });
    } catch (error) {
      // Another cluster's runtime removed it meanwhile.
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
}

export async function removeCluster(id: string): Promise<void> {
  const { directory, cgroup } = layoutOf(id);
  await removeCgroup(cgroup);
  removeShimSockets(directory);
  removeCniResults(directory);
  for (const path of mountsBelow(directory)) await tryRun(["umount", "-l", path]);
  await removeFabric(id);
  restoreSysctls(sysctlFile(id));
  await removeMounted(directory);
}

/** Removes what crashed runs left. */
export async function removeAbandoned(progress: (line: string) => void): Promise<void> {
  for (const id of clusterIds()) {
    if (!isAbandoned(id)) continue;
    progress(`removing ${id}, which an earlier run left`);
    await removeCluster(id);
  }
}
