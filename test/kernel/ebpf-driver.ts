/** ebpf-driver: the driver of the eBPF dataplane on a node of a test, with the object that is checked in. */
import { readFileSync } from "node:fs";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import type { LongCalls } from "../../src/kernel/bpf/long-calls.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { type Namespace, REAL } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";

/** bpf/path.o. */
export const OBJECT = new Uint8Array(readFileSync(new URL("../../bpf/path.o", import.meta.url)));

/** It has read what the kernel has. `pins`: a directory of a bpffs; `calls`: absent, they are made at once. */
export function openEbpf(node: Namespace, pins: string, object: Uint8Array = OBJECT, calls?: LongCalls): EbpfDriver {
  const options = { object: () => object, pins, clock: openClock(), ownsTable: false, report: () => {} };
  const driver = new EbpfDriver(sysIn(REAL, node), calls === undefined ? options : { ...options, calls });
  finishSteps(driver.reading());
  return driver;
}
