/** Connections are tracked from the start of the daemon, before it opens its own. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { beginTracking } from "../../src/dataplane/nftables/tracking.ts";
import { canOwnTables } from "../../src/kernel/nftables/client.ts";
import { makeNamespace, REAL, removeNamespace } from "./fixture.ts";
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
    beginTracking(own, ownsTable);
    const text = tracked();
    expect(text).toContain("dst=127.0.0.1");
    expect(text).toContain("dst=::1");
    // What is there stays: nothing is written a second time.
    const before = node.run(["nft", "-a", "list", "table", "inet", "calico"]);
    beginTracking(own, ownsTable);
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
