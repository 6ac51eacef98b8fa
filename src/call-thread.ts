/** call-thread: the program of the thread that makes long calls for the daemon (`kernel/bpf/long-calls.ts`). */
import { openSys } from "./host/bun/sys.ts";
import { threadOwner } from "./host/bun/threads.ts";
import { serveCalls } from "./kernel/bpf/long-calls.ts";

serveCalls(threadOwner(), openSys());
