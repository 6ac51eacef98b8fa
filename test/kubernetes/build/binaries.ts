/**
 * Builds the cluster's own programs from package registries and keeps them by version.
 *
 * Owns `${XDG_CACHE_HOME:-~/.cache}/calico-test-kubernetes/`, a folder for each module and version: Kubernetes, etcd,
 * containerd 2 and crictl are ordinary Go module dependencies; containerd 1, runc and the reference plugins are unpacked
 * from Debian packages (nothing is installed on the machine). A program that is present is never built again. What the
 * machine cannot provide is an `Unavailable`, which the caller counts as skipped.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import versions from "../versions.json";

/** The machine lacks something that only a registry or a package could give; not a failure of the product. */
export class Unavailable extends Error {
  override readonly name = "Unavailable";
}

/** Absolute paths of every program that the cluster runs. */
export interface Binaries {
  readonly apiserver: string;
  readonly controllerManager: string;
  readonly scheduler: string;
  readonly kubelet: string;
  readonly proxy: string;
  readonly etcd: string;
  readonly crictl: string;
  readonly helm: string;
  /** The session of client-go in `test/clients/`. */
  readonly clientGo: string;
  /** Folder of the reference plugin `portmap` in a version that speaks CNI 1.1.0, which Debian's does not. */
  readonly plugins: string;
  /** Folder of containerd 2, its shim and ctr. */
  readonly containerd2: string;
  /** Folder below which Debian's packages lie: containerd 1, its shim, ctr, runc, and the reference plugins. */
  readonly debian: string;
}

const CLIENT_GO_SOURCE = new URL("../../clients/client-go/main.go", import.meta.url).pathname;

/** Where the programs are kept. */
export function cacheDirectory(): string {
  const base = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return join(base, "calico-test-kubernetes");
}

/** The outcome of one command that ran to its end. */
export interface Ended {
  readonly code: number;
  readonly output: string;
}

/** A command of the build, to its end. */
export async function run(
  command: readonly string[],
  cwd: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  // Lowest priority and two compilers at most: others work on this machine too.
  const child = Bun.spawn(["nice", "-n", "19", ...command], {
    cwd,
    env: { ...process.env, GOFLAGS: "-mod=mod -buildvcs=false", GOMAXPROCS: "2", GOWORK: "off", ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, output: out + err };
}

export function lastLines(text: string): string {
  return text.trim().split("\n").slice(-5).join("\n");
}

/** Fetches a module's own go.mod; its text. */
async function readModuleFile(module: string, version: string, cwd: string): Promise<string> {
  const ended = await run(["go", "mod", "download", "-json", `${module}@${version}`], cwd);
  const path = /"GoMod": "([^"]+)"/.exec(ended.output)?.[1];
  if (ended.code !== 0 || path === undefined) {
    throw new Unavailable(`cannot fetch Go module ${module}@${version}: ${lastLines(ended.output)}`);
  }
  return await Bun.file(path).text();
}

/** The go.mod that makes Kubernetes a dependency: its staging modules, required at v0.0.0, are replaced by their releases. */
export async function kubernetesModule(cwd: string): Promise<string> {
  const { module, version, staging, godebug } = versions.kubernetes;
  const upstream = await readModuleFile(module, version, cwd);
  const names = [...upstream.matchAll(/^\t(k8s\.io\/[a-z-]+) v0\.0\.0$/gm)].map((match) => match[1]);
  const go = /^go (\S+)$/m.exec(upstream)?.[1] ?? "1.24.0";
  return [
    "module calico-test-kubernetes",
    `go ${go}`,
    `godebug default=${godebug}`,
    `require ${module} ${version}`,
    ...names.map((name) => `replace ${name} => ${name} ${staging}`),
    "",
  ].join("\n");
}

/** The go.mod for a module whose own go.mod replaces nothing. */
export async function plainModule(
  { module, version }: { readonly module: string; readonly version: string },
  cwd: string,
): Promise<string> {
  const go = /^go (\S+)$/m.exec(await readModuleFile(module, version, cwd))?.[1] ?? "1.24.0";
  return `module calico-test-dependency\ngo ${go}\nrequire ${module} ${version}\n`;
}

export function linkerFlags(): string {
  const [, major, minor] = /^v(\d+)\.(\d+)/.exec(versions.kubernetes.version) ?? [];
  const values = { gitVersion: versions.kubernetes.version, gitMajor: major ?? "", gitMinor: minor ?? "" };
  const packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
  // Without them the programs report v0.0.0 and checks between versions misfire.
  const sets = packages.flatMap((pkg) => Object.entries(values).map(([name, value]) => `-X ${pkg}.${name}=${value}`));
  return ["-s -w", ...sets].join(" ");
}

export interface Target {
  readonly program: string;
  readonly pkg: string;
  readonly flags: string;
  /** Below the cache: `<name>-<version>`. */
  readonly folder: string;
  readonly moduleFile: (cwd: string) => Promise<string>;
  /** A program of this repository, compiled in the module; its folder's name says its text. */
  readonly source?: string;
  /** The tests of the package, compiled. */
  readonly tests?: boolean;
  /** Without a C library, to run in an image that has none. */
  readonly static?: boolean;
}

/** Programs of one module, each the package `cmd/<program>`. */
function targetsOf(
  name: "kubernetes" | "containerd" | "crictl" | "helm",
  programs: readonly string[],
  flags: string,
  moduleFile: Target["moduleFile"],
): readonly Target[] {
  const { module, version } = versions[name];
  return programs.map((program) => ({
    program,
    pkg: `${module}/cmd/${program}`,
    flags,
    folder: `${name}-${version}`,
    moduleFile,
  }));
}

function targets(): readonly Target[] {
  const { etcd, containerd, crictl, helm, clientGo, plugins } = versions;
  const session = readFileSync(CLIENT_GO_SOURCE, "utf8");
  return [
    {
      program: "etcd",
      pkg: etcd.module,
      flags: "-s -w",
      folder: `etcd-${etcd.version}`,
      moduleFile: (cwd) => plainModule(etcd, cwd),
    },
    ...targetsOf(
      "kubernetes",
      ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"],
      linkerFlags(),
      kubernetesModule,
    ),
    ...targetsOf(
      "containerd",
      ["containerd", "containerd-shim-runc-v2", "ctr"],
      `-s -w -X ${containerd.module}/version.Version=${containerd.version.slice(1)}`,
      (cwd) => plainModule(containerd, cwd),
    ),
    ...targetsOf("crictl", ["crictl"], "-s -w", (cwd) => plainModule(crictl, cwd)),
    ...targetsOf("helm", ["helm"], "-s -w", (cwd) => plainModule(helm, cwd)),
    {
      program: "portmap",
      pkg: `${plugins.module}/plugins/meta/portmap`,
      flags: "-s -w",
      folder: `plugins-${plugins.version}`,
      moduleFile: (cwd) => plainModule(plugins, cwd),
    },
    {
      program: "session",
      pkg: "./session.go",
      flags: "-s -w",
      folder: `client-go-${clientGo.version}-${Bun.hash(session).toString(36)}`,
      moduleFile: (cwd) => plainModule(clientGo, cwd),
      source: session,
    },
  ];
}

/** Builds one program unless it is there; rejects with `Unavailable`. */
export async function buildTarget(target: Target, cache: string, progress: (line: string) => void): Promise<void> {
  const output = join(cache, target.folder, target.program);
  if (existsSync(output)) return;
  if (Bun.which("go") === null) throw new Unavailable(`no Go toolchain on PATH to build ${target.program}`);
  const module = join(cache, target.folder, "module");
  mkdirSync(module, { recursive: true });
  if (target.source !== undefined) writeFileSync(join(module, "session.go"), target.source);
  if (!existsSync(join(module, "go.mod"))) writeFileSync(join(module, "go.mod"), await target.moduleFile(cache));
  const started = performance.now();
  progress(`building ${target.program} (${target.pkg})`);
  const unfinished = `${output}.unfinished-${process.pid}`;
  const verb = target.tests === true ? ["test", "-vet=off", "-c"] : ["build"];
  const ended = await run(
    ["go", ...verb, "-p", "2", "-trimpath", "-ldflags", target.flags, "-o", unfinished, target.pkg],
    module,
    target.static === true ? { CGO_ENABLED: "0" } : {},
  );
  if (ended.code !== 0) {
    rmSync(unfinished, { force: true });
    throw new Unavailable(`cannot build ${target.program}: ${lastLines(ended.output)}`);
  }
  renameSync(unfinished, output);
  progress(`built ${target.program} in ${Math.round((performance.now() - started) / 1000)} s`);
}

/**
 * Unpacks Debian packages into a folder of their own beside the other programs; nothing is installed on the machine. With
 * `dependencies`, what they depend on as well, so that their programs run where there is nothing else.
 */
export async function unpackPackages(
  root: string,
  packages: readonly string[],
  progress: (line: string) => void,
  dependencies = false,
): Promise<void> {
  const unfinished = `${root}.unfinished-${process.pid}`;
  mkdirSync(join(unfinished, "partial"), { recursive: true });
  progress(`fetching ${packages.join(", ")} from Debian`);
  const status = join(unfinished, "status");
  writeFileSync(status, "");
  // For a machine on which nothing is installed yet, apt fetches everything.
  const options = [`Dir::State::status=${status}`, `Dir::Cache::archives=${unfinished}`, "Debug::NoLocking=1"];
  const install = ["install", "--download-only", "--no-install-recommends", "-y", ...options.flatMap((o) => ["-o", o])];
  const fetched = await run(["apt-get", ...(dependencies ? install : ["download"]), ...packages], unfinished);
  if (fetched.code !== 0) throw new Unavailable(`cannot fetch ${packages.join(", ")}: ${lastLines(fetched.output)}`);
  rmSync(status);
  rmSync(join(unfinished, "partial"), { recursive: true });
  for (const name of readdirSync(unfinished).filter((file) => file.endsWith(".deb"))) {
    const unpacked = await run(["dpkg-deb", "-x", join(unfinished, name), unfinished], unfinished);
    if (unpacked.code !== 0) throw new Unavailable(`cannot unpack ${name}: ${lastLines(unpacked.output)}`);
    rmSync(join(unfinished, name));
  }
  rmSync(root, { recursive: true, force: true });
  renameSync(unfinished, root);
}

/** Debian's container runtime and reference plugins. */
async function unpackDebian(cache: string, progress: (line: string) => void): Promise<string> {
  const root = join(cache, "debian");
  if (!["bin/containerd", "bin/runc", "lib/cni/loopback"].every((file) => existsSync(join(root, "usr", file))))
    await unpackPackages(root, versions.debian, progress);
  return root;
}

/** Makes every program present. Rejects with `Unavailable` when the machine cannot. */
export async function prepareBinaries(progress: (line: string) => void): Promise<Binaries> {
  const cache = cacheDirectory();
  mkdirSync(cache, { recursive: true });
  const debian = await unpackDebian(cache, progress);
  const all = targets();
  for (const target of all) await buildTarget(target, cache, progress);
  const at = (name: string): string => {
    const target = all.find(({ program }) => program === name);
    return join(cache, target?.folder ?? "", name);
  };
  return {
    apiserver: at("kube-apiserver"),
    controllerManager: at("kube-controller-manager"),
    scheduler: at("kube-scheduler"),
    kubelet: at("kubelet"),
    proxy: at("kube-proxy"),
    etcd: at("etcd"),
    crictl: at("crictl"),
    helm: at("helm"),
    clientGo: at("session"),
    plugins: dirname(at("portmap")),
    containerd2: dirname(at("containerd")),
    debian,
  };
}

/** Run by itself: makes what `calico-lab up --api kubernetes` wants and prints the folders to put on PATH. */
async function main(): Promise<void> {
  const cache = cacheDirectory();
  const wanted = targets().filter(({ program }) =>
    ["etcd", "kube-apiserver", "kube-controller-manager"].includes(program),
  );
  try {
    for (const target of wanted) await buildTarget(target, cache, (line) => console.error(line));
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.error(error.message);
    process.exitCode = 1;
    return;
  }
  console.log([...new Set(wanted.map(({ folder }) => join(cache, folder)))].join(":"));
}

if (import.meta.main) await main();
