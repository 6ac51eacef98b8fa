/** fill: how full the maps are and what memory they take: out of what is known of them, else counted. */
import { Breath } from "../../host/breath.ts";
import { RING_HEADER_BYTES } from "../../kernel/bpf/ring.ts";
import type { Clock } from "../../host/clock.ts";
import type { MapFill } from "../counters.ts";
import type { Image } from "./image.ts";
import { EVENT_BYTES, RECORD_BYTES } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";

/** Rejects with KernelError. */
export async function fillOf(
  image: Image,
  maps: Pick<DataplaneMaps, "all">,
  clock: Clock,
): Promise<readonly MapFill[]> {
  const known = knownOf(image);
  const breath = new Breath(clock);
  const filled: MapFill[] = [];
  for (const map of maps.all) {
    const { name, type, maxEntries } = map.definition;
    const room = type === "ring" ? Math.floor(maxEntries / (RING_HEADER_BYTES + EVENT_BYTES)) : maxEntries;
    let entries = known.get(name);
    if (entries === undefined && (type === "hash" || type === "lru-hash")) {
      entries = 0;
      for (const batch of map.batches()) {
        entries += batch.length;
        await breath.after(1);
      }
    }
    filled.push({ map: name, ...(entries === undefined ? {} : { entries }), room, bytes: map.memoryBytes() });
  }
  return filled;
}

/** Entries by name of the map. */
function knownOf({ blocks, sets, endpoints, failsafes }: Image): ReadonlyMap<string, number> {
  const records = sum(blocks.values(), (block) => block.records.length / RECORD_BYTES);
  return new Map([
    ["records", records],
    ["counters", records],
    ["members", sum(sets.values(), ({ members }) => members.size)],
    ["nets", sum(sets.values(), ({ nets }) => nets.size)],
    ["endpoints", endpoints.size],
    ["addresses", sum(endpoints.values(), ({ addresses }) => addresses.size)],
    ["failsafes", failsafes.size],
  ]);
}

function sum<T>(all: Iterable<T>, of: (each: T) => number): number {
  let total = 0;
  for (const each of all) total += of(each);
  return total;
}
