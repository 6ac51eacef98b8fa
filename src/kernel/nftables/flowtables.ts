/** flowtables: whether the kernel can offload established flows, and end those that it has offloaded. */
import type { Sys } from "../../host/sys.ts";
import { KernelError } from "../errno.ts";
import { readSysctl } from "../sysctl.ts";
import { NftablesClient, NftCommitError } from "./client.ts";
import type { NftCommand, TableId } from "./objects.ts";

/** In no transaction but one that is refused. */
const SCRATCH: TableId = { family: "inet", name: "calico-scratch" };
const ASKED: readonly NftCommand[] = [
  { do: "add-table" },
  { do: "add-flowtable", flowtable: "f", priority: 0, devices: [] },
  { do: "add-chain", chain: "c", base: undefined },
  { do: "add-rule", chain: "c", rule: { expressions: [{ op: "flow-offload", flowtable: "f" }], comment: undefined } },
  // Always refused, so that nothing is ever written.
  { do: "delete-chain", chain: "none" },
];
/**
 * Older ones refuse to delete the connection of an offloaded flow (EBUSY), unless their distribution has mended that, which nothing tells.
 * Source: linux commit 9b7c68b3911a.
 */
const ENDS_FLOWS = [6, 4] as const;

/** Why not, in words; undefined: it can. Writes nothing. */
export function whyNoFlowtables(sys: Sys): string | undefined {
  const client = new NftablesClient(sys, SCRATCH);
  try {
    client.commit(ASKED);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const isLastAlone = error instanceof NftCommitError && error.index === ASKED.length - 1;
    if (!isLastAlone) return `the kernel has no flowtables: ${error.message}`;
  } finally {
    client.close();
  }
  const release = readSysctl(sys, "kernel/osrelease") ?? "";
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10));
  const isNew = major > ENDS_FLOWS[0] || (major === ENDS_FLOWS[0] && minor >= ENDS_FLOWS[1]);
  return isNew
    ? undefined
    : `Linux ${release.trim()} may be unable to end flows in a flowtable that policy denies after a change: ${ENDS_FLOWS.join(".")} and later can`;
}
