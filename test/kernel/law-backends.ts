/** law-backends: the dataplanes that the law is held against: how each is given a program, and how the counters of its rules are read. */
import { readFileSync } from "node:fs";
import { awaitSteps, finishSteps } from "../../src/dataplane/driver.ts";
import type { Counters } from "../../src/dataplane/counters.ts";
import {
  ANSWERED,
  type Connection,
  type ConnectionKey,
  encodeConnection,
  encodeConnectionKey,
  type FlowEnd,
} from "../../src/dataplane/ebpf/connections.ts";
import type { Block } from "../../src/dataplane/ebpf/image.ts";
import { ACTIONS, decodeRecords, DROPS, RECORD_BYTES, RECORD_KINDS } from "../../src/dataplane/ebpf/layout.ts";
import { asDeciding, isPlain } from "../../src/dataplane/ebpf/records.ts";
import { readCounters as readIptablesCounters } from "../../src/dataplane/iptables/counters.ts";
import { IptablesDriver } from "../../src/dataplane/iptables/driver.ts";
import { readCounters as readNftablesCounters } from "../../src/dataplane/nftables/counters.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { TABLE } from "../../src/dataplane/nftables/names.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { IptablesClient, type Variant } from "../../src/kernel/iptables/client.ts";
import { TABLE_NAMES } from "../../src/kernel/iptables/rule.ts";
import { parseSave, type Saved } from "../../src/kernel/iptables/save.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { nanosecondsSinceBoot } from "../../src/kernel/uptime.ts";
import { unwrap } from "../../src/lib/result.ts";
import type { Family } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import type { PathPacket } from "../../src/program/path-evaluate.ts";
import type { Program } from "../../src/program/program.ts";
import { makeBpfFs } from "./bpffs.ts";
import { type Namespace, processesIn, sys } from "./fixture.ts";
import { openEbpf } from "./ebpf-driver.ts";

/** By rule: what it has counted. */
export type Counts = ReadonlyMap<string, number>;

export interface LawBackend {
  readonly name: string;
  /** Stages that are alike count together, and are told of none of their endpoints. */
  readonly sharesEnds?: boolean;
  /** `counts` tells of both families whichever it is asked for. */
  readonly countsBoth?: boolean;
  /** Of a backend with a table of connections of its own. */
  readonly connections?: LawConnections;
  /** Makes the node's kernel equal to the program, whatever it had before. */
  commit(program: Program): Promise<void>;
  counts(family: Family): Counts;
  /** What `calico node --counters` would say; absent: the dataplane has no counters. */
  readonly counters?: (program: Program) => Promise<Counters>;
  /** `CHAIN: COMMENT` of each rule that has a comment. */
  readonly comments: ReadonlyMap<string, string>;
  /** Rules that drop. */
  readonly drops: ReadonlySet<string>;
  /** What the comment of a rule, and what is expected of it, are compared as. */
  plain(decision: string): string;
  close(): void;
}

export interface LawConnections {
  /** The same for packets of one flow, in either direction. */
  flowOf(sent: PathPacket): string;
  /** Makes the established ones of the next packets known, forgets what was known, and what the last packets began. Each is of another flow. */
  begin(next: readonly PathPacket[]): void;
}

export function nftablesBackend(node: Namespace): LawBackend {
  const client = node.enter(() => new NftablesClient(sys, TABLE));
  const comments = new Map<string, string>();
  const drops = new Set<string>();
  return {
    name: "nftables",
    countsBoth: true,
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
    counters(program) {
      let reading: Promise<Counters> | undefined;
      node.enter(() => void (reading = readNftablesCounters(sys, openClock(), program)));
      return reading ?? Promise.reject(new Error("nothing is read"));
    },
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
  const processes = processesIn(node);
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
    counters(program) {
      const clients = FAMILIES.map((family) => new IptablesClient(processes, openClock(), variant, family));
      return readIptablesCounters(clients, openClock(), program);
    },
    // A rule may have a chain of its own.
    plain: (decision) => decision.slice(decision.indexOf(": ")),
    close() {
      for (const { client } of [...tables.values()].flat()) client.close();
    },
  };
}

/** The counters of records, and of the steps that drop. */
export function ebpfBackend(node: Namespace): LawBackend {
  const object = new Uint8Array(readFileSync(new URL("../../bpf/path.o", import.meta.url)));
  const fs = makeBpfFs();
  const driver = openEbpf(node, fs.path, object);
  const routes = node.enter(() => new RouteClient(sys));
  const indexes = new Map<string, number>(routes.links().map(({ name, index }) => [name, index]));
  routes.close();
  const comments = new Map<string, string>();
  const drops = new Set<string>();
  let end = 1;
  let known: readonly Uint8Array[] = [];
  const note = (id: string, comment: string, isDrop: boolean): void => {
    comments.set(id, `: ${comment}`);
    if (isDrop) drops.add(id);
  };
  return {
    name: "ebpf",
    sharesEnds: true,
    countsBoth: true,
    connections: {
      flowOf({ packet }) {
        const { source, destination, sourcePort, destinationPort, protocol } = connectionKey(packet);
        return `${protocol} ${[`${source} ${sourcePort}`, `${destination} ${destinationPort}`].toSorted().join(" ")}`;
      },
      begin(next) {
        const { connections } = driver.maps;
        for (const key of known) connections.delete(key);
        known = next.map((sent) => encodeConnectionKey(connectionKey(sent.packet)));
        for (const [i, sent] of next.entries())
          if (sent.connection === "established")
            connections.update(
              known[i] ?? new Uint8Array(),
              encodeConnection(answered(sent, (name) => indexes.get(name) ?? 0)),
            );
      },
    },
    comments,
    drops,
    commit(program) {
      driver.lower(program, whole(program));
      finishSteps(driver.committing());
      comments.clear();
      drops.clear();
      end = 1;
      for (const [i, name] of DROPS.entries()) note(`drop ${i}`, name, true);
      for (const block of driver.image?.blocks.values() ?? []) {
        for (const [i, { comment, isDrop }] of commentsOf(block)) note(String(block.start + i), comment, isDrop);
        end = Math.max(end, block.start + block.records.length / RECORD_BYTES);
      }
      return Promise.resolve();
    },
    counts() {
      const { counters, drops: dropped } = driver.maps;
      // Packets, then bytes.
      const counted = numbersOf(counters.values(0, end)).filter((_, i) => i % 2 === 0);
      const records = counted.map((count, i) => [String(i), count] as const);
      const steps = numbersOf(dropped.values(0, DROPS.length)).map((count, i) => [`drop ${i}`, count] as const);
      return new Map([...records, ...steps].filter(([id]) => comments.has(id)));
    },
    counters: (program) => driver.counters(program),
    // The records of a policy are the same wherever it is called from.
    plain: (decision) => decision.slice(decision.indexOf(": ")),
    close() {
      driver.close();
      fs.remove();
    },
  };
}

/** Echoes of the bench have the identifier 1. */
function connectionKey({
  source,
  destination,
  protocol,
  sourcePort,
  destinationPort,
  icmp,
}: FlowPacket): ConnectionKey {
  const port = icmp === undefined ? 0 : 0x0100;
  return {
    protocol,
    source,
    destination,
    sourcePort: sourcePort ?? port,
    destinationPort: destinationPort ?? port,
  };
}

/** The packet's flow, between the interfaces of the packet. */
function answered({ original, from, to }: PathPacket, indexOf: (name: string) => number): Connection {
  const end = (name: string | undefined): FlowEnd => {
    if (name === undefined) return { kind: "node", interfaceIndex: 0 };
    return { kind: name === "world" ? "outside" : "workload", interfaceIndex: indexOf(name) };
  };
  const { source, destination, sourcePort, destinationPort, icmp } = original;
  return {
    seen: nanosecondsSinceBoot(sys),
    flags: ANSWERED,
    ends: [end(from), end(to)],
    isAlias: false,
    original: {
      source,
      destination,
      sourcePort: sourcePort ?? 0,
      destinationPort: destinationPort ?? 0,
      icmp: icmp ?? { type: 0, code: 0 },
    },
  };
}

function numbersOf(values: Uint8Array): number[] {
  const view = new DataView(values.buffer);
  return Array.from({ length: values.length / 8 }, (_, i) => Number(view.getBigUint64(i * 8, true)));
}

/** By place in the block: what the record that counts says. */
function* commentsOf({ kind, text, records }: Block): Generator<[number, { comment: string; isDrop: boolean }]> {
  const decoded = asDeciding(decodeRecords(records));
  const decides = !kind.startsWith("staged-");
  const words = (detail: number): string =>
    Object.entries(ACTIONS).find(([, number]) => number === detail)?.[0] ?? `action ${detail}`;
  const [first = "", ...more] = text.split("\0");
  const tiers = [first, ...more];
  const direction = kind.slice(kind.lastIndexOf("-") + 1);
  let tier = 0;
  for (const [i, record] of decoded.entries()) {
    const isDrop = decides && record.detail === ACTIONS.deny;
    const name = first.split("/").slice(1).join("/");
    if (record.kind === RECORD_KINDS.action)
      yield [i, { comment: `${words(record.detail)} ${name} ${direction} rule ${record.target + 1}`, isDrop }];
    else if (record.kind === RECORD_KINDS["tier-end"])
      yield [i, { comment: `${direction} no rule of tier ${tiers[tier++]} matched`, isDrop }];
    else if (record.kind === RECORD_KINDS.end) {
      const isOpen = isPlain(decoded) && record.detail === ACTIONS.allow;
      yield [i, { comment: `${direction} ${isOpen ? "not isolated" : "end"}`, isDrop }];
    }
  }
}
