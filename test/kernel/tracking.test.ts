/** Connections are tracked from the start of the daemon, before it opens its own. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { beginTracking } from "../../src/dataplane/nftables/tracking.ts";
import { canOwnTables } from "../../src/kernel/nftables/client.ts";
import { GUARD_TABLE } from "../../src/dataplane/ebpf/guard.ts";
import { sourcesSet } from "../../src/dataplane/iptables/names.ts";
import { IpSetClient } from "../../src/kernel/ipset/client.ts";
import { lookUp, makeRule } from "../../src/kernel/iptables/rule.ts";
import { makeNamespace, REAL, removeNamespace, sys } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";

test("a connection through the node's input is tracked from its first packet", () => {
  const node = makeNamespace("tracking");
  try {
    const tracked = (): string => {
      node.run(["ping", "-c1", "-W1", "127.0.0.1"]);
      node.run(["ping", "-c1", "-W1", "::1"]);
      return node.run(["conntrack", "-L"]) + node.run(["conntrack", "-L", "-f", "ipv6"]);
    };
    expect(tracked()).toBe("");
    const own = sysIn(REAL, node);
    const ownsTable = canOwnTables(own);
    const families = new Set([4, 6] as const);
    beginTracking(own, families, ownsTable);
    const text = tracked();
    expect(text).toContain("dst=127.0.0.1");
    expect(text).toContain("dst=::1");
    // What is there stays: nothing is written a second time.
    const before = node.run(["nft", "-a", "list", "table", "inet", "calico"]);
    beginTracking(own, families, ownsTable);
    expect(node.run(["nft", "-a", "list", "table", "inet", "calico"])).toBe(before);
    // The driver goes on from it: it takes the table and writes the rest.
    const graph = new Graph({ node: "n1" });
    const driver = new NftablesDriver(own, { ownsTable, clock: openClock() });
    driver.lower(graph.program, graph.flush());
    driver.read();
    expect(driver.plan().map(({ what }) => what)).not.toContain("table: made anew");
    driver.commit();
    expect([driver.pending, driver.writes]).toEqual([0, ownsTable ? 2 : 1]);
    driver.close();
  } finally {
    removeNamespace(node);
  }
});

for (const variant of ["legacy", "nft"])
  test(`where iptables-${variant} has our chains already, nothing is made; where one family lacks them, the table is`, () => {
    const node = makeNamespace("tracking");
    const sets = node.enter(() => new IpSetClient(sys));
    try {
      const begin = (): string => {
        beginTracking(sysIn(REAL, node), new Set([4, 6]), false);
        return node.run(["nft", "list", "tables", "inet"]);
      };
      for (const [family, program] of [
        [4, "iptables"],
        [6, "ip6tables"],
      ] as const) {
        const set = sourcesSet(family);
        sets.create(set, { type: "hash:net,iface", family });
        const check = makeRule({ extensions: [lookUp(set, "src,src", true)] }, { do: "target", text: "DROP" });
        node.run(
          [`${program}-${variant}-restore`],
          `*filter\n:cali-FORWARD -\n-A cali-FORWARD ${check.text}\nCOMMIT\n`,
        );
      }
      expect(begin()).toBe("");
      node.run([`ip6tables-${variant}`, "-F", "cali-FORWARD"]);
      expect(begin()).toContain("table inet calico");
    } finally {
      sets.close();
      removeNamespace(node);
    }
  });

test("where the eBPF path's own table asks for the state already, nothing is made", () => {
  const node = makeNamespace("tracking");
  try {
    node.run(["nft", "add", "table", GUARD_TABLE.family, GUARD_TABLE.name]);
    beginTracking(sysIn(REAL, node), new Set([4, 6]), false);
    expect(node.run(["nft", "list", "tables"])).toBe(`table ${GUARD_TABLE.family} ${GUARD_TABLE.name}\n`);
  } finally {
    removeNamespace(node);
  }
});
