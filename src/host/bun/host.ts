/** The real Host: the machine and kernel that this process runs on. */
import type { Host } from "../host.ts";
import { openClock } from "./clock.ts";
import { openFiles } from "./files.ts";
import { openProcesses } from "./processes.ts";
import { openRandom } from "./random.ts";
import { openSockets } from "./sockets.ts";
import { openSys } from "./sys.ts";
import { openWatcher } from "./watcher.ts";

/** Throws when no way to make system calls passes its self-test. */
export function openHost(): Host {
  return {
    clock: openClock(),
    random: openRandom(),
    files: openFiles(),
    processes: openProcesses(),
    sockets: openSockets(),
    sys: openSys(),
    watcher: openWatcher(),
  };
}
