/** pins: the directory of a bpffs in which maps and programs outlive the daemon: mounted if it is not, and cleared of what nobody uses. */
import { parentOf } from "../../lib/path.ts";
import { EIO, KernelError } from "../../kernel/errno.ts";
import { FileError, type Files } from "../../host/files.ts";
import type { Processes } from "../../host/processes.ts";

const PREFIX = "calico-";

/** Rejects with KernelError when there can be none. */
export async function ensurePins(
  files: Pick<Files, "readText" | "makeDirectory">,
  processes: Processes,
  pins: string,
): Promise<void> {
  const parent = parentOf(pins);
  await orKernelError("make directory for pins", pins, async () => {
    if (!(await isBpfFs(files, pins))) {
      await files.makeDirectory(parent);
      const command = ["mount", "-t", "bpf", "bpf", parent];
      const { exitCode, stderr } = await processes.run(command).catch((error: unknown) => {
        throw new KernelError("mount a bpffs at", parent, EIO, error instanceof Error ? error.message : String(error));
      });
      if (exitCode !== 0) throw new KernelError("mount a bpffs at", parent, EIO, stderr.trim());
    }
    await files.makeDirectory(pins);
  });
}

/** Whether the mount in which the path is, the last of those at the longest of its parents, is a bpffs. */
export async function isBpfFs(files: Pick<Files, "readText">, path: string): Promise<boolean> {
  const mounts = (await files.readText("/proc/self/mounts")) ?? "";
  let found: { readonly at: string; readonly type: string } | undefined;
  for (const line of mounts.split("\n")) {
    const [, at, type = ""] = line.split(" ");
    if (at === undefined || !`${path}/`.startsWith(at === "/" ? at : `${at}/`)) continue;
    if (found === undefined || at.length >= found.at.length) found = { at, type };
  }
  return found?.type === "bpf";
}

/** Removes all pins of ours but those with these names. Rejects with KernelError. */
export async function removePins(
  files: Pick<Files, "list" | "remove">,
  pins: string,
  kept: ReadonlySet<string>,
): Promise<void> {
  await removeNamed(files, pins, (name) => name.startsWith(PREFIX) && !kept.has(name));
}

/** Removes the files of the directory that are so called; there may be none. Rejects with KernelError. */
export async function removeNamed(
  files: Pick<Files, "list" | "remove">,
  directory: string,
  isSo: (name: string) => boolean,
): Promise<void> {
  await orKernelError("remove pins in", directory, async () => {
    for (const name of await files.list(directory)) if (isSo(name)) await files.remove(`${directory}/${name}`);
  });
}

async function orKernelError(op: string, object: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    throw new KernelError(op, object, EIO, error.message);
  }
}
