import { expect, test } from "bun:test";
import type { Resource } from "../resource.ts";
import type { JsonObject } from "../schema/json.ts";
import { blockRowOf, wholeBlockOf } from "./block.ts";
import { nodeAddressesOf } from "./node.ts";
import { poolRowOf } from "./pool.ts";

function pool(spec: Record<string, unknown>): Resource<"IPPool"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "p" },
    spec,
  } as unknown as Resource<"IPPool">;
}

function block(spec: Record<string, unknown>): Resource<"IPAMBlock"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMBlock",
    metadata: { name: "b" },
    spec,
  } as unknown as Resource<"IPAMBlock">;
}

test.each([
  [
    { cidr: "10.0.0.7/16" },
    { prefix: "10.0.0.0/16", family: 4, blockSize: 26, disabled: false, nodeSelector: { op: "all" } },
  ],
  [
    { cidr: "fd00::/48", disabled: true, nodeSelector: "" },
    { prefix: "fd00::/48", family: 6, blockSize: 122, disabled: true },
  ],
  [
    { cidr: "10.0.0.0/28", blockSize: 32, nodeSelector: "zone == 'a'" },
    { blockSize: 32, nodeSelector: { op: "equal", label: "zone", value: "a" } },
  ],
  [{ cidr: "fd00::/120", blockSize: 0 }, { blockSize: 122 }],
])("pool %p", (spec, wanted) => {
  expect(poolRowOf(pool(spec))).toMatchObject({ ok: true, value: wanted });
});

test.each([
  [{}, "spec.cidr"],
  [{ cidr: "10.0.0.0" }, "spec.cidr"],
  [{ cidr: 7 }, "spec.cidr"],
  [{ cidr: "10.0.0.0/16", blockSize: 19 }, "spec.blockSize"],
  [{ cidr: "10.0.0.0/16", blockSize: 33 }, "spec.blockSize"],
  [{ cidr: "10.0.0.0/16", blockSize: "26" }, "spec.blockSize"],
  [{ cidr: "fd00::/48", blockSize: 26 }, "spec.blockSize"],
  [{ cidr: "10.0.0.0/27" }, "spec.blockSize"],
  [{ cidr: "10.0.0.0/16", disabled: "yes" }, "spec.disabled"],
  [{ cidr: "10.0.0.0/16", nodeSelector: "zone ==" }, "spec.nodeSelector"],
])("pool %p is refused for %s", (spec, field) => {
  expect(poolRowOf(pool(spec))).toMatchObject({ ok: false, error: { field } });
});

test("whole block: owner and holders of both families", () => {
  const attributes = [{ handle_id: "h", secondary: { node: "n2" } }, {}];
  const four = wholeBlockOf(
    block({
      cidr: "10.0.0.4/30",
      affinity: "host:n1",
      allocations: [null, 0, 1, null],
      unallocated: [0, 3],
      attributes,
    }),
  );
  expect(four).toEqual({
    ok: true,
    value: {
      prefix: "10.0.0.4/30",
      family: 4,
      size: 4,
      node: "n1",
      allocations: [
        { addr: "10.0.0.5", ordinal: 1, handle: "h", node: "n2" },
        { addr: "10.0.0.6", ordinal: 2, handle: undefined, node: undefined },
      ],
    },
  } as never);
  const six = wholeBlockOf(block({ cidr: "fd00::/126", affinity: null, allocations: [0], attributes }));
  expect(six).toMatchObject({
    ok: true,
    value: { node: undefined, allocations: [{ addr: "fd00::", node: "n2" }] },
  } as never);
  expect(
    wholeBlockOf(block({ cidr: "fd00::/126", affinity: "host:n1", deleted: true, allocations: [], attributes })),
  ).toMatchObject({ ok: true, value: { node: undefined } } as never);
  expect(
    wholeBlockOf(block({ cidr: "fd00::/126", affinity: "virtual:load-balancer", allocations: [], attributes })),
  ).toMatchObject({ ok: true, value: { node: undefined } } as never);
});

test("block: what is held and by which pods, and in full what this node's pods and the reserves of all nodes have", () => {
  const pod = (name: string, node: string): JsonObject => ({
    handle_id: name,
    secondary: { namespace: "shop", pod: name, node },
  });
  const reserve = { handle_id: "windows-reserved-ipam-handle", secondary: { type: "reserve", node: "n3" } };
  const attributes = [pod("web", "n2"), pod("db", "n1"), reserve, pod("a b", "n2"), {}];
  const row = blockRowOf(block({ cidr: "fd00::/125", allocations: [null, 0, null, 1, 2, 3, 4], attributes }), "n1");
  expect(row).toEqual({
    ok: true,
    value: {
      prefix: "fd00::/125",
      family: 6,
      size: 8,
      node: undefined,
      held: [1, 3, 4, 5, 6],
      // No pod has a name of two words.
      holders: " Pod/shop/web  Pod/shop/db  ",
      own: [
        {
          addr: "fd00::3",
          ordinal: 3,
          handle: "db",
          node: "n1",
          pod: { kind: "Pod", namespace: "shop", name: "db" },
        },
        { addr: "fd00::4", ordinal: 4, handle: "reserve:n3", node: "n3", pod: undefined },
      ],
    },
  } as never);
});

test.each([
  [{ cidr: "x", allocations: [] }, "spec.cidr"],
  [{ cidr: "10.0.0.0/8", allocations: [] }, "spec.cidr"],
  [{ cidr: "10.0.0.0/30" }, "spec.allocations"],
  [{ cidr: "10.0.0.0/30", allocations: [0, 0, 0, 0, 0] }, "spec.allocations"],
  [{ cidr: "10.0.0.0/30", allocations: [], affinity: 5 }, "spec.affinity"],
])("block %p is refused for %s", (spec, field) => {
  expect(blockRowOf(block(spec), "n1")).toMatchObject({ ok: false, error: { field } });
});

test("node addresses: annotation before status, one per family", () => {
  const node = (annotations: Record<string, string>, addresses: readonly string[]): Resource<"Node"> => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "n", annotations },
    status: {
      addresses: [
        { type: "Hostname", address: "10.9.9.9" },
        ...addresses.map((address) => ({ type: "InternalIP", address })),
      ],
    },
  });
  expect(nodeAddressesOf(node({}, ["fd00::1", "10.0.0.1", "10.0.0.2"]))).toEqual({
    ipv4: "10.0.0.1",
    ipv6: "fd00::1",
  } as never);
  expect(
    nodeAddressesOf(
      node({ "projectcalico.org/IPv4Address": "10.0.0.7/24", "projectcalico.org/IPv6Address": "nonsense" }, [
        "fd00::1",
        "10.0.0.1",
      ]),
    ),
  ).toEqual({ ipv4: "10.0.0.7", ipv6: "fd00::1" } as never);
  expect(nodeAddressesOf(node({}, []))).toEqual({ ipv4: undefined, ipv6: undefined });
});
