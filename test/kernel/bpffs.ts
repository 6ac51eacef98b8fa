/** bpffs: a file system for pins of one test, taken away with all its pins; what a run that crashed has left goes first. */
import { mkdirSync, readdirSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execute, isRunning } from "./fixture.ts";

const PREFIX = "calico-test-bpffs-";
let made = 0;

export interface BpfFs {
  readonly path: string;
  remove(): void;
}

export function makeBpfFs(): BpfFs {
  sweep();
  const path = join(tmpdir(), `${PREFIX}${process.pid}-${++made}`);
  mkdirSync(path);
  execute(["mount", "-t", "bpf", "bpf", path]);
  return { path, remove: () => remove(path) };
}

function remove(path: string): void {
  execute(["umount", path]);
  rmdirSync(path);
}

function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue;
    const pid = Number(name.slice(PREFIX.length).split("-")[0]);
    if (isRunning(pid)) continue;
    // Another run may sweep too.
    try {
      remove(join(tmpdir(), name));
    } catch {
      continue;
    }
  }
}
