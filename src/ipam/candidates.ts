/**
 * Candidates: the blocks of a pool in the order in which a node tries them.
 *
 * Each node starts at a position derived from its name and wraps around: one node always uses the same order, so that its parallel
 * requests meet in one block; different nodes start apart. Upstream: ipam_block_reader_writer.go.
 */
import { fnv32 } from "../lib/fnv.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import { addrFromInteger, bitsOf } from "../net/addr.ts";
import { type Prefix, prefixFamily, prefixLength, prefixOf, prefixRange } from "../net/prefix.ts";

function countOf(pool: PoolRow): bigint {
  return 1n << BigInt(pool.blockSize - prefixLength(pool.prefix));
}

/**
 * Where the node starts in the pool. With blocks of a single address the start is random instead: meeting in one gains nothing, and a
 * free one is found with fewer reads. `fraction` is uniform in [0, 1).
 */
function startOf(pool: PoolRow, node: string, fraction: () => number): bigint {
  const single = pool.blockSize === bitsOf(pool.family);
  const seed = single
    ? BigInt(Math.floor(fraction() * 2 ** 48))
    : (BigInt(fnv32(node)) << 32n) | BigInt(fnv32(`${node}/${pool.name}`));
  return seed % countOf(pool);
}

/** All blocks of the pool that no single range of `excluded` covers, each once. A pool may have 2^80 of them: take what is needed. */
export function* candidateBlocks(
  pool: PoolRow,
  node: string,
  fraction: () => number,
  excluded: readonly Prefix[] = [],
): Generator<Prefix> {
  const count = countOf(pool);
  const size = 1n << BigInt(bitsOf(pool.family) - pool.blockSize);
  const first = prefixRange(pool.prefix).first;
  const start = startOf(pool, node, fraction);
  const holes = excluded
    .filter((range) => prefixFamily(range) === pool.family && prefixLength(range) <= pool.blockSize)
    .map(prefixRange);
  for (let i = 0n; i < count; i++) {
    const place = (start + i) % count;
    const hole = holes.find((range) => range.first <= first + place * size && first + place * size <= range.last);
    if (hole === undefined) yield prefixOf(addrFromInteger(pool.family, first + place * size), pool.blockSize);
    // Skip the whole reserved range in one step: it may contain 2^60 blocks.
    else i += min((hole.last - first) / size, count - 1n) - place;
  }
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

/** The given blocks of the pool in the node's order. */
export function inCandidateOrder(
  blocks: readonly Prefix[],
  pool: PoolRow,
  node: string,
  fraction: () => number,
): Prefix[] {
  const count = countOf(pool);
  const shift = BigInt(bitsOf(pool.family) - pool.blockSize);
  const first = prefixRange(pool.prefix).first;
  const start = startOf(pool, node, fraction);
  const places = new Map(
    blocks.map((block) => [block, (((prefixRange(block).first - first) >> shift) - start + count) % count]),
  );
  return [...blocks].sort((a, b) => ((places.get(a) ?? 0n) < (places.get(b) ?? 0n) ? -1 : 1));
}
