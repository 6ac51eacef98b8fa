/**
 * remove: takes a table out of the kernel under traffic. Within the deletion of a table the kernel empties its verdict maps before its rules go: a packet
 * meanwhile finds no entry, and meets the rule for what is unknown. So what the hooks run goes first.
 */
import type { NftablesClient } from "../../kernel/nftables/client.ts";
import type { Steps } from "../driver.ts";

/** Does nothing where there is no table. Throws KernelError. */
export function* removingTable(client: NftablesClient): Steps {
  if (client.hold() === undefined) return;
  for (const [chain, { base, unknownBase }] of yield* client.steps.chains())
    if (base !== undefined || unknownBase === true) client.commit([{ do: "flush-chain", chain }]);
  client.commit([{ do: "delete-table" }]);
  yield;
}
