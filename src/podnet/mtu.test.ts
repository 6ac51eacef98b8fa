import { expect, test } from "bun:test";
import { uplinkMtuBytes } from "./mtu.ts";

const link = (name: string, mtuBytes: number) => ({ name, mtuBytes });

test.each([
  ["the node's own interface", [link("lo", 65536), link("eth0", 1400), link("cali123", 9000)], 1400],
  ["the smallest of several", [link("ens5", 9001), link("enp0s3", 1450)], 1450],
  ["no uplink by name: Ethernet's", [link("lo", 65536), link("br0", 1280)], 1500],
] as const)("%s", (_, links, mtuBytes) => {
  expect(uplinkMtuBytes(links)).toBe(mtuBytes);
});
