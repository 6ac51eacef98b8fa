/** BlockModel: an IPAMBlock after conversion, as routing and IPAM read it: its owner and who holds which address. */
import { fail, ok, type Result } from "../../lib/result.ts";
import { type Addr, addrFromInteger, bitsOf, type Family } from "../../net/addr.ts";
import { parsePrefix, type Prefix, prefixFamily, prefixLength, prefixRange } from "../../net/prefix.ts";
import type { Key } from "../key.ts";
import type { Resource } from "../resource.ts";
import type { FieldError } from "../schema/field-error.ts";
import type { AllocationAttributes } from "./ipam.ts";
import { handleOf } from "./reserved.ts";

export interface BlockModel {
  readonly prefix: Prefix;
  readonly family: Family;
  /** The node that owns the block; undefined when no node does (or it is being deleted). */
  readonly node: string | undefined;
  readonly allocations: readonly Allocation[];
}

export interface Allocation {
  readonly addr: Addr;
  /** A handle as it is recorded, or `reserve:NODE`. */
  readonly handle: string | undefined;
  /** The node that the holder runs on, from the attributes. */
  readonly node: string | undefined;
  /** The holder, from the attributes; undefined for addresses that are no pod's. */
  readonly pod: Key<"Pod"> | undefined;
}

/** Blocks of more addresses than this are refused: a slot list of that length is no block of ours or of upstream. */
const MOST_ADDRESSES = 4096;

export function blockModelOf(block: Resource<"IPAMBlock">): Result<BlockModel, FieldError> {
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
  const first = prefixRange(prefix.value).first;
  const held: Allocation[] = [];
  allocations.forEach((index, ordinal) => {
    if (index === null || index === undefined) return;
    const owner = attributes?.[index];
    held.push({
      addr: addrFromInteger(family, first + BigInt(ordinal)),
      handle: handleOf(owner),
      node: owner?.secondary?.["node"],
      pod: podOf(owner),
    });
  });
  return ok({ prefix: prefix.value, family, node, allocations: held });
}

function podOf(owner: AllocationAttributes | undefined): Key<"Pod"> | undefined {
  const { namespace, pod } = owner?.secondary ?? {};
  return namespace === undefined || pod === undefined ? undefined : { kind: "Pod", namespace, name: pod };
}

function invalid(field: string, value: unknown, detail: string): { readonly ok: false; readonly error: FieldError } {
  return fail({ field, reason: "Invalid", value, detail });
}
