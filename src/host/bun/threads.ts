/** threads: the platform's workers. */
import { parentPort, Worker } from "node:worker_threads";
import { BugError } from "../../lib/bug.ts";
import type { Thread, ThreadEvents, ThreadOwner } from "../threads.ts";

/** In the executable, where the build lays them beside the main module; elsewhere the sources. */
const isBuilt = import.meta.url.includes("/$bunfs/");
const LIST_THREAD = isBuilt ? "./list-thread.ts" : new URL("../../list-thread.ts", import.meta.url);
const CALL_THREAD = isBuilt ? "./call-thread.ts" : new URL("../../call-thread.ts", import.meta.url);

/** Starts `src/list-thread.ts`. */
export function startListThread(events: ThreadEvents): Thread {
  return threadOf(new Worker(LIST_THREAD), events);
}

/** Starts `src/call-thread.ts`. A process that has nothing else to do does not wait for it. */
export function startCallThread(events: ThreadEvents): Thread {
  const worker = new Worker(CALL_THREAD);
  const thread = threadOf(worker, events);
  // What listens to it would hold the process again.
  worker.unref();
  return thread;
}

function threadOf(worker: Worker, events: ThreadEvents): Thread {
  let isOpen = true;
  const end = (cause: string): void => {
    if (!isOpen) return;
    isOpen = false;
    void worker.terminate();
    events.ended(cause);
  };
  worker.on("message", (text: string) => {
    if (isOpen) events.received(text);
  });
  worker.on("error", (error: Error) => end(error.stack ?? error.message));
  worker.on("exit", (code) => end(`it exited with ${code}`));
  return {
    send: (text) => {
      if (isOpen) worker.postMessage(text);
    },
    close: () => {
      isOpen = false;
      void worker.terminate();
    },
  };
}

/** For the program of a thread. */
export function threadOwner(): ThreadOwner {
  const port = parentPort;
  if (port === null) throw new BugError("this is no thread that another has started");
  return {
    send: (text) => port.postMessage(text),
    receive: (received) => port.on("message", received),
  };
}
