/** The scenario of the scale bench: that sizes are what they are called, and that its objects agree with each other. */
import { describe, expect, test } from "bun:test";
import { remotePodObject } from "./pods.ts";
import {
  activePeers,
  addressOfPod,
  APPS,
  blockObject,
  blockOfAddress,
  blocksPerNode,
  LOCAL_PODS,
  nodeOfPod,
  nodesOf,
  peerOf,
  policyOf,
  podsPerNode,
  REMOTE_NODES,
  type Size,
  SIZES,
} from "./scenario.ts";
import { World } from "./world.ts";

describe.each(SIZES.map((size) => [size.name, size] as const))("%s", (name, size: Size) => {
  test("has as many policies and pods as its name says", () => {
    const [policies = 0, pods = 0] = name.split("/").map((part) => Number(part.replace("k", "000")));
    expect([size.policies, size.pods]).toEqual([policies, pods]);
  });

  test("gives each pod an address of its own, in a block of its node", () => {
    const addresses = new Set<number>();
    let last = 0;
    for (let i = 0; i < size.pods; i++) {
      const address = addressOfPod(size, i);
      addresses.add(address);
      expect(blockOfAddress(size, address).node).toBe((last = nodeOfPod(size, i)));
    }
    expect(addresses.size).toBe(size.pods);
    expect(last).toBe(REMOTE_NODES - 1);
  });

  test("makes a fifth of its policies concern the local pods", () => {
    const active = Array.from({ length: size.policies }, (_, k) => k).filter((k) => k % APPS < LOCAL_PODS);
    expect(active.length).toBe(Math.max(Math.min(size.policies, LOCAL_PODS), size.policies / 5));
    expect(activePeers(size)).toEqual(new Set(active.map(peerOf)));
  });
});

test("there are 500 nodes and the local one", () => {
  expect(nodesOf().length).toBe(501);
});

test("a policy selects one app and allows two ports from another in all namespaces", () => {
  expect(policyOf(1_007)).toMatchObject({
    metadata: { name: "policy-1007" },
    spec: {
      podSelector: { matchLabels: { app: "a7" } },
      ingress: [
        {
          ports: [{ port: 8080 }, { port: 9090 }],
          from: [{ namespaceSelector: {}, podSelector: { matchLabels: { app: "a193" } } }],
        },
      ],
    },
  });
});

test.each([
  ["lean", 800],
  ["fat", 5_200],
] as const)("a %s pod has some %d bytes", (weight, bytes) => {
  const size = SIZES[3] as Size;
  const length = JSON.stringify(remotePodObject(size, weight, 77_777, addressOfPod(size, 77_777))).length;
  expect(Math.abs(length / bytes - 1)).toBeLessThan(0.06);
});

test("blocks list the addresses of their node's pods, and no other", () => {
  const size = SIZES[0] as Size;
  const world = new World(size, "lean", "kubernetes");
  expect(world.store.count("ipamblocks")).toBe(REMOTE_NODES * blocksPerNode(size));
  const held = new Map([0, 1].map((i) => [addressOfPod(size, i), i]));
  expect(podsPerNode(size)).toBe(2);
  expect(blockObject(size, 0, 0, held, 5)).toMatchObject({
    spec: {
      affinity: "host:remote-0",
      allocations: [0, 1, ...Array.from({ length: 62 }, () => null)],
      attributes: [{ secondary: { pod: "remote-0" } }, { secondary: { pod: "remote-1" } }],
    },
  });
});
