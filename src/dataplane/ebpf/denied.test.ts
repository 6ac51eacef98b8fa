/** What is kept of denied packets: so many, with names and times of then. */
import { expect, test } from "bun:test";
import type { Addr } from "../../net/addr.ts";
import { UDP } from "../../net/protocol.ts";
import { KeptDenied, MOST_KEPT } from "./denied.ts";
import type { PacketEvent } from "./log.ts";

const NOW = 1_000_000_000_000n;

function event(second: number, sourcePort: number): PacketEvent {
  const [source, destination] = ["fd00::1", "fd00::2"] as readonly string[] as readonly [Addr, Addr];
  return {
    kind: "denied",
    time: NOW - BigInt(second) * 1_000_000_000n,
    by: { is: "end", direction: "egress" },
    packet: { source, destination, protocol: UDP, sourcePort, destinationPort: 80 },
    from: 7,
    to: 9,
  };
}

test("the oldest go; names are those of then; times are those of the packets", () => {
  let name = "cali7";
  const kept = new KeptDenied({
    clock: { wallMs: () => 1_800_000_000_000 },
    nameOf: (index) => (index === 7 ? name : undefined),
    endpointOf: (of) => ({ kind: "Pod", namespace: "a", name: of }),
  });
  kept.add([event(60, 0), { ...event(0, 1), from: 0 }], NOW);
  name = "gone";
  expect(kept.packets).toMatchObject([
    {
      time: "2027-01-15T07:59:00.000Z",
      from: { interface: "cali7", endpoint: { name: "cali7" } },
      to: { interface: "interface 9", endpoint: undefined },
      by: { is: "end", direction: "egress" },
    },
    { time: "2027-01-15T08:00:00.000Z", from: { interface: undefined, endpoint: undefined } },
  ]);
  for (let i = 2; i < MOST_KEPT + 10; i++) kept.add([event(0, i)], NOW);
  expect(kept.packets.map(({ packet }) => packet.sourcePort)).toEqual(
    Array.from({ length: MOST_KEPT }, (_, i) => i + 10),
  );
});
