/** executables: what the lab runs of its own build: itself, and the node's executable beside it. */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { CommandError } from "./run.ts";

/** calico-lab, the running one. */
export function labExecutable(): string {
  return process.execPath;
}

/** calico, in the directory of the running calico-lab. Throws a CommandError when it is not there. */
export function nodeExecutable(): string {
  const path = `${dirname(process.execPath)}/calico`;
  if (existsSync(path)) return path;
  throw new CommandError(
    `there is no ${path}: the lab's nodes run the executable calico; put the one of the same build beside calico-lab ("make build" makes both)`,
  );
}
