/** Namespace: runs one synchronous action with the thread in another network namespace; a socket opened there stays there. */
import { closeSync, openSync } from "node:fs";
import type { Sys } from "../../src/host/sys.ts";

const CLONE_NEWNET = 0x40000000;

/** Runs the action inside the network namespace of the file and returns to the own one, even when the action throws. */
export function inNetworkNamespace<T>(sys: Sys, path: string, action: () => T): T {
  const home = openSync("/proc/thread-self/ns/net", "r");
  try {
    const target = openSync(path, "r");
    try {
      enter(sys, target, path);
    } finally {
      closeSync(target);
    }
    try {
      return action();
    } finally {
      enter(sys, home, "/proc/thread-self/ns/net");
    }
  } finally {
    closeSync(home);
  }
}

function enter(sys: Sys, fd: number, path: string): void {
  const result = sys.setNamespace(fd, CLONE_NEWNET);
  if (result < 0) throw new Error(`Cannot enter the network namespace ${JSON.stringify(path)}: errno ${-result}`);
}
