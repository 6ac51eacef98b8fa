/** Host: all interfaces to the outside world in one value; a module depends only on those that it uses. */
import type { Clock } from "./clock.ts";
import type { Files } from "./files.ts";
import type { Processes } from "./processes.ts";
import type { Random } from "./random.ts";
import type { Sockets } from "./sockets.ts";
import type { Sys } from "./sys.ts";
import type { Watcher } from "./watcher.ts";

export interface Host {
  readonly clock: Clock;
  readonly random: Random;
  readonly files: Files;
  readonly processes: Processes;
  readonly sockets: Sockets;
  readonly sys: Sys;
  readonly watcher: Watcher;
}
