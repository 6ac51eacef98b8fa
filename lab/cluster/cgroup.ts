/** cgroup: a cgroup2 subtree for each lab, so that one write ends every process of it. Source: kernel Documentation/admin-guide/cgroup-v2.rst. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { CommandError, waitFor } from "./run.ts";

/** Mount point of cgroup2, also where v1 controllers are mounted beside it. */
function cgroupMount(): string {
  for (const line of readFileSync("/proc/mounts", "utf8").split("\n")) {
    const [, path, type] = line.split(" ");
    if (type === "cgroup2" && path !== undefined) return path;
  }
  throw new CommandError("no cgroup2 is mounted: the lab needs it to end its processes");
}

function cgroupPath(name: string): string {
  return `${cgroupMount()}/${name}`;
}

/** Runs `spawn` with this process inside the cgroup, so that the child is born there; then goes back. */
export function spawnIn<T>(cgroup: string, spawn: () => T): T {
  const home = ownCgroup();
  mkdirSync(cgroupPath(cgroup), { recursive: true });
  writeFileSync(`${cgroupPath(cgroup)}/cgroup.procs`, "0");
  try {
    return spawn();
  } finally {
    writeFileSync(`${cgroupMount()}${home}/cgroup.procs`, "0");
  }
}

function ownCgroup(): string {
  const line = readFileSync("/proc/self/cgroup", "utf8")
    .split("\n")
    .find((text) => text.startsWith("0::"));
  if (line === undefined) throw new CommandError("this process is in no cgroup2");
  const path = line.slice(3);
  return path === "/" ? "" : path;
}

/** Kills everything below the cgroup and removes it; succeeds when it does not exist. */
export async function killCgroup(cgroup: string): Promise<void> {
  const path = cgroupPath(cgroup);
  if (!existsSync(path)) return;
  writeFileSync(`${path}/cgroup.kill`, "1");
  await waitFor(`the processes of ${cgroup} to end`, 20, () =>
    readFileSync(`${path}/cgroup.events`, "utf8").includes("populated 0"),
  );
  await removeTree(path);
}

async function removeTree(path: string): Promise<void> {
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) await removeTree(`${path}/${entry.name}`);
  await waitFor(`cgroup ${path} to be removable`, 10, () => {
    try {
      rmdirSync(path);
      return true;
    } catch (error) {
      return error instanceof Error && "code" in error && error.code === "ENOENT";
    }
  });
}
