/**
 * containerd: the container runtimes of the nodes, both majors that clusters run: how each is configured, started and asked.
 *
 * Debian's 1.6 knows CNI up to 1.0.0 and never asks a plugin for its STATUS; 2 does, from a configuration of 1.1.0 on. Both
 * start containers with Debian's runc. Everything of one lies below the cluster's folder but the sockets of its shims and
 * what libcni remembers of each pod; see clean.ts for those.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import type { Binaries } from "../build/binaries.ts";
import { PAUSE_IMAGE } from "./image.ts";
import { inNetns } from "./layout.ts";

export type Major = 1 | 2;

/** Where one containerd keeps its files and finds its plugins. Several run side by side. */
export interface RuntimeFolders {
  readonly containerdRoot: string;
  readonly containerdState: string;
  readonly containerdSocket: string;
  readonly runcRoot: string;
  readonly cniBinDir: string;
  readonly cniConfDir: string;
}

const quote = JSON.stringify;
/** Snapshotters that probe disks which a test machine does not have. */
const UNUSED = ["btrfs", "zfs", "devmapper", "aufs"].map((name) => `io.containerd.snapshotter.v1.${name}`);

function common(folders: RuntimeFolders): readonly string[] {
  return [
    `root = ${quote(folders.containerdRoot)}`,
    `state = ${quote(folders.containerdState)}`,
    `disabled_plugins = ${quote(UNUSED)}`,
    "[grpc]",
    `address = ${quote(folders.containerdSocket)}`,
    "[ttrpc]",
    `address = ${quote(`${folders.containerdSocket}.ttrpc`)}`,
    // Else /opt/containerd of the machine.
    '[plugins."io.containerd.internal.v1.opt"]',
    `path = ${quote(`${folders.containerdRoot}/opt`)}`,
  ];
}

/** The keys that both majors have, under the name that each gives the plugin. */
function runtime(
  plugin: string,
  folders: RuntimeFolders,
  binaries: Binaries,
  cni: readonly string[],
  own: readonly string[],
): readonly string[] {
  return [
    `[plugins.${quote(plugin)}]`,
    ...own,
    // Without CAP_SYS_RESOURCE a container cannot have a lower score than the runtime.
    "restrict_oom_score_adj = true",
    "disable_apparmor = true",
    // Below the cluster's folder, so that nothing of it lies elsewhere.
    "netns_mounts_under_state_dir = true",
    `[plugins.${quote(plugin)}.cni]`,
    ...cni,
    `conf_dir = ${quote(folders.cniConfDir)}`,
    `[plugins.${quote(plugin)}.containerd.runtimes.runc]`,
    'runtime_type = "io.containerd.runc.v2"',
    `[plugins.${quote(plugin)}.containerd.runtimes.runc.options]`,
    `BinaryName = ${quote(`${binaries.debian}/usr/bin/runc`)}`,
    `Root = ${quote(folders.runcRoot)}`,
    "SystemdCgroup = false",
    "",
  ];
}

function configuration(major: Major, folders: RuntimeFolders, binaries: Binaries): readonly string[] {
  if (major === 1) {
    const own = [`sandbox_image = ${quote(PAUSE_IMAGE)}`];
    return [
      "version = 2",
      ...common(folders),
      ...runtime("io.containerd.grpc.v1.cri", folders, binaries, [`bin_dir = ${quote(folders.cniBinDir)}`], own),
    ];
  }
  return [
    "version = 3",
    ...common(folders),
    '[plugins."io.containerd.cri.v1.images".pinned_images]',
    `sandbox = ${quote(PAUSE_IMAGE)}`,
    // Its socket is one for the whole machine.
    '[plugins."io.containerd.nri.v1.nri"]',
    "disable = true",
    ...runtime("io.containerd.cri.v1.runtime", folders, binaries, [`bin_dirs = ${quote([folders.cniBinDir])}`], []),
  ];
}

/** Folder of containerd, its shim and ctr. */
function programs(major: Major, binaries: Binaries): string {
  return major === 1 ? `${binaries.debian}/usr/bin` : binaries.containerd2;
}

/** Writes the configuration; the command that runs a containerd of that major in the network namespace. */
export function containerdIn(
  netns: string,
  major: Major,
  folders: RuntimeFolders,
  binaries: Binaries,
): { readonly command: readonly string[]; readonly environment: Readonly<Record<string, string>> } {
  for (const folder of [folders.containerdRoot, folders.containerdState]) mkdirSync(folder, { recursive: true });
  const config = `${folders.containerdRoot}/../config.toml`;
  writeFileSync(config, configuration(major, folders, binaries).join("\n"));
  const path = [programs(major, binaries), `${binaries.debian}/usr/bin`, process.env["PATH"] ?? ""].join(":");
  return {
    command: inNetns(netns, [`${programs(major, binaries)}/containerd`, "-c", config]),
    environment: { PATH: path },
  };
}

/** Asks a containerd, with its own client. */
export function ctrOf(
  major: Major,
  folders: RuntimeFolders,
  binaries: Binaries,
  ...args: readonly string[]
): readonly string[] {
  return [`${programs(major, binaries)}/ctr`, "-a", folders.containerdSocket, "-n", "k8s.io", ...args];
}
