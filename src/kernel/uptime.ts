/** uptime: the clock of bpf_ktime_get_boot_ns, which goes on while the machine sleeps, as /proc/uptime tells it: exact to 10 ms. */
import type { Sys } from "../host/sys.ts";
import { checkResult, EINVAL, KernelError } from "./errno.ts";

const PATH = "/proc/uptime";
const O_RDONLY = 0;

/** Nanoseconds since boot. Throws KernelError. */
export function nanosecondsSinceBoot(sys: Sys): bigint {
  const fd = checkResult("read", PATH, sys.open(PATH, O_RDONLY));
  try {
    const buffer = new Uint8Array(64);
    const length = checkResult("read", PATH, sys.read(fd, buffer));
    const text = new TextDecoder().decode(buffer.subarray(0, length));
    const [, seconds, hundredths] = /^(\d+)\.(\d\d) /.exec(text) ?? [];
    if (seconds === undefined || hundredths === undefined)
      throw new KernelError("read", PATH, EINVAL, `it says ${text}`);
    return BigInt(seconds) * 1_000_000_000n + BigInt(hundredths) * 10_000_000n;
  } finally {
    sys.close(fd);
  }
}
