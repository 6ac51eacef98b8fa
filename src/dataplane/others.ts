/**
 * others: what else on the node drops packets that policy allows: base chains of other tables that drop what they do not accept. No order of ours
 * comes before them: in nf_tables an accepted packet goes on to the next base chain of the hook, a dropped one is gone.
 */
import type { Clock } from "../host/clock.ts";
import type { Processes } from "../host/processes.ts";
import type { Sys } from "../host/sys.ts";
import { IptablesClient } from "../kernel/iptables/client.ts";
import { type FoundBaseChain, type FoundRule, NftablesObserver } from "../kernel/nftables/base-chains.ts";
import type { Expr, TableId } from "../kernel/nftables/objects.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { FAMILIES, type Family } from "../net/addr.ts";
import { hexText } from "./nftables/bytes.ts";
import { TABLE } from "./nftables/names.ts";

export interface OthersOptions {
  readonly sys: Sys;
  readonly processes: Processes;
  readonly clock: Clock;
  readonly families: ReadonlySet<Family>;
  /** That runs: `nftables`, `iptables-nft`, `iptables-legacy`. */
  readonly dataplane: string;
  /** How workloads' interfaces are called. */
  readonly prefixes: readonly string[];
  /** Some workload has source prefixes. */
  readonly hasSources: boolean;
}

/**
 * Chains that forwarded packets pass and that drop what they do not accept, unless they accept all from and to workloads: `chain forward of table
 * inet firewall (nft) drops …`. Rejects with KernelError when they cannot be read.
 */
export async function droppingOthers(options: OthersOptions): Promise<readonly string[]> {
  const found = [...inNftables(options)];
  // Where ours are in the same chain, they are before all others, and what they accept is accepted.
  if (options.dataplane !== "iptables-legacy") found.push(...(await inLegacy(options)));
  const chains = found.map((chain) => `${chain} drops what it does not accept, pods' packets too`);
  const filter = options.hasSources ? readSysctl(options.sys, ALL_RP_FILTER) : undefined;
  if (filter === undefined || filter === "0") return chains;
  return [
    ...chains,
    `${ALL_RP_FILTER} is ${filter}: the kernel drops IPv4 packets from source prefixes unless it is 0`,
  ];
}

/** Of it and the setting of the interface the greater counts. */
const ALL_RP_FILTER = "net/ipv4/conf/all/rp_filter";

function inNftables({ sys, dataplane, prefixes }: OthersOptions): readonly string[] {
  const observer = new NftablesObserver(sys);
  try {
    return observer
      .baseChains()
      .filter(({ table, base }) => base.hook === "forward" && !isOurs(table, dataplane))
      .filter((found) => {
        const rules = observer.rulesOf(found.table);
        return dropsTheRest(found, rules) && !prefixes.every((prefix) => acceptsAll(rules, prefix));
      })
      .map(({ table, chain }) => `chain ${chain} of table ${table.family} ${table.name} (nft)`);
  } finally {
    observer.close();
  }
}

function isOurs({ family, name }: TableId, dataplane: string): boolean {
  if (dataplane === "iptables-nft" && family !== "inet" && name === "filter") return true;
  return family === TABLE.family && name === TABLE.name;
}

/** By its policy, or by a last rule that every packet matches. */
function dropsTheRest({ chain, base }: FoundBaseChain, rules: readonly FoundRule[]): boolean {
  if (base.policy === "drop") return true;
  const last = rules.findLast((rule) => rule.chain === chain);
  if (last === undefined) return false;
  const { names, expressions } = last;
  const end = expressions?.at(-1);
  const drops = names.at(-1) === "reject" || (end?.op === "verdict" && end.verdict.type === "drop");
  return drops && names.slice(0, -1).every((name) => name === "counter" || name === "log");
}

function acceptsAll(rules: readonly FoundRule[], prefix: string): boolean {
  return (["iifname", "oifname"] as const).every((key) => rules.some((rule) => isAccept(rule, key, prefix)));
}

/** `iifname "cali*" accept`, also as `iptables-nft` writes it. */
function isAccept({ expressions }: FoundRule, key: "iifname" | "oifname", prefix: string): boolean {
  const [load, compare, ...rest] = (expressions ?? []).filter(({ op }) => op !== "counter");
  const isPrefix = (expr: Expr | undefined): boolean =>
    expr?.op === "cmp" && expr.compare === "eq" && expr.data === hexText(prefix);
  return (
    load?.op === "meta" &&
    load.key === key &&
    isPrefix(compare) &&
    rest.length === 1 &&
    rest[0]?.op === "verdict" &&
    rest[0].verdict.type === "accept"
  );
}

async function inLegacy({ processes, clock, families, prefixes }: OthersOptions): Promise<readonly string[]> {
  const found: string[] = [];
  for (const family of FAMILIES.filter((each) => families.has(each))) {
    const program = family === 4 ? "iptables-legacy" : "ip6tables-legacy";
    const text = await new IptablesClient(processes, clock, "legacy", family).save(false);
    const filter = text.slice(Math.max(0, text.indexOf("*filter")));
    const isAccepted = prefixes.every((prefix) =>
      ["-i", "-o"].every((side) => filter.includes(` ${side} ${prefix}+ -j ACCEPT\n`)),
    );
    if (/^:FORWARD DROP /m.test(filter) && !isAccepted) found.push(`chain FORWARD of table filter (${program})`);
  }
  return found;
}
