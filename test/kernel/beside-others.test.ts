/**
 * Each dataplane beside rules of others, in either order of start and through their restarts: pods' allowed datagrams go, denied ones do not, nobody's
 * rules are touched, and our jumps are in first place again. What others drop in chains that no order of ours comes before stays dropped
 * until they accept it: docs/dataplanes.md says how.
 */
import { describe, expect, test } from "bun:test";
import { DATAPLANES, type Dataplane } from "../dataplane.ts";
import { AS_POLICY_SAYS, DataplaneNode, nodeProgram, type Passed } from "./dataplane-node.ts";
import type { Namespace } from "./fixture.ts";

type Variant = "legacy" | "nft";
const WORDS = ["iptables", "ip6tables"] as const;

/** What somebody else has on the node. */
interface Others {
  readonly name: string;
  /** Makes all of it, also where it is already. */
  start(node: Namespace): void;
  /** Its rules as they are now, without ours. */
  rules(node: Namespace): string;
  /** What its owner adds so that pods' traffic passes. */
  admit(node: Namespace): void;
  /** The variant of iptables whose FORWARD it is in; undefined: in a table of its own. */
  readonly variant: Variant | undefined;
}

function inIptables(name: string, variant: Variant, rules: string, accepts: string): Others {
  const each = (node: Namespace, text: string): void => {
    for (const word of WORDS) node.run([`${word}-${variant}-restore`, "--noflush", "--wait", "5"], text);
  };
  return {
    name,
    variant,
    start: (node) => {
      for (const word of WORDS)
        for (const line of node.run([`${word}-${variant}-save`, "-t", "filter"]).split("\n"))
          if (line.startsWith("-A FORWARD ") && !line.includes("cali-"))
            node.run([`${word}-${variant}`, "-D", ...line.split(" ").slice(1)]);
      each(node, rules);
    },
    rules: (node) =>
      WORDS.map((word) =>
        node
          .run([`${word}-${variant}-save`, "-t", "filter"])
          .split("\n")
          .filter((line) => !/^#|cali-/.test(line))
          .map((line) => line.replace(/\[\d+:\d+\]/, ""))
          .join("\n"),
      ).join("\n"),
    admit: (node) =>
      each(node, `*filter\n-I ${accepts} -i cali+ -j ACCEPT\n-I ${accepts} -o cali+ -j ACCEPT\nCOMMIT\n`),
  };
}

/** Docker's own chains: it inserts the jumps in first place whenever it starts. */
const docker = (variant: Variant): Others =>
  inIptables(
    `docker in iptables-${variant}`,
    variant,
    `*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
-I FORWARD 1 -j DOCKER-USER
-I FORWARD 2 -j DOCKER-FORWARD
-A DOCKER-FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -o docker0 -j DOCKER
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
COMMIT
`,
    "DOCKER-USER",
  );

/** As ufw loads its rules, with its default of dropping what is routed. */
const ufw = (variant: Variant): Others =>
  inIptables(
    `ufw in iptables-${variant}`,
    variant,
    `*filter
:FORWARD DROP [0:0]
:ufw-before-forward - [0:0]
:ufw-after-forward - [0:0]
:ufw-reject-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-after-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-reject-forward -j DROP
COMMIT
`,
    "ufw-before-forward",
  );

function inTable(name: string, chain: string, body: string): Others {
  return {
    name,
    variant: undefined,
    start: (node) =>
      void node.run(
        ["nft", "-f", "-"],
        `table inet ${name} {}\ndelete table inet ${name}\ntable inet ${name} {\n chain ${chain} {\n${body}\n }\n}\n`,
      ),
    rules: (node) => node.run(["nft", "-s", "list", "table", "inet", name]),
    admit: (node) => {
      for (const match of ["iifname", "oifname"])
        node.run(["nft", "insert", "rule", "inet", name, chain, match, '"cali*"', "accept"]);
    },
  };
}

const OTHERS: readonly Others[] = [
  docker("nft"),
  docker("legacy"),
  ufw("nft"),
  ufw("legacy"),
  inTable(
    "firewall",
    "forward",
    "type filter hook forward priority filter; policy drop;\nct state established,related accept",
  ),
  inTable(
    "firewalld",
    "filter_FORWARD",
    "type filter hook forward priority filter + 10; policy accept;\nct state established,related accept\nreject with icmpx admin-prohibited",
  ),
];

/** Allowed datagrams are dropped by somebody else. */
const NOTHING_PASSES: Passed = { ...AS_POLICY_SAYS, allowed: AS_POLICY_SAYS.allowed.map(() => false) };

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !isSo(); await Bun.sleep(5))
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
}

/** Nobody tells of changes of x_tables: they are found by looking. */
const LOOK_MS = 200;

function isFirst(node: Namespace, dataplane: Dataplane): boolean {
  if (!dataplane.startsWith("iptables-")) return true;
  const variant = dataplane.slice("iptables-".length);
  return WORDS.every((word) => {
    const [first] = node
      .run([`${word}-${variant}`, "-S", "FORWARD"])
      .split("\n")
      .filter((line) => line.startsWith("-A"));
    return first === "-A FORWARD -j cali-FORWARD";
  });
}

for (const dataplane of DATAPLANES)
  describe(dataplane, () => {
    for (const others of OTHERS) {
      // A rule of ours that accepts ends the table's chain in which it is, and no other.
      const isBefore = dataplane === `iptables-${others.variant}`;
      test(`${others.name}: ${isBefore ? "what policy allows passes" : "what policy allows passes once it is let through there"}`, async () => {
        const bench = new DataplaneNode();
        const { node } = bench;
        const program = nodeProgram(dataplane);
        const settled = async (): Promise<void> =>
          await until("our rules to be in place", () => bench.loop.isWritten && isFirst(node, dataplane));
        const check = async (expected: Passed, wanted: string): Promise<void> => {
          await settled();
          expect(await bench.passed()).toEqual(expected);
          expect(others.rules(node)).toBe(wanted);
        };
        try {
          const start = (): Promise<void> =>
            bench.start(program, dataplane === "iptables-legacy" ? { auditIntervalMs: LOOK_MS } : {});
          // They first, then we.
          others.start(node);
          let theirs = others.rules(node);
          await start();
          await check(isBefore ? AS_POLICY_SAYS : NOTHING_PASSES, theirs);
          expect((await bench.others()).length > 0).toBe(!isBefore);
          if (!isBefore) {
            others.admit(node);
            theirs = others.rules(node);
            expect(await bench.others()).toEqual([]);
          }
          await check(AS_POLICY_SAYS, theirs);
          // They start again: what they have is flushed and inserted before ours.
          others.start(node);
          if (!isBefore) others.admit(node);
          await check(AS_POLICY_SAYS, others.rules(node));
          // We start again.
          await bench.stop();
          theirs = others.rules(node);
          await start();
          await check(AS_POLICY_SAYS, theirs);
        } finally {
          await bench.remove();
        }
      }, 60_000);
    }

    test("they start when we are there already", async () => {
      const bench = new DataplaneNode();
      try {
        await bench.start(nodeProgram(dataplane), dataplane === "iptables-legacy" ? { auditIntervalMs: LOOK_MS } : {});
        expect(await bench.passed()).toEqual(AS_POLICY_SAYS);
        for (const others of OTHERS) {
          others.start(bench.node);
          if (dataplane !== `iptables-${others.variant}`) others.admit(bench.node);
          const theirs = others.rules(bench.node);
          await until("our jump to be first", () => isFirst(bench.node, dataplane) && bench.loop.isWritten);
          expect(await bench.passed()).toEqual(AS_POLICY_SAYS);
          expect(others.rules(bench.node)).toBe(theirs);
        }
      } finally {
        await bench.remove();
      }
    }, 60_000);
  });
