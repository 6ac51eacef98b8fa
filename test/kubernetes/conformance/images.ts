/**
 * images: what the suite's pods run. Nothing is pulled: one layer of Debian programs, agnhost and CoreDNS, under every name that the suite asks for.
 *
 * The suite gets a list of registries in which its images are `localhost/e2e-test-images/…`.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import type { SuiteBinaries } from "../build/conformance.ts";
import { addBusybox, type Image, packImages } from "../cluster/image.ts";
import { ClusterError, run } from "../cluster/run.ts";

const HOST = "localhost";
/** cyclonus asks for its images in a folder of this name. */
const REGISTRY = `${HOST}/e2e-test-images`;
/** The image that cyclonus' pods run. Source: cyclonus, pkg/connectivity/probe/pod.go. */
const CYCLONUS_IMAGE = `${REGISTRY}/agnhost:2.43`;
export const CYCLONUS_REGISTRY = HOST;
export const COREDNS_IMAGE = `${REGISTRY}/coredns:1`;
const AGNHOST = "/agnhost";

/** The file behind `KUBE_TEST_REPO_LIST`. Source: Kubernetes, test/utils/image/manifest.go, RegistryList. */
export function registryList(directory: string): string {
  const path = `${directory}/registries.yaml`;
  writeFileSync(path, JSON.stringify({ promoterE2eRegistry: REGISTRY, gcRegistry: REGISTRY }));
  return path;
}

/** What each image of the suite runs by itself; tests of the network need no others. */
const IMAGES: Readonly<Record<string, Omit<Image, "name">>> = {
  agnhost: { entrypoint: [AGNHOST], command: ["pause"] },
  busybox: { command: ["/bin/sh"] },
  "jessie-dnsutils": { command: ["/bin/sleep", "1d"] },
  pause: { entrypoint: [AGNHOST, "pause"] },
};

/** The suite knows the tags. */
async function imagesOf(binaries: SuiteBinaries, directory: string): Promise<readonly Image[]> {
  const listed = await run(["env", `KUBE_TEST_REPO_LIST=${registryList(directory)}`, binaries.e2e, "--list-images"]);
  const names = listed.split("\n").map((line) => line.trim());
  return Object.entries(IMAGES).flatMap(([image, runs]) => {
    const own = names.filter((name) => name.startsWith(`${REGISTRY}/${image}:`));
    if (own.length === 0) throw new ClusterError(`the suite names no image ${image}: ${names.join(", ")}`);
    return own.map((name) => ({ name, ...runs }));
  });
}

const FOLDERS = ["bin", "sbin", "usr/bin", "usr/sbin"];

async function makeRoot(root: string, binaries: SuiteBinaries): Promise<void> {
  cpSync(binaries.root, root, { recursive: true, verbatimSymlinks: true });
  for (const folder of ["doc", "locale", "man"])
    rmSync(`${root}/usr/share/${folder}`, { recursive: true, force: true });
  // busybox' own nc knows no -v, and its sh no arrays.
  for (const [link, target] of [
    ["bin/sh", "bash"],
    ["bin/nc", "nc.openbsd"],
  ] as const)
    if (!existsSync(`${root}/${link}`)) symlinkSync(target, `${root}/${link}`);
  await addBusybox(root, (applet) => FOLDERS.some((folder) => existsSync(`${root}/${folder}/${applet}`)));
  mkdirSync(`${root}/usr/local/bin`, { recursive: true });
  symlinkSync("../../bin/iperf", `${root}/usr/local/bin/iperf`);
  writeFileSync(`${root}/etc/nsswitch.conf`, "hosts: files dns\n");
  mkdirSync(`${root}/uploads`);
  symlinkSync("agnhost", `${root}/agnhost-2`);
  for (const [name, path] of Object.entries({
    agnhost: binaries.agnhost,
    coredns: binaries.coredns,
    ...(binaries.cyclonus === undefined ? {} : { worker: binaries.cyclonus.worker }),
    "localhost.crt": `${binaries.certificates}/localhost.crt`,
    "localhost.key": `${binaries.certificates}/localhost.key`,
  }))
    copyFileSync(path, `${root}/${name}`);
}

/** Packs all images; the archive. Whoever calls removes the folder. */
export async function makeSuiteImages(directory: string, binaries: SuiteBinaries): Promise<string> {
  const work = `${directory}/suite-images`;
  mkdirSync(work, { recursive: true });
  await makeRoot(`${work}/root`, binaries);
  const archive = `${directory}/suite-images.tar`;
  await packImages(work, `${work}/root`, archive, [
    ...(await imagesOf(binaries, directory)),
    { name: COREDNS_IMAGE, entrypoint: ["/coredns"] },
    ...(binaries.cyclonus === undefined ? [] : [{ name: CYCLONUS_IMAGE, entrypoint: [AGNHOST] }]),
  ]);
  rmSync(work, { recursive: true });
  return archive;
}
