/**
 * Reserved: how a block records the addresses of a node's reserve.
 *
 * They have the one handle that upstream's tools treat as reserved by the platform, not as leaked: `calicoctl ipam check` counts them as in
 * use, and upstream's garbage collector skips them. That handle is shared by all nodes and has no IPAMHandle object; the attribute `node`
 * names the node, and `type` distinguishes these from the addresses that upstream reserves for Windows.
 * Upstream's nodes treat a block with nothing else in it as empty and may take it when a pool has no block left. A node of ours empties such
 * a block first (ipam/levels.ts), and drops what it had in a block that is gone.
 * Upstream: calicoctl/commands/ipam/check.go (recordAllocation), kube-controllers/pkg/controllers/node/ipam.go, libcalico-go/lib/ipam/ipam_block.go.
 */
import type { AllocationAttributes } from "./ipam.ts";

const PLATFORM_HANDLE = "windows-reserved-ipam-handle";
const TYPE = "reserve";
const PREFIX = "reserve:";

/** This product's name for a node's reserve; because of the colon no container's handle can equal it. */
export function reserveHandle(node: string): string {
  return `${PREFIX}${node}`;
}

/** The node whose reserve the handle names; undefined for other handles. */
export function reserveNode(handle: string): string | undefined {
  return handle.startsWith(PREFIX) ? handle.slice(PREFIX.length) : undefined;
}

/** The handle of the reserve in earlier releases, which had an IPAMHandle object. */
export function formerReserveHandle(node: string): string {
  return `reserve-${node}`;
}

/** The holder of an address: the recorded handle, or a node's reserve in its present or former form. */
export function handleOf(owner: AllocationAttributes | undefined): string | undefined {
  const node = owner?.secondary?.["node"];
  if (owner?.handle_id === undefined || node === undefined) return owner?.handle_id;
  const isPresent = owner.handle_id === PLATFORM_HANDLE && owner.secondary?.["type"] === TYPE;
  const isFormer = owner.secondary?.["pod"] === undefined && owner.handle_id === formerReserveHandle(node);
  return isPresent || isFormer ? reserveHandle(node) : owner.handle_id;
}

/** What a block records for the handle. */
export function ownerOf(handle: string, attributes: Readonly<Record<string, string>>): AllocationAttributes {
  const node = reserveNode(handle);
  return node === undefined
    ? { handle_id: handle, secondary: { ...attributes } }
    : { handle_id: PLATFORM_HANDLE, secondary: { ...attributes, node, type: TYPE } };
}
