/** denied: the last packets that the eBPF path has told of as denied, in words that stay true when interfaces and policies have gone. */
import type { Clock } from "../../host/clock.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import type { Key } from "../../model/key.ts";
import type { DeniedBy, DeniedEnd, DeniedPacket } from "../denied.ts";
import type { Decider, PacketEvent } from "./log.ts";

/** Older ones are forgotten. */
export const MOST_KEPT = 500;

export interface KeptDeniedOptions {
  readonly clock: Pick<Clock, "wallMs">;
  /** Of an interface by its index; undefined: it is not known any more. */
  readonly nameOf: (index: number) => string | undefined;
  /** By name of the interface. */
  readonly endpointOf: (name: string) => Key | undefined;
}

export class KeptDenied {
  readonly #options: KeptDeniedOptions;
  #packets: readonly DeniedPacket[] = [];

  constructor(options: KeptDeniedOptions) {
    this.#options = options;
  }

  /** Oldest first. */
  get packets(): readonly DeniedPacket[] {
    return this.#packets;
  }

  /** `now`: nanoseconds since boot. */
  add(events: readonly PacketEvent[], now: bigint): void {
    const wallMs = this.#options.clock.wallMs();
    const added = events.map(({ time, from, to, packet, by }): DeniedPacket => ({
      time: formatTimestamp(wallMs - Number((now - time) / 1_000_000n)),
      from: this.#end(from),
      to: this.#end(to),
      packet,
      by: deniedBy(by),
    }));
    this.#packets = [...this.#packets, ...added].slice(-MOST_KEPT);
  }

  #end(index: number): DeniedEnd {
    if (index === 0) return { interface: undefined, endpoint: undefined };
    const name = this.#options.nameOf(index);
    return {
      interface: name ?? `interface ${index}`,
      endpoint: name === undefined ? undefined : this.#options.endpointOf(name),
    };
  }
}

function deniedBy(by: Decider | undefined): DeniedBy {
  if (by === undefined) return { is: "changed" };
  if (by.is !== "rule") return by;
  const { source, direction, index } = by.rule;
  return { is: "rule", policy: source, tier: by.tier, direction, rule: index + 1 };
}
