/** law-backends: the dataplanes that the law is held against: how each is given a program, and how the counters of its rules are read. */
import { awaitSteps } from "../../src/dataplane/driver.ts";
import { IptablesDriver } from "../../src/dataplane/iptables/driver.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { TABLE } from "../../src/dataplane/nftables/names.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openProcesses } from "../../src/host/bun/processes.ts";
import type { Processes } from "../../src/host/processes.ts";
import type { Variant } from "../../src/kernel/iptables/client.ts";
import { TABLE_NAMES } from "../../src/kernel/iptables/rule.ts";
import { parseSave, type Saved } from "../../src/kernel/iptables/save.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { unwrap } from "../../src/lib/result.ts";
import type { Family } from "../../src/net/addr.ts";
import type { Program } from "../../src/program/program.ts";
import { type Namespace, sys } from "./fixture.ts";

/** By rule: what it has counted. */
export type Counts = ReadonlyMap<string, number>;

export interface LawBackend {
  readonly name: string;
  /** Makes the node's kernel equal to the program, whatever it had before. */
  commit(program: Program): Promise<void>;
  counts(family: Family): Counts;
  /** `CHAIN: COMMENT` of each rule that has a comment. */
  readonly comments: ReadonlyMap<string, string>;
  /** Rules that drop. */
  readonly drops: ReadonlySet<string>;
  /** What the comment of a rule, and what is expected of it, are compared as. */
  plain(decision: string): string;
  close(): void;
}

export function nftablesBackend(node: Namespace): LawBackend {
  const client = node.enter(() => new NftablesClient(sys, TABLE));
  const comments = new Map<string, string>();
  const drops = new Set<string>();
  return {
    name: "nftables",
    comments,
    drops,
    commit(program) {
      node.run(["nft", "add", "table", "inet", "calico"]);
      node.run(["nft", "delete", "table", "inet", "calico"]);
      const driver = node.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
      driver.lower(program, whole(program));
      driver.read();
      driver.commit();
      driver.close();
      comments.clear();
      drops.clear();
      for (const [chain, { rules }] of client.read()?.chains ?? [])
        for (const { handle, rule } of rules) {
          comments.set(String(handle), `${chain}: ${rule?.comment ?? ""}`);
          const last = rule?.expressions.at(-1);
          if (last?.op === "verdict" && last.verdict.type === "drop") drops.add(String(handle));
        }
      return Promise.resolve();
    },
    counts: () =>
      new Map(
        [...client.counters().values()].flatMap((rules) =>
          rules.map(({ handle, packets }) => [String(handle), Number(packets)] as const),
        ),
      ),
    // Steps of the path are called by their name alone, whatever chain they are in; a logging rule may have a chain of its own.
    plain: (decision) =>
      decision
        .replace(/\/log\d+: /, ": ")
        .replace(/^(prerouting|input|forward|output|cali-to-workload|cali-neighbor-discovery): /, ": "),
    close: () => client.close(),
  };
}

function whole({ sets, policies, endpoints, routes }: Program) {
  return { sets, policies, endpoints, routes, members: new Map() };
}

const FAMILIES = [4, 6] as const;

export function iptablesBackend(node: Namespace, variant: Variant): LawBackend {
  const own = openProcesses();
  const processes: Processes = {
    run: (command, options) => own.run(["ip", "netns", "exec", node.name, ...command], options),
  };
  const comments = new Map<string, string>();
  const drops = new Set<string>();
  const save = (family: Family): Saved =>
    unwrap(parseSave(node.run([`${family === 4 ? "iptables" : "ip6tables"}-${variant}-save`, "-c"])));
  const tables = new Map(
    FAMILIES.map((family) => [
      family,
      TABLE_NAMES.map((name) => {
        const table = { family: family === 4 ? "ip" : "ip6", name } as const;
        return { name, client: node.enter(() => new NftablesClient(sys, table)) };
      }),
    ]),
  );
  const idOf = (family: Family, table: string, chain: string, i: number): string => `${family} ${table} ${chain} ${i}`;
  /** Of the nft variant the kernel tells them sooner than the program does. */
  const counters = (family: Family): [string, number][] =>
    variant === "legacy"
      ? [...save(family)].flatMap(([table, chains]) =>
          [...chains].flatMap(([chain, rules]) =>
            rules.map(({ packets }, i): [string, number] => [idOf(family, table, chain, i), packets]),
          ),
        )
      : (tables.get(family) ?? []).flatMap(({ name, client }) =>
          [...client.counters()].flatMap(([chain, rules]) =>
            rules.map(({ packets }, i): [string, number] => [idOf(family, name, chain, i), Number(packets)]),
          ),
        );
  return {
    name: `iptables-${variant}`,
    comments,
    drops,
    async commit(program) {
      const options = { processes, variant, families: new Set(FAMILIES), clock: openClock() };
      const driver = node.enter(() => new IptablesDriver(sys, options));
      try {
        driver.lower(program, whole(program));
        await awaitSteps(driver.reading());
        await awaitSteps(driver.committing());
        const [failed] = driver.failures;
        if (failed !== undefined) throw new Error(`${failed.row}: ${failed.error}`);
      } finally {
        driver.close();
      }
      comments.clear();
      drops.clear();
      for (const family of FAMILIES)
        for (const [table, chains] of save(family))
          for (const [chain, rules] of chains)
            for (const [i, { text }] of rules.entries()) {
              const comment = /--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))/.exec(text);
              if (comment === null) continue;
              comments.set(idOf(family, table, chain, i), `${chain}: ${comment[1] ?? comment[2]}`);
              if (text.endsWith("-j DROP")) drops.add(idOf(family, table, chain, i));
            }
    },
    counts: (family) => new Map(counters(family).filter(([id]) => comments.has(id))),
    // A rule may have a chain of its own.
    plain: (decision) => decision.slice(decision.indexOf(": ")),
    close() {
      for (const { client } of [...tables.values()].flat()) client.close();
    },
  };
}
