/** Connections are tracked from the start of the daemon, before it opens its own. */
import { expect, test } from "bun:test";
import { beginTracking } from "../../src/dataplane/nftables/tracking.ts";
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
    beginTracking(own, new Set([4, 6]));
    const text = tracked();
    expect(text).toContain("dst=127.0.0.1");
    expect(text).toContain("dst=::1");
    // What is there stays: nothing is written a second time.
    const before = node.run(["nft", "-a", "list", "table", "inet", "calico"]);
    beginTracking(own, new Set([4, 6]));
    expect(node.run(["nft", "-a", "list", "table", "inet", "calico"])).toBe(before);
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
        beginTracking(sysIn(REAL, node), new Set([4, 6]));
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
