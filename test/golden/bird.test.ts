/**
 * Goldens of BIRD's configuration: nodes, blocks and pools in, the file out; each is read by the real BIRD.
 * UPDATE_GOLDENS=1 writes them anew; read the difference before it is kept.
 */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { type BirdInput, renderBirdConfiguration } from "../../src/bird/configuration.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Prefix } from "../../src/net/prefix.ts";

const V4: BirdInput = {
  node: "n1",
  addresses: { ipv4: "172.18.0.2" as Addr, ipv6: undefined },
  asNumber: 64512,
  peers: [
    { node: "n3", address: "172.18.0.4" as Addr },
    { node: "n2", address: "172.18.0.10" as Addr },
    { node: "six", address: "fd00:18::3" as Addr },
  ],
  pools: ["10.244.0.0/16", "10.9.0.0/24"] as Prefix[],
  unexported: [],
  blocks: ["10.244.7.64/26", "10.244.3.0/26"] as Prefix[],
  single: ["10.244.200.9"] as Addr[],
};
const V6: BirdInput = {
  node: "n1",
  addresses: { ipv4: undefined, ipv6: "fd00:18::2" as Addr },
  asNumber: 64512,
  peers: [{ node: "n2", address: "fd00:18::3" as Addr }],
  pools: ["fd00:10::/48"] as Prefix[],
  unexported: [],
  blocks: ["fd00:10::4c0/122"] as Prefix[],
  single: ["fd00:10::9:1"] as Addr[],
};
const CASES: Readonly<Record<string, BirdInput>> = {
  ipv4: V4,
  ipv6: V6,
  "dual-stack": {
    ...V4,
    addresses: { ipv4: V4.addresses.ipv4, ipv6: V6.addresses.ipv6 },
    pools: [...V4.pools, ...V6.pools],
    blocks: [...V4.blocks, ...V6.blocks],
    single: [...V4.single, ...V6.single],
  },
  alone: {
    node: 'n1"; evil {',
    addresses: { ipv4: undefined, ipv6: undefined },
    asNumber: 64512,
    peers: [],
    pools: [],
    unexported: [],
    blocks: [],
    single: [],
  },
};

test.each(Object.entries(CASES))("%s", (name, input) => {
  const path = `${import.meta.dir}/bird/${name}.conf`;
  const text = renderBirdConfiguration(input);
  if (process.env["UPDATE_GOLDENS"] === "1") writeFileSync(path, text);
  expect(text).toBe(readFileSync(path, "utf8"));
  const check = Bun.spawnSync(["bird", "-p", "-c", path]);
  expect(check.stderr.toString()).toBe("");
  expect(check.exitCode).toBe(0);
});

test("the order of the input does not matter", () => {
  const input = CASES["dual-stack"] ?? V4;
  const reversed: BirdInput = {
    ...input,
    peers: [...input.peers].reverse(),
    pools: [...input.pools].reverse(),
    blocks: [...input.blocks].reverse(),
    single: [...input.single].reverse(),
  };
  expect(renderBirdConfiguration(reversed)).toBe(renderBirdConfiguration(input));
});
