/** down: removes every trace of a lab, even of one that crashed half created: processes, cgroups, namespaces, files. */
import { existsSync, rmSync } from "node:fs";
import { killCgroup } from "./cgroup.ts";
import { removeNamespaces } from "./fabric.ts";
import { labDirectory, layoutOf } from "./layout.ts";

/** True when there was something to remove. */
export async function down(name: string): Promise<boolean> {
  const layout = layoutOf({ name, nodes: 0, ipv4: true, ipv6: false, pools: [], api: "embedded" });
  const existed = existsSync(labDirectory(name));
  await killCgroup(layout.cgroup);
  const removed = removeNamespaces(name);
  rmSync(labDirectory(name), { recursive: true, force: true });
  return existed || removed > 0;
}
