/**
 * Tracking: begins the kernel's tracking of connections, if nothing of ours has begun it yet.
 *
 * The kernel tracks connections while some rule asks for their state. Of one that is older than the first such rule it takes the next packet for the
 * first, whoever sends it: an answer of the API server would be a call to the node, which a host endpoint's policy may deny. So the
 * daemon begins it before it opens connections of its own. The table is completed when everything is known; what is made here is as an earlier
 * process would have left it, so that the driver can go on from it step by step.
 */
import type { Sys } from "../../host/sys.ts";
import { IpSetClient } from "../../kernel/ipset/client.ts";
import { NftablesClient } from "../../kernel/nftables/client.ts";
import type { Family } from "../../net/addr.ts";
import { GUARD_TABLE } from "../ebpf/guard.ts";
import { sourcesSet } from "../iptables/names.ts";
import { BASES, isConnection, verdict } from "./base.ts";
import { hookChain, TABLE } from "./names.ts";

/** `families`: those that the kernel has; `ownsTable`: it lets a socket own one. Throws KernelError. */
export function beginTracking(sys: Sys, families: ReadonlySet<Family>, ownsTable: boolean): void {
  const client = new NftablesClient(sys, TABLE);
  try {
    if (client.hold() !== undefined || ebpfTracks(sys) || iptablesTracks(sys, families)) return;
    const chain = hookChain("input");
    const expressions = [...isConnection(["established", "related"]), ...verdict({ type: "accept" })];
    client.commit([
      { do: ownsTable ? "own-table" : "add-table" },
      { do: "add-chain", chain, base: BASES.input },
      { do: "add-rule", chain, rule: { expressions, comment: undefined } },
    ]);
  } finally {
    client.close();
  }
}

/** The rules that close what no program of the path has seen ask for the state too. */
function ebpfTracks(sys: Sys): boolean {
  const client = new NftablesClient(sys, GUARD_TABLE);
  try {
    return client.hold() !== undefined;
  } finally {
    client.close();
  }
}

/** The chain that checks sources is written together with the rule after it, which asks for the state. */
function iptablesTracks(sys: Sys, families: ReadonlySet<Family>): boolean {
  const client = new IpSetClient(sys);
  try {
    const used = new Set(client.list().flatMap(({ name, references }) => (references > 0 ? [name] : [])));
    return [...families].every((family) => used.has(sourcesSet(family)));
  } finally {
    client.close();
  }
}
