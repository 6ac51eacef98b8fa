import { expect, test } from "bun:test";
import type { Bgp, BgpPool } from "../model/bgp.ts";
import type { NodeAddresses } from "../model/convert/node.ts";
import type { KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import { renderBirdConfiguration, routerId } from "./configuration.ts";
import { birdInputOf } from "./input.ts";

function addresses(ipv4: string | undefined, ipv6?: string): NodeAddresses {
  return { ipv4: ipv4 as Addr | undefined, ipv6: ipv6 as Addr | undefined };
}

function table<T, V>(values: readonly T[], value: (each: T) => V): Map<KeyText, V> {
  return new Map(values.map((each, index) => [`${index}` as KeyText, value(each)]));
}

function bgp(
  own: NodeAddresses,
  peers: Readonly<Record<string, NodeAddresses>>,
  pools: readonly (readonly [cidr: string, exported: boolean])[] = [],
  blocks: readonly string[] = [],
  borrowed: readonly (readonly string[])[] = [],
  machines: readonly string[] = [],
): Bgp {
  return {
    addresses: own,
    peers: new Map(Object.entries(peers)),
    pools: table(pools, ([cidr, exported]): BgpPool => ({ prefix: cidr as Prefix, exported })),
    blocks: table(blocks, (cidr) => cidr as Prefix),
    borrowed: table(borrowed, (addrs) => addrs as readonly Addr[]),
    machines: new Map([["tap0", machines as readonly Addr[]]]),
  };
}

test("peers of both families by name, whatever their order of arrival; pools, blocks and borrowed addresses", () => {
  const peers = {
    n3: addresses("10.0.0.3", "fd00::3"),
    n2: addresses("10.0.0.2", "fd00::2"),
    n4: addresses(undefined, "fd00::4"),
  };
  const pools = [
    ["10.244.0.0/16", true],
    ["fd01::/48", false],
  ] as const;
  const input = birdInputOf(
    "n1",
    bgp(addresses("10.0.0.1", "fd00::1"), peers, pools, ["10.244.0.0/30"], [["10.244.0.4", "10.244.0.7"], ["fd01::4"]]),
  );
  expect(input).toEqual({
    node: "n1",
    addresses: { ipv4: "10.0.0.1", ipv6: "fd00::1" },
    asNumber: 64512,
    peers: [
      { node: "n2", address: "10.0.0.2" },
      { node: "n2", address: "fd00::2" },
      { node: "n3", address: "10.0.0.3" },
      { node: "n3", address: "fd00::3" },
      { node: "n4", address: "fd00::4" },
    ],
    pools: ["10.244.0.0/16", "fd01::/48"],
    unexported: ["fd01::/48"],
    blocks: ["10.244.0.0/30"],
    single: ["10.244.0.4", "10.244.0.7", "fd01::4"],
  } as never);
});

test("a node that is not known yet has a router id but no sessions", () => {
  const input = birdInputOf("n9", bgp(addresses(undefined), { n1: addresses("10.0.0.1") }));
  expect(renderBirdConfiguration(input)).not.toContain("protocol bgp");
  expect(routerId(input)).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
  expect(routerId(input)).not.toBe(routerId({ ...input, node: "n8" }));
});

test("a pool with disableBGPExport: its blocks still belong to the node, and nothing in it is announced", () => {
  const pools = [
    ["10.244.0.0/16", false],
    ["fd01::/48", false],
    ["10.245.0.0/16", true],
    ["fd02::/48", true],
  ] as const;
  const blocks = ["10.244.0.0/30", "10.245.0.0/30", "fd01::4/126", "fd02::4/126"];
  const own = addresses("10.0.0.1", "fd00::1");
  const input = birdInputOf("n1", bgp(own, {}, pools, blocks, [["10.244.0.4"], ["fd01::8"]]));
  expect<readonly string[]>(input.unexported).toEqual(["10.244.0.0/16", "fd01::/48"]);
  const text = renderBirdConfiguration(input);
  expect([...text.matchAll(/route (\S+) blackhole/g)].map(([, prefix]) => prefix)).toEqual([
    "10.245.0.0/30",
    "fd02::4/126",
  ]);
  expect(text).toContain("if net ~ [ 10.244.0.0/30-, 10.245.0.0/30- ] then reject;");
});

test("addresses of machines are announced one by one, unless a block of the node has them", () => {
  const { single } = birdInputOf(
    "n1",
    bgp(addresses("10.0.0.1"), {}, [], ["10.244.0.0/30"], [["10.244.0.4"]], ["10.244.0.1", "10.244.0.4", "10.9.0.1"]),
  );
  expect(single).toEqual(["10.244.0.4", "10.9.0.1"] as Addr[]);
});
