/** ebpf-drops: how many packets the eBPF path has dropped, by whatever step, rule or end. */
import type { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { ACTIONS, decodeRecords, DROPS, type ProgramRecord, RECORD_KINDS } from "../../src/dataplane/ebpf/layout.ts";

const DENIES: ReadonlySet<number> = new Set([RECORD_KINDS.action, RECORD_KINDS["tier-end"], RECORD_KINDS.end]);

function denies({ kind, detail }: ProgramRecord): boolean {
  return DENIES.has(kind) && detail === ACTIONS.deny;
}

/** Of the program that was committed last. */
export function packetsDropped({ maps, image }: EbpfDriver): bigint {
  let sum = 0n;
  for (const each of numbersOf(maps.drops.values(0, DROPS.length))) sum += each;
  for (const { start, records } of image?.blocks.values() ?? []) {
    const decoded = decodeRecords(records);
    if (!decoded.some(denies)) continue;
    const counts = numbersOf(maps.counters.values(start, decoded.length));
    for (const [i, record] of decoded.entries()) if (denies(record)) sum += counts[2 * i] ?? 0n;
  }
  return sum;
}

/** Of the step that drops. */
export function packetsDroppedAt({ maps }: EbpfDriver, step: string): bigint {
  return numbersOf(maps.drops.values(DROPS.indexOf(step), 1))[0] ?? 0n;
}

function numbersOf(values: Uint8Array): BigUint64Array {
  return new BigUint64Array(values.buffer, values.byteOffset, values.length / 8);
}
