/** Safety: what must hold of a node's kernel after every operation: an interface of a pod that is not programmed passes nothing. */
import { hexInterface } from "../../src/dataplane/nftables/bytes.ts";
import { TABLE, workloadMap } from "../../src/dataplane/nftables/names.ts";
import { MAIN_TABLE } from "../../src/kernel/route/client.ts";
import type { FakeKernel } from "../../src/kernel/fake/kernel.ts";
import { unwrap } from "../../src/lib/result.ts";
import { type Addr, familyOf, parseAddr } from "../../src/net/addr.ts";
import { prefixOfAddr } from "../../src/net/prefix.ts";
import { fateOf, type Packet } from "./evaluate.ts";
import { UPLINK } from "./machine.ts";

const addr = (text: string): Addr => unwrap(parseAddr(text));
/** Of nobody; and of pods, whether these are somebody's or not. */
const FOREIGN = [addr("203.0.113.9"), addr("2001:db8::9")];
const WORLD = [addr("198.51.100.7"), addr("2001:db8::7")];
const STRANGER = "calistranger";
const POOLS = [addr("10.65.0.1"), addr("fd00:65::1")];

/** Which interface is open that should not be, in words; undefined when none is. */
export function checkClosed(kernel: FakeKernel): string | undefined {
  const table = kernel.root.nftables.tables.find(({ name }) => name === "calico");
  const dispatch = table?.sets.get(workloadMap("egress"));
  for (const link of kernel.root.route.links.all()) {
    if (!link.name.startsWith("cali") || link.name.startsWith("caligateway") || !link.up) continue;
    const isKnown = dispatch?.elements.get(hexInterface(link.name)) !== undefined;
    for (const family of [0, 1] as const) {
      const spoofed: Packet = packet(link.name, UPLINK, FOREIGN[family], WORLD[family]);
      const sent: Packet = packet(link.name, UPLINK, POOLS[family], WORLD[family]);
      const received: Packet = packet(UPLINK, link.name, WORLD[family], POOLS[family]);
      const closed: [string, Packet, "forward" | "input"][] = [
        ["forwards a packet with a source that is nobody's", spoofed, "forward"],
        ["takes a packet with a source that is nobody's", spoofed, "input"],
      ];
      if (!isKnown)
        closed.push(
          ["forwards a packet of a pod that is not programmed", sent, "forward"],
          ["forwards a packet to a pod that is not programmed", received, "forward"],
        );
      for (const [what, one, hook] of closed)
        if (fateOf(table, hook, one) !== "drop")
          return `interface ${link.name} ${what} (${one.source} to ${one.destination})`;
    }
  }
  return undefined;
}

/** What of a pod is not in the kernel, in words; undefined when all is. */
export function whyNotProgrammed({ root }: FakeKernel, name: string, addresses: readonly string[]): string | undefined {
  const link = root.route.links.byName(name);
  if (link?.up !== true) return `interface ${name} is not up`;
  const table = root.nftables.tables.find((one) => one.name === TABLE.name);
  const key = hexInterface(name);
  for (const direction of ["ingress", "egress"] as const)
    if (table?.sets.get(workloadMap(direction))?.elements.get(key) === undefined)
      return `${name} has no ${direction} rules`;
  for (const text of addresses) {
    const family = familyOf(addr(text));
    const has = root.route.routes
      .of(family, MAIN_TABLE)
      .some(
        ({ destination, hops }) =>
          destination === prefixOfAddr(addr(text)) && hops.some(({ index }) => index === link.index),
      );
    if (!has) return `there is no route to ${text}`;
  }
  return undefined;
}

/** Whether the table closes an interface that it does not know, whichever there are. */
export function isWhole(kernel: FakeKernel): boolean {
  const table = kernel.root.nftables.tables.find(({ name }) => name === "calico");
  return ([0, 1] as const).every((family) => {
    const sent = packet(STRANGER, UPLINK, POOLS[family], WORLD[family]);
    const received = packet(UPLINK, STRANGER, WORLD[family], POOLS[family]);
    return (
      fateOf(table, "forward", sent) === "drop" &&
      fateOf(table, "input", sent) === "drop" &&
      fateOf(table, "forward", received) === "drop"
    );
  });
}

function packet(input: string, output: string, source: Addr | undefined, destination: Addr | undefined): Packet {
  if (source === undefined || destination === undefined) throw new Error("no address");
  return { input, output, source, destination };
}
