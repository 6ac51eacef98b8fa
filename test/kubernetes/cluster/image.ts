/**
 * image: images made on the spot and packed as OCI archives for `ctr images import`; two small ones, `pause` and `box`, are Debian's static
 * busybox.
 */
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { run } from "./run.ts";

export const PAUSE_IMAGE = "localhost/pause:1";
/** busybox with all its applets; `/www/index.html` says "hello". */
export const BOX_IMAGE = "localhost/box:1";
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

function digest(bytes: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
}

/** Stores bytes as a blob of the layout; their descriptor. */
function addBlob(
  layout: string,
  mediaType: string,
  bytes: Uint8Array,
): { mediaType: string; digest: string; size: number } {
  const name = digest(bytes);
  writeFileSync(`${layout}/blobs/sha256/${name.slice("sha256:".length)}`, bytes);
  return { mediaType, digest: name, size: bytes.length };
}

/** Puts busybox into `bin` of a root; its applets are what `has` does not already know. */
export async function addBusybox(root: string, has: (applet: string) => boolean): Promise<void> {
  for (const folder of ["bin", "etc", "tmp", "proc", "sys", "dev"]) mkdirSync(`${root}/${folder}`, { recursive: true });
  const busybox = Bun.which("busybox");
  if (busybox === null) throw new Error("busybox is not installed: apt-get install busybox-static");
  copyFileSync(busybox, `${root}/bin/busybox`);
  const applets = (await run([busybox, "--list"])).trim().split("\n");
  for (const applet of applets)
    if (applet !== "busybox" && !has(applet)) symlinkSync("busybox", `${root}/bin/${applet}`);
  writeFileSync(`${root}/etc/passwd`, "root:x:0:0:root:/:/bin/sh\n");
}

async function makeLayer(directory: string): Promise<string> {
  const root = `${directory}/layer`;
  await addBusybox(root, () => false);
  mkdirSync(`${root}/www`);
  writeFileSync(`${root}/www/index.html`, "hello\n");
  return root;
}

/** What the image runs: as in a Dockerfile. */
export interface Image {
  readonly name: string;
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
}

/** Where `makeImages` leaves both images of a cluster. */
export function imageArchive(directory: string): string {
  return `${directory}/images.tar`;
}

/** Writes both images into one archive. */
export async function makeImages(directory: string): Promise<void> {
  const work = `${directory}/images`;
  await packImages(work, await makeLayer(work), imageArchive(directory), [
    { name: PAUSE_IMAGE, command: ["/bin/busybox", "tail", "-f", "/dev/null"] },
    { name: BOX_IMAGE, command: ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"] },
  ]);
  rmSync(work, { recursive: true });
}

/**
 * Writes images that have the files of `root` for their only layer into one archive; needs a folder to work in.
 * Source: OCI image-spec, image-layout.md and config.md.
 */
export async function packImages(work: string, root: string, archive: string, images: readonly Image[]): Promise<void> {
  const layout = `${work}/oci`;
  mkdirSync(`${layout}/blobs/sha256`, { recursive: true });
  const tar = `${work}/layer.tar`;
  await run(["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C", root, "-cf", tar, "."]);
  const layer = addBlob(layout, "application/vnd.oci.image.layer.v1.tar", await Bun.file(tar).bytes());
  const architecture = process.arch === "arm64" ? "arm64" : "amd64";
  const json = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  const manifests = images.map(({ name, entrypoint, command }) => {
    const config = addBlob(
      layout,
      "application/vnd.oci.image.config.v1+json",
      json({
        architecture,
        os: "linux",
        config: { Entrypoint: entrypoint, Cmd: command, Env: [`PATH=${PATH}`] },
        rootfs: { type: "layers", diff_ids: [layer.digest] },
      }),
    );
    const manifest = addBlob(
      layout,
      "application/vnd.oci.image.manifest.v1+json",
      json({ schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config, layers: [layer] }),
    );
    return {
      ...manifest,
      annotations: { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
    };
  });
  writeFileSync(`${layout}/oci-layout`, JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  writeFileSync(`${layout}/index.json`, JSON.stringify({ schemaVersion: 2, manifests }));
  await run(["tar", "-C", layout, "-cf", archive, "."]);
}
