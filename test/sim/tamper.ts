/** Tamper: somebody else changes what is ours on a node, whether the kernel's news of it arrive or are lost; and how soon it must be put right. */
import { TABLE, workloadMap } from "../../src/dataplane/nftables/names.ts";
import { KernelError } from "../../src/kernel/errno.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import type { NftCommand } from "../../src/kernel/nftables/objects.ts";
import { MAIN_TABLE, RouteClient } from "../../src/kernel/route/client.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { ROUTE_PROTOCOL } from "../../src/dataplane/routes/rows.ts";
import type { Random } from "../property/random.ts";
import { checkNode, programFromScratch } from "./invariants.ts";
import type { SimNode } from "./machine.ts";
import type { World } from "./world.ts";

const KINDS = [
  "table",
  "rules of a chain",
  "rules of an endpoint",
  "element of dispatch",
  "chain of his own",
  "route",
  "link",
  "setting",
  "forwarding",
] as const;
type Kind = (typeof KINDS)[number];

/** What somebody does to our table; undefined: there is nothing to do it to. */
function commandOf(kind: Kind, nft: NftablesClient, random: Random): NftCommand | undefined {
  const table = nft.read();
  if (table === undefined) return undefined;
  const chains = [...table.chains.keys()].filter((name) => name.startsWith("cali-"));
  switch (kind) {
    case "table":
      return { do: "delete-table" };
    case "rules of a chain":
      return { do: "flush-chain", chain: "forward" };
    case "rules of an endpoint":
      return chains.length === 0 ? undefined : { do: "flush-chain", chain: random.pick(chains) };
    case "chain of his own":
      return { do: "add-chain", chain: "somebody", base: undefined };
    default: {
      const set = workloadMap("ingress");
      const found = table.sets.get(set);
      const [element] = found?.elements ?? [];
      if (found?.is === undefined || element === undefined) return undefined;
      return { do: "delete-elements", set, is: found.is, elements: [element] };
    }
  }
}

/** False when there was nothing to change. */
export function tamper(world: World, node: SimNode, kind: Kind = world.choices.pick(KINDS)): boolean {
  const process = node.kernel.startProcess("somebody");
  const { sys } = process;
  const nft = new NftablesClient(sys, TABLE);
  const routes = new RouteClient(sys);
  world.say(`${node.name}: somebody changes our ${kind}`);
  try {
    const link = routes.links().find(({ name }) => /^cali[0-9a-f]/.test(name));
    if (kind === "route") {
      const ours = routes.routes({ table: MAIN_TABLE }).filter(({ protocol }) => protocol === ROUTE_PROTOCOL);
      if (ours.length > 0) routes.deleteRoute(world.choices.pick(ours));
      return ours.length > 0;
    }
    if (kind === "forwarding") {
      writeSysctl(sys, world.choices.pick(["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]), "0");
      return true;
    }
    if (kind === "link" || kind === "setting") {
      if (link === undefined) return false;
      if (kind === "link") routes.setLinkDown(link.index);
      else {
        const name = world.choices.pick(["ipv4/conf/%/rp_filter", "ipv4/conf/%/proxy_arp", "ipv6/conf/%/proxy_ndp"]);
        writeSysctl(sys, `net/${name.replace("%", link.name)}`, "0");
      }
      return true;
    }
    const command = commandOf(kind, nft, world.choices);
    if (command === undefined) return false;
    node.tamperedAtMs = world.clock.monotonicMs();
    nft.commit([command]);
    return true;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    world.say(`${node.name}: and cannot: ${error.message}`);
    return false;
  } finally {
    nft.close();
    routes.close();
    process.end();
  }
}

const TRIES = 1;
/** A read of everything, and what follows. */
const SOON_MS = 1_000;

/** At rest: whatever somebody changes is put right soon, without an audit, also when the kernel's news of it are lost. */
export async function checkRepairs(world: World): Promise<void> {
  for (const node of world.nodes) {
    const program = await programFromScratch(world, node);
    for (let i = 0; i < TRIES && world.violation === undefined; i++) {
      const isLost = world.choices.chance(25);
      const kind = world.choices.pick(KINDS);
      if (isLost) node.kernel.faults = { ...node.kernel.faults, loseNews: () => true };
      const isChanged = tamper(world, node, kind);
      const { loseNews: _, ...rest } = node.kernel.faults;
      node.kernel.faults = rest;
      if (!isChanged) continue;
      await world.clock.advance(SOON_MS);
      for (const wrong of checkNode(node, program))
        world.violate(
          `${wrong} a while after somebody changed our ${kind}${isLost ? " and the news of it were lost" : ""}`,
        );
    }
  }
}
