/** down: removes every trace of a lab, even of one that crashed half created: processes, cgroups, namespaces, files. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { killCgroup } from "./cgroup.ts";
import { removeNamespaces } from "./fabric.ts";
import { labDirectory, layoutOf } from "./layout.ts";

/** True when there was something to remove. */
export async function down(name: string): Promise<boolean> {
  const layout = layoutOf({ name, nodes: 0, ipv4: true, ipv6: false, pools: [], api: "embedded" });
  const existed = existsSync(labDirectory(name));
  await killCgroup(layout.cgroup);
  const removed = removeNamespaces(name);
  unmountBelow(labDirectory(name));
  rmSync(labDirectory(name), { recursive: true, force: true });
  return existed || removed > 0;
}

/** What nodes have mounted below their root: file systems for pins of eBPF. */
function unmountBelow(directory: string): void {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const paths = mounts.flatMap((line) => line.split(" ")[1] ?? []).filter((path) => path.startsWith(`${directory}/`));
  for (const path of paths.reverse()) {
    const { exitCode, stderr } = Bun.spawnSync(["umount", path]);
    if (exitCode !== 0) throw new Error(`Cannot unmount ${path}: ${stderr.toString().trim()}`);
  }
}
