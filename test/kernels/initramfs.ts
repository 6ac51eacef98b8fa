/**
 * initramfs: the first file system of an emulated machine: it loads what the kernel needs to see this machine's files, mounts them, and begins a command there.
 *
 * The root is the host's, read-only over 9p, with what the guest writes in memory above it; /tmp, /run and the like are the guest's own. What runs is
 * therefore what is installed here, and the working tree as it is.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type KernelFiles, run } from "./packages.ts";

/** By which the guest names the host's files. */
export const MOUNT_TAG = "host";
const MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/** The archive, in bytes. `command` is a line of bash, in the host's folder `directory`. Throws when a module or a program is missing. */
export function makeInitramfs(kernel: KernelFiles, directory: string, command: string): Uint8Array {
  const busybox = Bun.which("busybox") ?? "busybox";
  const root = mkdtempSync(join(tmpdir(), "calico-initramfs-"));
  try {
    for (const name of ["bin", "proc", "sys", "dev", "modules", "host", "memory", "root"]) mkdirSync(join(root, name));
    copyFileSync(busybox, join(root, "bin/busybox"));
    const order: string[] = [];
    for (const file of modulesOf(kernel)) {
      const name = basename(file).replace(/\.(xz|zst|gz)$/, "");
      const content = file.endsWith(".ko") ? undefined : unpacked(file);
      if (content === undefined) copyFileSync(file, join(root, "modules", name));
      else writeFileSync(join(root, "modules", name), content);
      order.push(name);
    }
    writeFileSync(join(root, "init"), initOf(kernel, order), { mode: 0o755 });
    writeFileSync(join(root, "second"), secondOf(directory, command), { mode: 0o755 });
    const files = run([busybox, "find", "."], { cwd: root });
    const packed = Bun.spawnSync([busybox, "cpio", "-o", "-H", "newc"], { cwd: root, stdin: Buffer.from(files) });
    if (packed.exitCode !== 0) throw new Error(`busybox cpio failed: ${packed.stderr.toString()}`);
    return packed.stdout;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Paths of the modules that a machine loads before it sees files, each after those that it needs; none for what the kernel has built in. */
function modulesOf({ root, release }: KernelFiles): readonly string[] {
  const lines = MODULES.flatMap((name) =>
    run(["modprobe", "-d", root, "-S", release, "--show-depends", name]).split("\n"),
  );
  return [...new Set(lines.flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []))];
}

function unpacked(file: string): Uint8Array {
  const program = file.endsWith(".xz") ? "xz" : file.endsWith(".zst") ? "zstd" : "gzip";
  const { exitCode, stdout, stderr } = Bun.spawnSync([program, "-dc", file], { stdin: "ignore" });
  if (exitCode !== 0) throw new Error(`${program} -dc ${file} failed: ${stderr.toString()}`);
  return stdout;
}

/** With which every place of the tree below which the guest writes is its own. */
const initOf = ({ root, release }: KernelFiles, order: readonly string[]): string => `#!/bin/busybox sh
b=/bin/busybox
fail() { echo "the machine cannot begin: $*"; $b poweroff -f; }
$b mount -t proc proc /proc && $b mount -t sysfs sys /sys && $b mount -t devtmpfs dev /dev || fail "proc, sys, dev"
for module in ${order.join(" ")}; do $b insmod /modules/$module || fail "insmod $module"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro ${MOUNT_TAG} /host || fail "the host's files"
$b mount -t tmpfs memory /memory && $b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root || fail "overlay"
for name in proc sys dev; do $b mount -o move /$name /root/$name; done
for name in tmp run; do $b mount -t tmpfs $name /root/$name; done
$b mkdir -p /root/dev/pts /root/dev/shm /root/run/netns
$b mount -t devpts devpts /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm
$b mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
$b mount -t bpf bpf /root/sys/fs/bpf
# Those of this kernel, in a folder that the overlay shows.
$b mkdir -p /root/lib/modules/${release}
$b mount -o bind /host${root}/lib/modules/${release} /root/lib/modules/${release} || fail "modules"
$b cp /second /root/run/second
$b ip link set lo up
exec $b switch_root /root /bin/bash /run/second
`;

const secondOf = (
  directory: string,
  command: string,
): string => `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ulimit -l unlimited
cd ${directory} && ( ${command} )
echo o >/proc/sysrq-trigger
sleep 60
`;
