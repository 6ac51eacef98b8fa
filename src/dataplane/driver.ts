/**
 * Driver: one kind of kernel object kept equal to the program: lower (pure), read (the kernel, bodies included), commit.
 *
 * Everything is synchronous: netlink answers within the system call, so a change is in the kernel when `commit` returns.
 */
import type { Watch, Watcher } from "../host/watcher.ts";
import type { EndpointId, Program, ProgramDelta } from "../program/program.ts";

export interface Driver {
  readonly name: string;
  /** Takes a change of the program into the wanted rows; touches no kernel. Work is proportional to the delta. */
  lower(program: Program, delta: ProgramDelta): void;
  /** Learns what the kernel has of what is ours. Throws KernelError. */
  read(): void;
  /** Makes the kernel agree with the wanted rows; writes nothing when it does already. Throws KernelError; what failed stays pending. */
  commit(): void;
  /**
   * Hears at once of what others change of what is ours, until closed; a driver without it learns of that by audits alone. Throws
   * KernelError.
   */
  watch?(watcher: Watcher, events: DriverEvents): Watch;
  /** True when everything of this endpoint is in the kernel. */
  isProgrammed(endpoint: EndpointId, program: Program): boolean;
  /** Rows that differ from the kernel as last known. */
  readonly pending: number;
  /** Transactions or requests that changed the kernel, since start. Becoming the owner of what an earlier process left counts as one. */
  readonly writes: number;
  close(): void;
}

export interface DriverEvents {
  /** Somebody else changed what is ours since it was read last; `by` says who. */
  changed(by: string): void;
  /** Changes may have been missed, and no more will be told: watch again, then read. */
  lost(cause: string): void;
}
