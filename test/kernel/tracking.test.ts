/** Connections are tracked from the start of the daemon, before it opens its own. */
import { expect, test } from "bun:test";
import { beginTracking } from "../../src/dataplane/nftables/tracking.ts";
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
    beginTracking(own);
    const text = tracked();
    expect(text).toContain("dst=127.0.0.1");
    expect(text).toContain("dst=::1");
    // What is there stays: nothing is written a second time.
    const before = node.run(["nft", "-a", "list", "table", "inet", "calico"]);
    beginTracking(own);
    expect(node.run(["nft", "-a", "list", "table", "inet", "calico"])).toBe(before);
  } finally {
    removeNamespace(node);
  }
});
