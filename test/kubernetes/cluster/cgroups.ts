/**
 * cgroups: one tree for each cluster, the same name in every hierarchy, so that one write ends every process of it.
 *
 * Machines with cgroup v1 controllers beside a bare cgroup2 (hybrid) and with cgroup2 alone are both served.
 * Source: kernel Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/cpusets.rst.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { ClusterError, waitFor } from "./run.ts";

interface Mounts {
  readonly unified: string;
  readonly v1: readonly string[];
}

function mounts(): Mounts {
  const lines = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "));
  const unified = lines.find(([, , type]) => type === "cgroup2")?.[1];
  if (unified === undefined) throw new ClusterError("no cgroup2 is mounted: the cluster needs it to end its processes");
  return { unified, v1: lines.flatMap(([, path, type]) => (type === "cgroup" && path !== undefined ? [path] : [])) };
}

/** Makes the group in every hierarchy. */
export function makeCgroup(name: string): void {
  const { unified, v1 } = mounts();
  for (const mount of v1) makeV1(mount, name);
  mkdirSync(`${unified}/${name}`, { recursive: true });
  const controllers = readFileSync(`${unified}/cgroup.controllers`, "utf8").trim();
  if (controllers === "") return;
  const enable = controllers
    .split(" ")
    .map((controller) => `+${controller}`)
    .join(" ");
  const parts = name.split("/");
  for (let i = 0; i < parts.length; i++)
    writeFileSync(`${[unified, ...parts.slice(0, i)].join("/")}/cgroup.subtree_control`, enable);
}

function makeV1(mount: string, name: string): void {
  let path = mount;
  for (const part of name.split("/")) {
    const parent = path;
    path = `${path}/${part}`;
    mkdirSync(path, { recursive: true });
    // An empty cpuset takes no process.
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      if (existsSync(`${path}/${file}`))
        writeFileSync(`${path}/${file}`, readFileSync(`${parent}/${file}`, "utf8").trim());
    }
  }
}

/** Runs `spawn` with this process inside the cgroup2 group, so that the child is born there; then goes back. */
export function spawnIn<T>(name: string, spawn: () => T): T {
  const { unified } = mounts();
  const home =
    readFileSync("/proc/self/cgroup", "utf8")
      .split("\n")
      .find((line) => line.startsWith("0::"))
      ?.slice(3) ?? "/";
  mkdirSync(`${unified}/${name}`, { recursive: true });
  writeFileSync(`${unified}/${name}/cgroup.procs`, "0");
  try {
    return spawn();
  } finally {
    writeFileSync(`${unified}${home === "/" ? "" : home}/cgroup.procs`, "0");
  }
}

/** Kills every process below the group, in all hierarchies, and removes it; succeeds when it does not exist. */
export async function removeCgroup(name: string): Promise<void> {
  const { unified, v1 } = mounts();
  const path = `${unified}/${name}`;
  if (existsSync(path)) {
    writeFileSync(`${path}/cgroup.kill`, "1");
    await waitFor(`the processes of ${name} to end`, 30, () =>
      readFileSync(`${path}/cgroup.events`, "utf8").includes("populated 0"),
    );
  }
  for (const mount of [...v1, unified]) await removeTree(`${mount}/${name}`);
}

/** Bytes that the processes of the group hold: resident set sizes added up, by program. */
export function residentBytes(name: string): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  const visit = (path: string): void => {
    for (const pid of readFileSync(`${path}/cgroup.procs`, "utf8")
      .split("\n")
      .filter((text) => text !== "")) {
      try {
        const status = readFileSync(`/proc/${pid}/status`, "utf8");
        const program = /^Name:\s+(\S+)/m.exec(status)?.[1] ?? "?";
        sums.set(program, (sums.get(program) ?? 0) + Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? "0") * 1024);
      } catch {
        // It ended meanwhile.
      }
    }
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory()) visit(`${path}/${entry.name}`);
  };
  const { unified } = mounts();
  if (existsSync(`${unified}/${name}`)) visit(`${unified}/${name}`);
  return sums;
}

async function removeTree(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const pid of existsSync(`${path}/cgroup.procs`)
    ? readFileSync(`${path}/cgroup.procs`, "utf8").split("\n")
    : []) {
    if (pid !== "") process.kill(Number(pid), "SIGKILL");
  }
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
