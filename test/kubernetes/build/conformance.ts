/**
 * conformance: the programs of Kubernetes' own test suite, built from Go modules beside those of the cluster and kept by version: e2e.test,
 * its runner ginkgo, the test server agnhost and CoreDNS, which run in pods; and cyclonus where it is wanted.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import versions from "../versions.json";
import {
  buildTarget,
  cacheDirectory,
  kubernetesModule,
  lastLines,
  linkerFlags,
  plainModule,
  run,
  type Target,
  Unavailable,
  unpackPackages,
} from "./binaries.ts";

/** Absolute paths. */
export interface SuiteBinaries {
  readonly e2e: string;
  readonly ginkgo: string;
  readonly agnhost: string;
  /** Folder with agnhost's own certificate for a server with TLS. */
  readonly certificates: string;
  readonly coredns: string;
  readonly cyclonus: Cyclonus | undefined;
  /** Folder with the Debian programs that a pod of the suite runs, with all that they need. */
  readonly root: string;
}

export interface Cyclonus {
  /** Creates policies and compares what is probed with what it expects: `conformance/cyclonus/main.go`. */
  readonly driver: string;
  /** Probes from within a pod. */
  readonly worker: string;
}

const DRIVER_SOURCE = new URL("../conformance/cyclonus/main.go", import.meta.url).pathname;

function cyclonusTargets(): readonly Target[] {
  const { cyclonus } = versions;
  const source = readFileSync(DRIVER_SOURCE, "utf8");
  const common = { flags: "-s -w", moduleFile: (cwd: string) => plainModule(cyclonus, cwd), static: true };
  const folder = `cyclonus-${cyclonus.version}`;
  const driver = {
    program: "cyclonus",
    pkg: "./session.go",
    folder: `${folder}-${Bun.hash(source).toString(36)}`,
    source,
  };
  return [
    { ...common, ...driver },
    { ...common, program: "worker", pkg: `${cyclonus.module}/cmd/worker`, folder },
  ];
}

function targets(): readonly Target[] {
  const { kubernetes, coredns } = versions;
  const inKubernetes = {
    flags: linkerFlags(),
    folder: `kubernetes-${kubernetes.version}`,
    moduleFile: kubernetesModule,
  };
  return [
    { ...inKubernetes, program: "e2e.test", pkg: `${kubernetes.module}/test/e2e`, tests: true },
    { ...inKubernetes, program: "agnhost", pkg: `${kubernetes.module}/test/images/agnhost`, static: true },
    // As new as the one that e2e.test has compiled in.
    { ...inKubernetes, program: "ginkgo", pkg: "github.com/onsi/ginkgo/v2/ginkgo" },
    {
      program: "coredns",
      pkg: coredns.module,
      flags: "-s -w",
      folder: `coredns-${coredns.version}`,
      moduleFile: (cwd) => plainModule(coredns, cwd),
      static: true,
    },
  ];
}

/** agnhost's certificate and key, out of the source of Kubernetes' module. */
async function keepCertificates(folder: string, cache: string): Promise<string> {
  if (existsSync(folder)) return folder;
  const { module, version } = versions.kubernetes;
  const ended = await run(["go", "mod", "download", "-json", `${module}@${version}`], cache);
  const source = /"Dir": "([^"]+)"/.exec(ended.output)?.[1];
  if (ended.code !== 0 || source === undefined)
    throw new Unavailable(`cannot fetch Go module ${module}@${version}: ${lastLines(ended.output)}`);
  const unfinished = `${folder}.unfinished-${process.pid}`;
  mkdirSync(unfinished);
  for (const name of ["localhost.crt", "localhost.key"])
    copyFileSync(join(source, "test/images/agnhost/porter", name), join(unfinished, name));
  renameSync(unfinished, folder);
  return folder;
}

/** Makes every program of the suite present. Rejects with `Unavailable` when the machine cannot. */
export async function prepareSuite(progress: (line: string) => void, withCyclonus: boolean): Promise<SuiteBinaries> {
  const cache = cacheDirectory();
  mkdirSync(cache, { recursive: true });
  const root = join(cache, `image-${Bun.hash(versions.image.join()).toString(36)}`);
  if (!existsSync(root)) await unpackPackages(root, versions.image, progress, true);
  const all = [...targets(), ...(withCyclonus ? cyclonusTargets() : [])];
  for (const target of all) await buildTarget(target, cache, progress);
  const at = (name: string): string => {
    const target = all.find(({ program }) => program === name);
    return join(cache, target?.folder ?? "", name);
  };
  return {
    e2e: at("e2e.test"),
    ginkgo: at("ginkgo"),
    agnhost: at("agnhost"),
    certificates: await keepCertificates(join(dirname(at("agnhost")), "certificates"), cache),
    coredns: at("coredns"),
    cyclonus: withCyclonus ? { driver: at("cyclonus"), worker: at("worker") } : undefined,
    root,
  };
}
