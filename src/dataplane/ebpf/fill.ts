/** fill: how full the maps are, out of what is known of them; flows are counted. */
import { Breath } from "../../host/breath.ts";
import type { Clock } from "../../host/clock.ts";
import type { MapFill } from "../counters.ts";
import type { Image } from "./image.ts";
import { RECORD_BYTES } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";

/** Rejects with KernelError. */
export async function fillOf(image: Image, maps: DataplaneMaps, clock: Clock): Promise<readonly MapFill[]> {
  const { blocks, sets, endpoints, failsafes } = image;
  const sum = <T>(all: Iterable<T>, of: (each: T) => number): number => {
    let total = 0;
    for (const each of all) total += of(each);
    return total;
  };
  const known = {
    records: sum(blocks.values(), ({ records }) => records.length / RECORD_BYTES),
    members: sum(sets.values(), ({ members }) => members.size),
    nets: sum(sets.values(), ({ nets }) => nets.size),
    endpoints: endpoints.size,
    addresses: sum(endpoints.values(), ({ addresses }) => addresses.size),
    failsafes: failsafes.size,
    objects: blocks.size + sets.size + endpoints.size,
  };
  let connections = 0;
  const breath = new Breath(clock);
  for (const batch of maps.connections.batches()) {
    connections += batch.length;
    await breath.after(1);
  }
  const room = ({ definition }: DataplaneMaps["records"]): number => definition.maxEntries;
  return [
    { map: "records", entries: known.records, room: room(maps.records) },
    { map: "members", entries: known.members, room: room(maps.members) },
    { map: "nets", entries: known.nets, room: room(maps.nets) },
    { map: "endpoints", entries: known.endpoints, room: room(maps.endpoints) },
    { map: "addresses", entries: known.addresses, room: room(maps.addresses) },
    { map: "failsafes", entries: known.failsafes, room: room(maps.failsafes) },
    { map: "objects", entries: known.objects, room: room(maps.objects) },
    { map: "connections", entries: connections, room: room(maps.connections) },
  ];
}
