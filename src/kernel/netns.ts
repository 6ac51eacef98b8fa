/**
 * netns: network namespaces of the calling thread. Sockets opened inside stay in their namespace.
 *
 * Only the thread that calls changes its namespace: nothing asynchronous may happen inside `withNamespace`, so it takes no
 * function that returns a promise.
 */
import type { Sys } from "../host/sys.ts";
import { BugError } from "../lib/bug.ts";
import { checkResult } from "./errno.ts";

const CLONE_NEWNET = 0x40000000;
const O_RDONLY = 0;
/** The namespace of the thread itself, which may differ from that of its process. */
const OWN = "/proc/thread-self/ns/net";

/** Descriptor of the namespace at the path; throws KernelError. */
export function openNamespace(sys: Sys, path: string): number {
  return checkResult("open network namespace", JSON.stringify(path), sys.open(path, O_RDONLY));
}

/** Runs in the namespace at the path. Throws KernelError when it does not exist (ENOENT) or is no network namespace (EINVAL). */
export function withNamespace<T>(sys: Sys, path: string, run: () => T extends PromiseLike<unknown> ? never : T): T {
  const target = openNamespace(sys, path);
  try {
    return withNamespaceFd(sys, target, path, run);
  } finally {
    sys.close(target);
  }
}

/** As `withNamespace`, in the namespace of an open descriptor; `name` is for messages. */
export function withNamespaceFd<T>(
  sys: Sys,
  target: number,
  name: string,
  run: () => T extends PromiseLike<unknown> ? never : T,
): T {
  const own = openNamespace(sys, OWN);
  try {
    checkResult("enter network namespace", JSON.stringify(name), sys.setNamespace(target, CLONE_NEWNET));
    try {
      return run();
    } finally {
      goBack(sys, own, name);
    }
  } finally {
    sys.close(own);
  }
}

/** A thread left in a pod's namespace would do all later work there: nothing may go on. */
function goBack(sys: Sys, own: number, name: string): void {
  const result = sys.setNamespace(own, CLONE_NEWNET);
  if (result < 0) throw new BugError(`Cannot return from network namespace ${JSON.stringify(name)}: errno ${-result}`);
}
