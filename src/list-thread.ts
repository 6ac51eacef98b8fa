/** list-thread: the program of the thread that reads lists for the daemon (`datastore/list-thread.ts`). */
import { serveLists } from "./datastore/list-thread.ts";
import { openClock } from "./host/bun/clock.ts";
import { openFiles } from "./host/bun/files.ts";
import { openRandom } from "./host/bun/random.ts";
import { openSockets } from "./host/bun/sockets.ts";
import { threadOwner } from "./host/bun/threads.ts";

serveLists(threadOwner(), { clock: openClock(), files: openFiles(), random: openRandom(), sockets: openSockets() });
