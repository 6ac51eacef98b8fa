/** Block: converts an IPAMBlock to a row: its owner and the holder of each address. Each block is converted once, for all its consumers. */
import { fail, ok, type Result } from "../../lib/result.ts";
import { type Addr, bitsOf, type Family } from "../../net/addr.ts";
import { addressesOf } from "../../net/ordinal.ts";
import { parsePrefix, type Prefix, prefixFamily, prefixLength } from "../../net/prefix.ts";
import type { Key } from "../key.ts";
import type { Resource } from "../resource.ts";
import type { FieldError } from "../schema/field-error.ts";
import type { AllocationAttributes } from "../kinds/ipam.ts";
import { handleOf } from "../kinds/reserved.ts";

export interface BlockRow {
  readonly prefix: Prefix;
  readonly family: Family;
  /** Number of its addresses. */
  readonly size: number;
  /** The node that owns the block; undefined when no node does (or it is being deleted). */
  readonly node: string | undefined;
  readonly allocations: readonly Allocation[];
}

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

export function blockRowOf(block: Resource<"IPAMBlock">): Result<BlockRow, FieldError> {
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
