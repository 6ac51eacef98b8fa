/** lab: hands `calico lab` and `calico apiserver` over to calico-lab, a separate executable that nodes do not need. */
import { accessSync, constants } from "node:fs";
import { dirname } from "node:path";
import { BugError } from "../lib/bug.ts";
import { EXIT_FAILED } from "../lib/command-line.ts";

/**
 * Replaces this process by the calico-lab beside the running executable, with these arguments. Standard streams, signals and the exit
 * code are then calico-lab's. Returns only if it cannot be run: the exit code, after printing the error.
 */
export function runCalicoLab(command: "lab" | "apiserver", args: readonly string[]): number {
  const path = `${dirname(process.execPath)}/calico-lab`;
  if (process.execve === undefined) throw new BugError("there is no execve");
  try {
    // execve alone would add to the error that it is experimental.
    accessSync(path, constants.X_OK);
    return process.execve(path, [path, ...args]);
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    console.error(
      `calico ${command}: cannot run ${path}: ${String(error.code)}; the lab is an executable of its own: install calico-lab, of the same build, beside calico`,
    );
    return EXIT_FAILED;
  }
}
