/** install: this executable under other names in another directory, as hard links where the file system allows. */
import { chmodSync, copyFileSync, linkSync, renameSync, rmSync } from "node:fs";

/** Replaces each name in one step, so that a runtime never finds half a file. */
export async function installLinks(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const target = `${directory}/${name}`;
    const temporary = `${directory}/.${name}.new`;
    rmSync(temporary, { force: true });
    try {
      linkSync(process.execPath, temporary);
    } catch {
      // Another file system: a copy does as well.
      copyFileSync(process.execPath, temporary);
      chmodSync(temporary, 0o755);
    }
    renameSync(temporary, target);
  }
}

export function writeStdout(text: string): void {
  process.stdout.write(text);
}
