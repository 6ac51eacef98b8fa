/**
 * Reserved: how a block records the addresses of a node's reserve.
 *
 * They carry the one handle that upstream's tools know as reserved by the platform, not as leaked: `calicoctl ipam check` counts them as in
 * use, and upstream's collector passes over them. That handle is shared by all nodes and has no IPAMHandle object; the attribute `node`
 * says whose reserve it is, and `type` tells it from the addresses that upstream sets aside for Windows.
 * Upstream's nodes count a block with nothing else in it as empty and may take it when a pool has no block left: a node of ours empties such
 * a block before (ipam/levels.ts), and forgets what it had in a block that is gone.
 * Upstream: calicoctl/commands/ipam/check.go (recordAllocation), kube-controllers/pkg/controllers/node/ipam.go, libcalico-go/lib/ipam/ipam_block.go.
 */
import type { AllocationAttributes } from "./ipam.ts";

const PLATFORM_HANDLE = "windows-reserved-ipam-handle";
const TYPE = "reserve";
const PREFIX = "reserve:";

/** The name by which this product speaks of a node's reserve; no handle of a container can have it, because of the colon. */
export function reserveHandle(node: string): string {
  return `${PREFIX}${node}`;
}

/** The node whose reserve the handle names. */
export function reserveNode(handle: string): string | undefined {
  return handle.startsWith(PREFIX) ? handle.slice(PREFIX.length) : undefined;
}

/** The handle of earlier releases, which had an object. */
export function formerReserveHandle(node: string): string {
  return `reserve-${node}`;
}

/** Who holds an address: a handle as it is recorded, or a node's reserve in its present or former form. */
export function handleOf(owner: AllocationAttributes | undefined): string | undefined {
  const node = owner?.secondary?.["node"];
  if (owner?.handle_id === undefined || node === undefined) return owner?.handle_id;
  const isPresent = owner.handle_id === PLATFORM_HANDLE && owner.secondary?.["type"] === TYPE;
  const isFormer = owner.handle_id === formerReserveHandle(node) && owner.secondary?.["pod"] === undefined;
  return isPresent || isFormer ? reserveHandle(node) : owner.handle_id;
}

/** What a block is to record for the handle. */
export function ownerOf(handle: string, attributes: Readonly<Record<string, string>>): AllocationAttributes {
  const node = reserveNode(handle);
  return node === undefined
    ? { handle_id: handle, secondary: { ...attributes } }
    : { handle_id: PLATFORM_HANDLE, secondary: { ...attributes, node, type: TYPE } };
}
