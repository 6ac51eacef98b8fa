/** install: this executable under other names in another directory, as hard links where the file system allows. */
import { chmodSync, copyFileSync, linkSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";

/** Replaces each name atomically, so that a runtime never finds a partial file. */
export async function installLinks(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) replace(prepare(directory, name), `${directory}/${name}`);
}

/**
 * As `installLinks`, but leaves another program of that name unchanged and returns false. A file of an earlier installation of this
 * executable is replaced; it is recognised by being the same file as `sibling` beside it, so install the sibling afterwards.
 */
export async function installUnlessForeign(directory: string, name: string, sibling: string): Promise<boolean> {
  const target = `${directory}/${name}`;
  const temporary = prepare(directory, name);
  try {
    // Unlike rename, link fails when the name exists.
    linkSync(temporary, target);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    if (!isSameFile(target, process.execPath) && !isSameFile(target, `${directory}/${sibling}`)) return false;
    replace(temporary, target);
  } finally {
    rmSync(temporary, { force: true });
  }
  return true;
}

function replace(temporary: string, target: string): void {
  renameSync(temporary, target);
  // rename(2) does nothing, successfully, when both names are the same file.
  rmSync(temporary, { force: true });
}

/** Path of a complete copy of the executable under a temporary name. */
function prepare(directory: string, name: string): string {
  const temporary = `${directory}/.${name}.new`;
  rmSync(temporary, { force: true });
  try {
    linkSync(process.execPath, temporary);
  } catch {
    // Another file system: a copy does as well.
    copyFileSync(process.execPath, temporary);
    chmodSync(temporary, 0o755);
  }
  return temporary;
}

/** Hard links, or copies. */
function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => statSync(path, { throwIfNoEntry: false }));
  if (a === undefined || b === undefined || a.size !== b.size) return false;
  return (a.dev === b.dev && a.ino === b.ino) || readFileSync(one).equals(readFileSync(other));
}

export function writeStdout(text: string): void {
  process.stdout.write(text);
}
