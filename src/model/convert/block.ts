/**
 * Block: converts an IPAMBlock to a row: its owner, which addresses are held, and by which pods. Each block is converted once, for all its
 * consumers. Whose an address is in full is kept for this node and for reserves alone: a cluster has as many addresses as pods.
 */
import { fail, ok, type Result } from "../../lib/result.ts";
import { type Addr, bitsOf, type Family } from "../../net/addr.ts";
import { addressesOf } from "../../net/ordinal.ts";
import { parsePrefix, type Prefix, prefixFamily, prefixLength } from "../../net/prefix.ts";
import { formatKey, type Key } from "../key.ts";
import type { Resource } from "../resource.ts";
import type { FieldError } from "../schema/field-error.ts";
import type { AllocationAttributes } from "../kinds/ipam.ts";
import { handleOf, reserveNode } from "../kinds/reserved.ts";

interface Block {
  readonly prefix: Prefix;
  readonly family: Family;
  /** Number of its addresses. */
  readonly size: number;
  /** The node that owns the block; undefined when no node does (or it is being deleted). */
  readonly node: string | undefined;
}

/** A block with all that it says of its addresses. */
export interface WholeBlock extends Block {
  readonly allocations: readonly Allocation[];
}

export interface BlockRow extends Block {
  /** Ordinals of the addresses that are held, in order. */
  readonly held: readonly number[];
  /** By ordinal, with `HOLDER_SEPARATOR` between them: the pod that holds the address, as a key's text; empty where no pod does. One text, as there are as many as pods. */
  readonly holders: string;
  /** Those of reserves, of whichever node, and those of this node's pods. */
  readonly own: readonly Allocation[];
}

/** In no pod's name. */
export const HOLDER_SEPARATOR = " ";

export interface Allocation {
  readonly addr: Addr;
  /** Its index in the block, from 0. */
  readonly ordinal: number;
  /** The recorded handle, or `reserve:NODE`. */
  readonly handle: string | undefined;
  /** The holder's node, from the attributes. */
  readonly node: string | undefined;
  /** The pod that holds it, from the attributes; undefined when no pod does. */
  readonly pod: Key<"Pod"> | undefined;
}

/** Larger blocks are refused: neither we nor upstream create them. */
const MOST_ADDRESSES = 4096;

/** What the node of that name keeps of a block. */
export function blockRowOf(object: Resource<"IPAMBlock">, node: string): Result<BlockRow, FieldError> {
  const whole = wholeBlockOf(object);
  if (!whole.ok) return whole;
  const { allocations, ...block } = whole.value;
  const own = allocations.filter(
    ({ handle, node: of }) => of === node || (handle !== undefined && reserveNode(handle) !== undefined),
  );
  return ok({ ...block, held: allocations.map(({ ordinal }) => ordinal), holders: holdersOf(allocations), own });
}

function holdersOf(allocations: readonly Allocation[]): string {
  const holders: string[] = [];
  for (const { ordinal, pod } of allocations) {
    if (pod === undefined) continue;
    while (holders.length < ordinal) holders.push("");
    // Attributes may be any text.
    const key = formatKey(pod);
    holders.push(key.includes(HOLDER_SEPARATOR) ? "" : key);
  }
  return holders.join(HOLDER_SEPARATOR);
}

export function wholeBlockOf(block: Resource<"IPAMBlock">): Result<WholeBlock, FieldError> {
  const { cidr, affinity, allocations, attributes, deleted } = block.spec;
  const prefix = typeof cidr === "string" ? parsePrefix(cidr) : undefined;
  if (prefix === undefined || !prefix.ok) return invalid("spec.cidr", cidr, "must be CIDR text such as 10.0.0.0/26");
  const family = prefixFamily(prefix.value);
  const size = 2 ** (bitsOf(family) - prefixLength(prefix.value));
  if (size > MOST_ADDRESSES) return invalid("spec.cidr", cidr, `must hold at most ${MOST_ADDRESSES} addresses`);
  if (!Array.isArray(allocations) || allocations.length > size)
    return invalid("spec.allocations", allocations, `must be a list of ${size} entries`);
  if (affinity !== undefined && affinity !== null && typeof affinity !== "string")
    return invalid("spec.affinity", affinity, "must be text such as host:NODE");
  const node = affinity?.startsWith("host:") === true && deleted !== true ? affinity.slice("host:".length) : undefined;
  const addressAt = addressesOf(prefix.value);
  const held: Allocation[] = [];
  allocations.forEach((index, ordinal) => {
    if (index === null || index === undefined) return;
    const owner = attributes?.[index];
    held.push({
      addr: addressAt(ordinal),
      ordinal,
      handle: handleOf(owner),
      node: owner?.secondary?.["node"],
      pod: podOf(owner),
    });
  });
  return ok({ prefix: prefix.value, family, size, node, allocations: held });
}

function podOf(owner: AllocationAttributes | undefined): Key<"Pod"> | undefined {
  const { namespace, pod } = owner?.secondary ?? {};
  return namespace === undefined || pod === undefined ? undefined : { kind: "Pod", namespace, name: pod };
}

function invalid(field: string, value: unknown, detail: string): { readonly ok: false; readonly error: FieldError } {
  return fail({ field, reason: "Invalid", value, detail });
}
