/**
 * packages: kernels out of Debian packages, unpacked and kept by the package's file name; nothing is installed on the machine.
 *
 * Owns `${XDG_CACHE_HOME:-~/.cache}/calico-test-kernels/`, a folder for each package.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join, resolve } from "node:path";

/** An unpacked kernel. */
export interface KernelFiles {
  /** As `uname -r` tells it. */
  readonly release: string;
  /** The bootable image. */
  readonly image: string;
  /** The folder in which `lib/modules/RELEASE` is, with the lists that modprobe reads. */
  readonly root: string;
}

/** Where kernels are kept. */
export function cacheDirectory(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "calico-test-kernels");
}

/** Standard output; throws what the program says. */
export function run(
  command: readonly string[],
  options: { readonly cwd?: string; readonly stdin?: Uint8Array } = {},
): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command], {
    ...options,
    stdin: options.stdin ?? new Uint8Array(),
  });
  if (exitCode !== 0) throw new Error(`${command.join(" ")} failed with ${exitCode}: ${stderr.toString().trim()}`);
  return stdout.toString();
}

/** Brings the current kernel package of the machine's own distribution; its path. Throws what apt-get says. */
export function fetchOwnPackage(cache: string, progress: (line: string) => void): string {
  const architecture = run(["dpkg", "--print-architecture"]).trim();
  const meta = `linux-image-${architecture}`;
  const name = /^ *Depends: (linux-image-\S+)/m.exec(run(["apt-cache", "depends", meta]))?.[1];
  if (name === undefined) throw new Error(`apt-cache names no kernel for ${meta}: give a package in KERNELS`);
  const packages = join(cache, "packages");
  mkdirSync(packages, { recursive: true });
  const version = /^Version: (\S+)/m.exec(run(["apt-cache", "show", "--no-all-versions", name]))?.[1];
  // As apt-get names files.
  const file = join(packages, `${name}_${version?.replaceAll(":", "%3a")}_${architecture}.deb`);
  if (existsSync(file)) return file;
  progress(`fetching ${name} ${version}`);
  run(["apt-get", "download", name], { cwd: packages });
  if (!existsSync(file)) throw new Error(`apt-get download ${name} brought no ${basename(file)}`);
  return file;
}

/** Unpacks it unless that is done. Throws when it holds no kernel. */
export function unpackKernel(file: string, cache: string, progress: (line: string) => void): KernelFiles {
  const root = join(cache, basename(file, ".deb"));
  if (!existsSync(root)) {
    progress(`unpacking ${basename(file)}`);
    const unfinished = `${root}.unfinished-${process.pid}`;
    try {
      run(["dpkg-deb", "-x", resolve(file), unfinished]);
      // Distributions with one folder for all programs and libraries have it in usr/ alone; depmod and modprobe look in lib/.
      if (!existsSync(join(unfinished, "lib"))) symlinkSync("usr/lib", join(unfinished, "lib"));
      run(["depmod", "-b", unfinished, releaseIn(unfinished, file)]);
      renameSync(unfinished, root);
    } finally {
      rmSync(unfinished, { recursive: true, force: true });
    }
  }
  const release = releaseIn(root, file);
  return { release, image: join(root, "boot", `vmlinuz-${release}`), root };
}

function releaseIn(root: string, file: string): string {
  const image = existsSync(join(root, "boot"))
    ? readdirSync(join(root, "boot")).find((name) => name.startsWith("vmlinuz-"))
    : undefined;
  if (image === undefined) throw new Error(`${file} has no boot/vmlinuz-…: give packages named linux-image-…`);
  return image.slice("vmlinuz-".length);
}
