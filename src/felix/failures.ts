/** failures: errors of the outside world, as against mistakes of this program, which nobody catches. */
import { StoreError } from "../datastore/store.ts";
import { FileError } from "../host/files.ts";
import { IpamError } from "../ipam/errors.ts";
import { KernelError } from "../kernel/errno.ts";

/** No address for a pod; the message names the node, the family and what the datastore said. */
export class AddressError extends Error {
  override readonly name = "AddressError";
}

/** True when trying again later, or telling the caller, is the right answer. */
export function isFailure(error: unknown): error is Error {
  return (
    error instanceof StoreError ||
    error instanceof IpamError ||
    error instanceof KernelError ||
    error instanceof FileError ||
    error instanceof AddressError
  );
}
