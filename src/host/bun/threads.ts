/** threads: the platform's workers. */
import { parentPort, Worker } from "node:worker_threads";
import { BugError } from "../../lib/bug.ts";
import type { Thread, ThreadEvents, ThreadOwner } from "../threads.ts";

/** In the executable, where the build lays it beside the main module; elsewhere the source. */
const LIST_THREAD = import.meta.url.includes("/$bunfs/")
  ? "./list-thread.ts"
  : new URL("../../list-thread.ts", import.meta.url);

/** Starts `src/list-thread.ts`. */
export function startListThread(events: ThreadEvents): Thread {
  const worker = new Worker(LIST_THREAD);
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
