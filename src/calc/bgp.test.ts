import { expect, test } from "bun:test";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import type { Kind } from "../model/kind.ts";
import type { IPAMBlockSpec } from "../model/kinds/ipam.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import { Graph } from "./graph.ts";

function updateOf<K extends Kind>(kind: K, value: Resource<K>, isGone = false): RowUpdate {
  const origin = { revision: "1", generation: undefined, seenAt: 0 };
  return rowsFor("n1")({
    kind,
    key: keyOf(kind, value),
    value: isGone ? undefined : value,
    origin,
  } as unknown as Update);
}

function node(
  name: string,
  addresses: readonly string[],
  annotations: Record<string, string> = {},
  labels: Record<string, string> = {},
): Resource<"Node"> {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, annotations, labels },
    status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
  };
}

function pool(name: string, cidr: string, spec: object = {}): Resource<"IPPool"> {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { cidr, ...spec } };
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

function graphWith(...updates: readonly RowUpdate[]): Graph {
  const graph = new Graph({ node: "n1" });
  graph.update(updates);
  graph.flush();
  return graph;
}

function values<V>(table: ReadonlyMap<string, V>): readonly V[] {
  return [...table.values()];
}

test("own blocks, borrowed addresses, peers of both families, and pools even when disabled", () => {
  const { bgp, problems } = graphWith(
    updateOf("Node", node("n1", ["10.0.0.1", "fd00::1"])),
    updateOf("Node", node("n2", ["10.0.0.2", "fd00::2", "10.0.0.22"])),
    updateOf("Node", node("n3", ["fd00::3"], { "projectcalico.org/IPv4Address": "10.0.0.3/24" })),
    updateOf("Node", node("n4", [])),
    updateOf("IPPool", pool("a", "10.244.0.0/16", { disabled: true })),
    updateOf("IPPool", pool("b", "fd01::/48", { disableBGPExport: true })),
    updateOf("IPPool", pool("broken", "x")),
    updateOf("IPAMBlock", block("10.244.0.0/30", "host:n1", ["n1", "n2", undefined, undefined])),
    updateOf("IPAMBlock", block("10.244.0.4/30", "host:n2", ["n1", "n2", undefined, "n1"])),
    updateOf("IPAMBlock", block("fd01::4/126", undefined, ["n1", undefined, "n3", undefined])),
    updateOf("IPAMBlock", block("fd01::8/126", "virtual:load-balancer", [])),
    updateOf("IPAMBlock", block("nonsense", "host:n1", [])),
  );
  expect(bgp.addresses).toEqual({ ipv4: "10.0.0.1", ipv6: "fd00::1" } as never);
  expect(Object.fromEntries(bgp.peers)).toEqual({
    n2: { ipv4: "10.0.0.2", ipv6: "fd00::2" },
    n3: { ipv4: "10.0.0.3", ipv6: "fd00::3" },
  } as never);
  expect(values(bgp.pools)).toEqual([
    { prefix: "10.244.0.0/16", exported: true },
    { prefix: "fd01::/48", exported: false },
  ] as never);
  expect(values(bgp.blocks)).toEqual(["10.244.0.0/30"] as never);
  expect(values(bgp.borrowed)).toEqual([["10.244.0.4", "10.244.0.7"], ["fd01::4"]] as never);
  expect([...problems.keys()].sort()).toEqual(["IPAMBlock/nonsense", "IPPool/broken"] as never);
});

test("an update that changes no row is not a change", () => {
  const graph = graphWith(
    updateOf("Node", node("n1", ["10.0.0.1"])),
    updateOf("Node", node("n2", ["10.0.0.2"])),
    updateOf("IPPool", pool("a", "10.244.0.0/16")),
    updateOf("IPAMBlock", block("10.244.0.0/30", "host:n1", ["n1", undefined])),
    updateOf("IPAMBlock", block("10.244.0.4/30", "host:n2", ["n1", undefined, "n2"])),
  );
  const changes = (...updates: readonly RowUpdate[]): number => {
    const before = graph.bgpChanges;
    graph.update(updates);
    graph.flush();
    return graph.bgpChanges - before;
  };
  expect(changes()).toBe(0);
  for (const quiet of [
    updateOf("Node", node("n2", ["10.0.0.2"], {}, { beat: "1" })),
    updateOf("Node", node("n3", [])),
    updateOf("Node", node("n9", ["10.0.0.9"]), true),
    updateOf("IPPool", pool("a", "10.244.0.0/16", { disabled: true, nodeSelector: "a == 'b'" })),
    updateOf("IPAMBlock", block("10.244.0.0/30", "host:n1", ["n1", "n1"])),
    updateOf("IPAMBlock", block("10.244.0.4/30", "host:n2", ["n1", "n3", "n2"])),
    updateOf("IPAMBlock", block("10.244.0.8/30", "host:n2", ["n2"])),
  ])
    expect([quiet.key.name, changes(quiet)]).toEqual([quiet.key.name, 0]);
  for (const loud of [
    updateOf("Node", node("n1", ["10.0.0.11"])),
    updateOf("Node", node("n2", ["10.0.0.2", "fd00::2"])),
    updateOf("IPPool", pool("a", "10.244.0.0/16", { disableBGPExport: true })),
    updateOf("IPAMBlock", block("10.244.0.4/30", "host:n1", ["n1"])),
    updateOf("IPAMBlock", block("10.244.0.8/30", "host:n2", ["n1"])),
    updateOf("IPAMBlock", block("10.244.0.8/30", "host:n2", ["n1"]), true),
  ])
    expect([loud.key.name, changes(loud)]).toEqual([loud.key.name, 1]);
});
