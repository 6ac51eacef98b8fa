import { expect, test } from "bun:test";
import type { IPAMBlockSpec } from "../model/kinds/ipam.ts";
import type { Resource } from "../model/resource.ts";
import { renderBirdConfiguration, routerId } from "./configuration.ts";
import { birdInputOf } from "./input.ts";

function node(name: string, addresses: readonly string[], annotations: Record<string, string> = {}): Resource<"Node"> {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, annotations },
    status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
  };
}

function pool(name: string, cidr: string, disabled = false): Resource<"IPPool"> {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { cidr, disabled } };
}

function block(
  cidr: string,
  affinity: string | undefined,
  nodes: readonly (string | undefined)[],
): Resource<"IPAMBlock"> {
  const spec: IPAMBlockSpec = {
    cidr,
    ...(affinity === undefined ? {} : { affinity }),
    allocations: nodes.map((holder, ordinal) => (holder === undefined ? null : ordinal)),
    unallocated: [],
    attributes: nodes.map((holder, ordinal) => ({
      handle_id: `h${ordinal}`,
      ...(holder === undefined ? {} : { secondary: { node: holder } }),
    })),
    sequenceNumber: 1,
    sequenceNumberForAllocation: {},
    strictAffinity: false,
  };
  return { apiVersion: "projectcalico.org/v3", kind: "IPAMBlock", metadata: { name: cidr }, spec };
}

test("own blocks, borrowed addresses, peers of both families, pools also when disabled", () => {
  const input = birdInputOf("n1", {
    nodes: [
      node("n1", ["10.0.0.1", "fd00::1"]),
      node("n2", ["10.0.0.2", "fd00::2", "10.0.0.22"]),
      node("n3", ["fd00::3"], { "projectcalico.org/IPv4Address": "10.0.0.3/24" }),
      node("n4", []),
    ],
    pools: [pool("a", "10.244.0.0/16", true), pool("b", "fd01::/48"), pool("broken", "x")],
    blocks: [
      block("10.244.0.0/30", "host:n1", ["n1", "n2", undefined, undefined]),
      block("10.244.0.4/30", "host:n2", ["n1", "n2", undefined, "n1"]),
      block("fd01::4/126", undefined, ["n1", undefined, "n3", undefined]),
      block("fd01::8/126", "virtual:load-balancer", []),
      block("nonsense", "host:n1", []),
    ],
  });
  expect(input).toMatchObject({
    addresses: { ipv4: "10.0.0.1", ipv6: "fd00::1" },
    asNumber: 64512,
    peers: [
      { node: "n2", address: "10.0.0.2" },
      { node: "n2", address: "fd00::2" },
      { node: "n3", address: "10.0.0.3" },
      { node: "n3", address: "fd00::3" },
    ],
    pools: ["10.244.0.0/16", "fd01::/48"],
    unexported: [],
    blocks: ["10.244.0.0/30"],
    borrowed: ["10.244.0.4", "10.244.0.7", "fd01::4"],
  } as never);
});

test("a node that is not known yet has no sessions but a router id", () => {
  const input = birdInputOf("n9", { nodes: [node("n1", ["10.0.0.1"])], pools: [], blocks: [] });
  expect(input.addresses).toEqual({ ipv4: undefined, ipv6: undefined });
  expect(routerId(input)).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
  expect(routerId(input)).not.toBe(routerId({ ...input, node: "n8" }));
});

test("a pool with disableBGPExport: its blocks stay own, and nothing of it is announced", () => {
  const unexported: Resource<"IPPool"> = {
    ...pool("a", "10.244.0.0/16"),
    spec: { cidr: "10.244.0.0/16", disableBGPExport: true },
  };
  const six: Resource<"IPPool"> = { ...pool("b", "fd01::/48"), spec: { cidr: "fd01::/48", disableBGPExport: true } };
  const blocks = [
    block("10.244.0.0/30", "host:n1", []),
    block("10.244.0.4/30", "host:n2", ["n1"]),
    block("10.245.0.0/30", "host:n1", []),
    block("fd01::4/126", "host:n1", []),
    block("fd01::8/126", "host:n2", ["n1"]),
    block("fd02::4/126", "host:n1", []),
  ];
  const input = birdInputOf("n1", {
    nodes: [node("n1", ["10.0.0.1", "fd00::1"])],
    pools: [unexported, six, pool("c", "10.245.0.0/16"), pool("d", "fd02::/48")],
    blocks,
  });
  expect<readonly string[]>(input.unexported).toEqual(["10.244.0.0/16", "fd01::/48"]);
  const text = renderBirdConfiguration(input);
  expect([...text.matchAll(/route (\S+) blackhole/g)].map(([, prefix]) => prefix)).toEqual([
    "10.245.0.0/30",
    "fd02::4/126",
  ]);
  expect(text).toContain("if net ~ [ 10.244.0.0/30-, 10.245.0.0/30- ] then reject;");
});
