/**
 * sysctl: kernel settings under /proc/sys, read and written synchronously.
 *
 * What is under `net/` belongs to the network namespace of the calling thread at the moment of opening: for another
 * namespace, call within `withNamespace`. Names are paths: `net/ipv4/conf/eth0/forwarding`.
 */
import type { Sys } from "../host/sys.ts";
import { checkResult, ENOENT } from "./errno.ts";

const O_RDONLY = 0;
const O_WRONLY = 1;
const VALUE_BYTES = 4096;

/** Throws KernelError naming the setting; ENOENT when the kernel does not have it. */
export function writeSysctl(sys: Sys, name: string, value: string): void {
  const fd = checkResult(`set sysctl ${name} to`, value, sys.open(`/proc/sys/${name}`, O_WRONLY));
  try {
    checkResult(`set sysctl ${name} to`, value, sys.write(fd, new TextEncoder().encode(value)));
  } finally {
    sys.close(fd);
  }
}

/** The value without its line end; undefined when the kernel does not have the setting. Throws KernelError. */
export function readSysctl(sys: Sys, name: string): string | undefined {
  const fd = sys.open(`/proc/sys/${name}`, O_RDONLY);
  if (fd === -ENOENT) return undefined;
  checkResult("read sysctl", name, fd);
  try {
    const buffer = new Uint8Array(VALUE_BYTES);
    const length = checkResult("read sysctl", name, sys.read(fd, buffer));
    return new TextDecoder().decode(buffer.subarray(0, length)).trimEnd();
  } finally {
    sys.close(fd);
  }
}
