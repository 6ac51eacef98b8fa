/** install: this executable under other names in another directory, as hard links where the file system allows. */
import { chmodSync, copyFileSync, linkSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";

/** Replaces each name in one step, so that a runtime never finds half a file. */
export async function installLinks(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) replace(prepare(directory, name), `${directory}/${name}`);
}

/**
 * As `installLinks`, but another program of that name stays as it is: false then. What an earlier installation of this executable left
 * is replaced; it is known by being the same file as `sibling` beside it, so install the sibling afterwards.
 */
export async function installUnlessForeign(directory: string, name: string, sibling: string): Promise<boolean> {
  const target = `${directory}/${name}`;
  const temporary = prepare(directory, name);
  try {
    // Unlike a rename it refuses when there is something already.
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

/** Path of the executable under a temporary name, whole. */
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
