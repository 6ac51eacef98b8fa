/** random: the platform's random numbers and UUIDs. */
import type { Random } from "../random.ts";

export function openRandom(): Random {
  return { fraction: () => Math.random(), uuid: () => crypto.randomUUID() };
}
