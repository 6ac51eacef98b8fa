/**
 * Block: takes and frees addresses inside one block, on plain data; nothing here writes to the datastore.
 * Upstream: libcalico-go/lib/ipam/ipam_block.go.
 */
import { equal } from "../lib/equal.ts";
import { fail, ok, type Result } from "../lib/result.ts";
import { formatTimestampSeconds } from "../lib/timestamp.ts";
import { wholeBlockOf } from "../model/convert/block.ts";
import type { AllocationAttributes, IPAMBlockSpec } from "../model/kinds/ipam.ts";
import { handleOf, reserveNode } from "../model/kinds/reserved.ts";
import type { Resource } from "../model/resource.ts";
import { type FieldError, formatFieldError } from "../model/schema/field-error.ts";
import { type Addr, addrFromInteger, addrToInteger, bitsOf } from "../net/addr.ts";
import { type Prefix, prefixContains, prefixCovers, prefixFamily, prefixLength, prefixRange } from "../net/prefix.ts";

/** A stored block that was checked, with a spec that may be changed and written back. */
export interface Block {
  readonly prefix: Prefix;
  readonly resource: Resource<"IPAMBlock">;
  readonly spec: IPAMBlockSpec;
}

/** Checks what taking and freeing rely on; a block that fails is ignored. */
export function blockOf(resource: Resource<"IPAMBlock">): Result<Block, string> {
  const model = wholeBlockOf(resource);
  if (!model.ok) return fail(formatFieldError(model.error));
  const { spec } = resource;
  const size = sizeOf(model.value.prefix);
  const wrong = (field: string, value: unknown, detail: string): Result<Block, string> =>
    fail(formatFieldError({ field, reason: "Invalid", value, detail } satisfies FieldError));
  if (spec.allocations.length !== size)
    return wrong("spec.allocations", spec.allocations.length, `must have ${size} entries`);
  if (!Array.isArray(spec.attributes)) return wrong("spec.attributes", spec.attributes, "must be a list");
  if (!Array.isArray(spec.unallocated)) return wrong("spec.unallocated", spec.unallocated, "must be a list");
  const free = new Set(spec.unallocated);
  for (let ordinal = 0; ordinal < size; ordinal++) {
    const index = spec.allocations[ordinal] ?? null;
    if ((index === null) !== free.has(ordinal))
      return wrong("spec.unallocated", ordinal, "must list exactly the free ordinals");
    if (index !== null && spec.attributes[index] === undefined)
      return wrong(`spec.allocations[${ordinal}]`, index, "must be an index into attributes");
  }
  if (free.size !== size - spec.allocations.filter((index) => index !== null).length)
    return wrong("spec.unallocated", spec.unallocated, "must list exactly the free ordinals");
  return ok({ prefix: model.value.prefix, resource, spec });
}

/** Number of addresses of a block. */
export function sizeOf(prefix: Prefix): number {
  return 2 ** (bitsOf(prefixFamily(prefix)) - prefixLength(prefix));
}

export function ordinalOf(block: Block, addr: Addr): number {
  return Number(addrToInteger(addr) - prefixRange(block.prefix).first);
}

export function addrOf(block: Block, ordinal: number): Addr {
  return addrFromInteger(prefixFamily(block.prefix), prefixRange(block.prefix).first + BigInt(ordinal));
}

/** `host:NODE`, the owner as it is written in a block. */
export function hostAffinity(node: string): string {
  return `host:${node}`;
}

/**
 * A new block owned by the node, all addresses free in ascending order.
 *
 * The sequence number starts from the clock so that a block that is deleted and created again does not repeat numbers. Upstream starts
 * from nanoseconds, which JavaScript's numbers cannot count one by one (2^53 ns was in 1970); microseconds are exact until the
 * year 2255.
 */
export function newBlock(prefix: Prefix, node: string, wallMs: number): Resource<"IPAMBlock"> {
  const size = sizeOf(prefix);
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMBlock",
    metadata: { name: prefix.replace(/[.:/]/g, "-") },
    spec: {
      cidr: prefix,
      affinity: hostAffinity(node),
      affinityClaimTime: formatTimestampSeconds(wallMs),
      allocations: Array<null>(size).fill(null),
      unallocated: Array.from({ length: size }, (_, ordinal) => ordinal),
      attributes: [],
      sequenceNumber: Math.floor(wallMs * 1000),
      sequenceNumberForAllocation: {},
      strictAffinity: false,
      deleted: false,
    },
  };
}

/**
 * The sequence number of the next write: the next greater number that is exact. In blocks that upstream made (nanoseconds) that is
 * a step of 256, in ours a step of 1.
 */
export function nextSequence(sequence: number): number {
  if (sequence < Number.MAX_SAFE_INTEGER) return sequence + 1;
  return sequence + 2 ** (Math.floor(Math.log2(sequence)) - 52);
}

/** Free ordinals, longest-freed first, without those in the reserved ranges. */
export function freeOrdinals(block: Block, reserved: readonly Prefix[]): number[] {
  const ranges = reserved.filter((range) => prefixCovers(range, block.prefix) || prefixCovers(block.prefix, range));
  if (ranges.length === 0) return block.spec.unallocated;
  return block.spec.unallocated.filter(
    (ordinal) => !ranges.some((range) => prefixContains(range, addrOf(block, ordinal))),
  );
}

export function isEmpty(spec: IPAMBlockSpec): boolean {
  return spec.allocations.every((index) => index === null);
}

/** Whether any owner other than reserves has an address of the block. */
export function isUsed(spec: IPAMBlockSpec): boolean {
  return spec.attributes.some((owner) => reserveNode(handleOf(owner) ?? "") === undefined);
}

/** Ordinals held by one of the handles, ascending. */
export function heldBy(spec: IPAMBlockSpec, handles: ReadonlySet<string>): number[] {
  return spec.allocations.flatMap((index, ordinal) => {
    const handle = index === null ? undefined : handleOf(spec.attributes[index]);
    return handle !== undefined && handles.has(handle) ? [ordinal] : [];
  });
}

export function holderOf(spec: IPAMBlockSpec, ordinal: number): AllocationAttributes | undefined {
  const index = spec.allocations[ordinal] ?? null;
  return index === null ? undefined : spec.attributes[index];
}

/** Assigns free ordinals to the owner. */
export function take(spec: IPAMBlockSpec, ordinals: readonly number[], owner: AllocationAttributes): void {
  const taken = new Set(ordinals);
  spec.unallocated = spec.unallocated.filter((ordinal) => !taken.has(ordinal));
  const index = attributeIndex(spec, owner);
  spec.sequenceNumberForAllocation ??= {};
  for (const ordinal of ordinals) {
    spec.allocations[ordinal] = index;
    spec.sequenceNumberForAllocation[String(ordinal)] = spec.sequenceNumber;
  }
}

/** Frees allocated ordinals; they go to the end of the queue, so that an address is reused as late as possible. */
export function free(spec: IPAMBlockSpec, ordinals: readonly number[]): void {
  for (const ordinal of ordinals) {
    spec.allocations[ordinal] = null;
    spec.unallocated.push(ordinal);
    delete spec.sequenceNumberForAllocation?.[String(ordinal)];
  }
  dropUnusedAttributes(spec);
}

/** Moves an allocated ordinal to another owner; the allocation itself, and its sequence number, stay. */
export function reassign(spec: IPAMBlockSpec, ordinal: number, owner: AllocationAttributes): void {
  spec.allocations[ordinal] = attributeIndex(spec, owner);
  dropUnusedAttributes(spec);
}

function attributeIndex(spec: IPAMBlockSpec, owner: AllocationAttributes): number {
  const found = spec.attributes.findIndex((attributes) => equal(attributes, owner));
  return found >= 0 ? found : spec.attributes.push(owner) - 1;
}

function dropUnusedAttributes(spec: IPAMBlockSpec): void {
  const used = [...new Set(spec.allocations.filter((index) => index !== null))].sort((a, b) => a - b);
  if (used.length === spec.attributes.length) return;
  const places = new Map(used.map((index, place) => [index, place]));
  spec.attributes = used.flatMap((index) => spec.attributes[index] ?? []);
  spec.allocations = spec.allocations.map((index) => (index === null ? null : (places.get(index) ?? null)));
}
