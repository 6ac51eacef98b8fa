import { expect, test } from "bun:test";
import { rowsFor } from "../model/convert/rows.ts";
import type { Kind } from "../model/kind.ts";
import type { IPAMBlockSpec } from "../model/kinds/ipam.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import { poolRowOf } from "../model/convert/pool.ts";
import { PoolLevels } from "./levels.ts";

const V3 = "projectcalico.org/v3";

function said<K extends Kind>(kind: K, value: Resource<K>): ReturnType<ReturnType<typeof rowsFor>> {
  const origin = { revision: "", generation: undefined, seenAt: 0 };
  return rowsFor("n1")({ kind, key: keyOf(kind, value), value, origin } as unknown as Update);
}

/** A block whose addresses of these numbers a pod holds. */
function block(cidr: string, size: number, held: readonly number[]): Resource<"IPAMBlock"> {
  const spec: IPAMBlockSpec = {
    cidr,
    affinity: "host:n2",
    allocations: Array.from({ length: size }, (_, ordinal) => (held.includes(ordinal) ? 0 : null)),
    unallocated: [],
    attributes: [{ handle_id: "h" }],
    sequenceNumber: 1,
    sequenceNumberForAllocation: {},
    strictAffinity: false,
  };
  return { apiVersion: V3, kind: "IPAMBlock", metadata: { name: cidr }, spec };
}

const FAMILIES = [
  { pool: "10.0.0.0/26", blockSize: 28, blocks: ["10.0.0.0/28", "10.0.0.16/28", "10.0.0.32/28", "10.0.0.48/28"] },
  { pool: "fd00::/122", blockSize: 124, blocks: ["fd00::/124", "fd00::10/124", "fd00::20/124", "fd00::30/124"] },
];
/** Reserved ranges of both families, and which of the pool's addresses they exclude, by number. */
const RESERVED: readonly { readonly ranges: readonly string[]; readonly excludes: (i: number) => boolean }[] = [
  { ranges: [], excludes: () => false },
  { ranges: ["10.0.0.16/28", "fd00::10/124"], excludes: (i) => i >= 16 && i < 32 },
  { ranges: ["10.0.0.12/30", "fd00::c/126"], excludes: (i) => i >= 12 && i < 16 },
  { ranges: ["10.0.0.0/31", "fd00::/127"], excludes: (i) => i < 2 },
  { ranges: ["10.0.0.0/27", "fd00::/123", "10.0.0.8/30", "fd00::8/126"], excludes: (i) => i < 32 },
  { ranges: ["10.0.0.62/32", "fd00::3e/128"], excludes: (i) => i === 62 },
  { ranges: ["10.0.0.0/8", "fd00::/16"], excludes: () => true },
  { ranges: ["192.0.2.0/24", "2001:db8::/32"], excludes: () => false },
];

for (const { ranges, excludes } of RESERVED) {
  test(`the reserve of the only node may hold half of what is free and ${ranges.join(" ") || "nothing"} does not exclude`, () => {
    for (const { pool, blockSize, blocks } of FAMILIES) {
      const levels = new PoolLevels("n1");
      const held = [0, 1, 5, 13];
      const object: Resource<"IPPool"> = {
        apiVersion: V3,
        kind: "IPPool",
        metadata: { name: "p" },
        spec: { cidr: pool, blockSize },
      };
      levels.observe([
        said("IPPool", object),
        said("Node", { apiVersion: "v1", kind: "Node", metadata: { name: "n1" } }),
        ...blocks.map((cidr) => said("IPAMBlock", block(cidr, 16, held))),
        said("IPReservation", {
          apiVersion: V3,
          kind: "IPReservation",
          metadata: { name: "r" },
          spec: { reservedCIDRs: [...ranges] },
        }),
      ]);
      const free = Array.from({ length: 64 }, (_, i) => i).filter((i) => !held.includes(i % 16) && !excludes(i)).length;
      const row = poolRowOf(object);
      if (!row.ok) throw new Error(row.error.detail);
      expect(levels.limit(row.value)).toBe(Math.floor(free / 2));
    }
  });
}
