/** flowtables: whether the kernel can offload established flows. */
import type { Sys } from "../../host/sys.ts";
import { KernelError } from "../errno.ts";
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
  return undefined;
}
