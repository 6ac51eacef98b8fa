/** save: what `iptables-save -c` prints, read: all tables of one family and variant with their chains, rules and counters. */
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";
import { type Rule, TABLE_NAMES, type TableName } from "./rule.ts";

export interface SavedRule extends Rule {
  readonly packets: number;
  readonly bytes: number;
}

export type SavedChains = ReadonlyMap<string, readonly SavedRule[]>;

/** By table and chain, those of others too. */
export type Saved = ReadonlyMap<TableName, SavedChains>;

/** So many lines are read in one step. */
const LINES_PER_STEP = 500;

export function parseSave(text: string): Result<Saved, ParseError> {
  const steps = parseSaveInSteps(text);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** As `parseSave`, with the thread given back between. */
export function* parseSaveInSteps(text: string): Generator<undefined, Result<Saved, ParseError>> {
  const tables = new Map<TableName, Map<string, SavedRule[]>>();
  let chains: Map<string, SavedRule[]> | undefined;
  let isOpen = false;
  for (const [i, line] of text.split("\n").entries()) {
    if (i % LINES_PER_STEP === LINES_PER_STEP - 1) yield;
    if (line === "" || line.startsWith("#")) continue;
    const wrong = (wanted: string): Result<Saved, ParseError> =>
      fail({ what: "line of iptables-save", found: line, wanted });
    if (line.startsWith("*")) {
      const table = line.slice(1);
      chains = new Map();
      isOpen = true;
      if (TABLE_NAMES.includes(table as TableName)) tables.set(table as TableName, chains);
      continue;
    }
    if (chains === undefined || !isOpen) return wrong("must be within a table");
    if (line === "COMMIT") {
      isOpen = false;
      continue;
    }
    const chain = /^:(\S+) /.exec(line)?.[1];
    if (chain !== undefined) {
      chains.set(chain, []);
      continue;
    }
    const [, packets, bytes, of = "", rule = ""] = /^(?:\[(\d+):(\d+)\] )?-A (\S+) ?(.*)$/.exec(line) ?? [];
    const rules = chains.get(of);
    if (rules === undefined) return wrong("must be a chain, or a rule of one");
    rules.push({ ...readRule(rule), packets: Number(packets ?? 0), bytes: Number(bytes ?? 0) });
  }
  if (isOpen) return fail({ what: "output of iptables-save", found: text.slice(-60), wanted: "must end with COMMIT" });
  return ok(tables);
}

/** Its target is a chain unless it is in capitals, as the kernel's are. */
export function readRule(printed: string): Rule {
  const text = printed.replace(PROTOCOL, (all, start: string, name: string) => {
    const number = PROTOCOLS.get(name);
    return number === undefined ? all : `${start}-p ${number}`;
  });
  const bare = text.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  const target = /(?:^| )-[jg] (\S+)/.exec(bare)?.[1];
  return {
    text,
    chain: target === undefined || /^[A-Z0-9]+$/.test(target) ? undefined : target,
    sets: [...bare.matchAll(/--match-set (\S+) /g)].flatMap(([, set]) => set ?? []),
  };
}

/** Before it are only addresses and interfaces, which have no quotes. */
const PROTOCOL = /^((?:! )?(?:-[sdio] \S+ (?:! )?)*)-p (\S+)/;

/** Names are printed where the machine's /etc/protocols has them, or iptables itself; they differ from machine to machine. Source: IANA. */
const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ["icmp", 1],
  ["igmp", 2],
  ["ggp", 3],
  ["ipencap", 4],
  ["ipv4", 4],
  ["st", 5],
  ["tcp", 6],
  ["cbt", 7],
  ["egp", 8],
  ["igp", 9],
  ["pup", 12],
  ["udp", 17],
  ["hmp", 20],
  ["xns-idp", 22],
  ["rdp", 27],
  ["iso-tp4", 29],
  ["dccp", 33],
  ["xtp", 36],
  ["ddp", 37],
  ["idpr-cmtp", 38],
  ["ipv6", 41],
  ["ipv6-route", 43],
  ["ipv6-frag", 44],
  ["idrp", 45],
  ["rsvp", 46],
  ["gre", 47],
  ["esp", 50],
  ["ipv6-crypt", 50],
  ["ah", 51],
  ["ipv6-auth", 51],
  ["skip", 57],
  ["ipv6-icmp", 58],
  ["icmpv6", 58],
  ["ipv6-nonxt", 59],
  ["ipv6-opts", 60],
  ["rspf", 73],
  ["vmtp", 81],
  ["eigrp", 88],
  ["ospf", 89],
  ["ospfigp", 89],
  ["ax.25", 93],
  ["ipip", 94],
  ["etherip", 97],
  ["encap", 98],
  ["pim", 103],
  ["ipcomp", 108],
  ["vrrp", 112],
  ["l2tp", 115],
  ["isis", 124],
  ["sctp", 132],
  ["fc", 133],
  ["mobility-header", 135],
  ["ipv6-mh", 135],
  ["mh", 135],
  ["udplite", 136],
  ["mpls-in-ip", 137],
  ["manet", 138],
  ["hip", 139],
  ["shim6", 140],
  ["wesp", 141],
  ["rohc", 142],
  ["ethernet", 143],
]);
