/**
 * What the kernel tells of transactions (who changed our table, by which generation, and that news were lost), of links, routes and settings;
 * and what was added to the model for the drivers: the same on both kernels.
 */
import { expect, test } from "bun:test";
import type { Sys } from "../../src/host/sys.ts";
import { EAGAIN, ENOBUFS } from "../../src/kernel/errno.ts";
import { openNotifications } from "../../src/kernel/netlink/notifications.ts";
import { NETLINK_NETFILTER } from "../../src/kernel/netlink/socket.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { type ForeignTransaction, ForeignTransactions } from "../../src/kernel/nftables/monitor.ts";
import type { NftCommand, NftRule, NftSet, TableId } from "../../src/kernel/nftables/objects.ts";
import { type KernelRoute, MAIN_TABLE, RouteClient, SCOPE_LINK } from "../../src/kernel/route/client.ts";
import { LINK_GROUPS, openRouteNotifications, readNews, ROUTE_GROUPS } from "../../src/kernel/route/monitor.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { onBothKernels } from "./fixture.ts";

const TABLE: TableId = { family: "inet", name: "calico-news" };
const GROUP = 7;
const MSG_DONTWAIT = 0x40;
const OURS = 80;
const SET: NftSet = { key: ["ipv4_addr"], interval: false, verdictMap: false };

/** Everything that can be read now; the last word is why no more could be. */
function drain(
  sys: Sys,
  fd: number,
  transactions: ForeignTransactions,
  own: number | undefined,
): (ForeignTransaction | number)[] {
  const buffer = new Uint8Array(1 << 18);
  const found: (ForeignTransaction | number)[] = [];
  for (;;) {
    const length = sys.receive(fd, buffer, MSG_DONTWAIT);
    if (length < 0) return [...found, -length];
    found.push(...transactions.take(buffer.subarray(0, length), own));
  }
}

onBothKernels(({ sys, withNamespaces }) => {
  const withSockets = (
    receiveBytes: number,
    run: (
      ours: NftablesClient,
      other: NftablesClient,
      heard: (own?: number) => (ForeignTransaction | number)[],
    ) => void,
  ): void =>
    withNamespaces(["news"], (namespace) => {
      const [ours, other] = [0, 1].map(() => namespace.enter(() => new NftablesClient(sys, TABLE)));
      const fd = namespace.enter(() => openNotifications(sys, NETLINK_NETFILTER, [GROUP], receiveBytes));
      const transactions = new ForeignTransactions(TABLE);
      try {
        if (ours === undefined || other === undefined) throw new Error("no clients");
        run(ours, other, (own) => drain(sys, fd, transactions, own));
      } finally {
        ours?.close();
        other?.close();
        sys.close(fd);
      }
    });

  test("others' transactions are told with their generation, our own are told too and known by their port", () => {
    withSockets(1 << 20, (ours, other, heard) => {
      ours.commit([{ do: "add-table" }, { do: "add-chain", chain: "a", base: undefined }]);
      expect(heard(ours.portId)).toEqual([EAGAIN]);
      other.commit([{ do: "add-chain", chain: "b", base: undefined }]);
      other.commit([{ do: "delete-chain", chain: "b" }]);
      ours.read();
      expect(heard(ours.portId)).toEqual([
        {
          generation: ours.generation - 1,
          by: expect.stringMatching(/^\S+ \(process \d+\)$/),
          touched: { chains: new Set(["b"]), sets: new Set() },
        },
        { generation: ours.generation, by: expect.any(String), touched: expect.anything() },
        EAGAIN,
      ]);
    });
  });

  test("a transaction that was refused, or changed nothing, is told to nobody", () => {
    withSockets(1 << 20, (ours, other, heard) => {
      ours.commit([{ do: "add-table" }]);
      heard(ours.portId);
      ours.read();
      const before = ours.generation;
      expect(() =>
        other.commit([
          { do: "add-chain", chain: "b", base: undefined },
          { do: "delete-chain", chain: "c" },
        ]),
      ).toThrow("ENOENT");
      other.commit([{ do: "add-table" }]);
      expect(heard(ours.portId)).toEqual([EAGAIN]);
      ours.read();
      expect(ours.generation - before).toBeLessThanOrEqual(1);
    });
  });

  test("a reader that is too slow hears that news were lost, and later ones again", () => {
    withSockets(4096, (ours, other, heard) => {
      const elements = Array.from({ length: 3000 }, (_, i) => ({
        key: (0x0a000000 + i).toString(16).padStart(8, "0"),
        keyEnd: undefined,
        verdict: undefined,
      }));
      const commands: NftCommand[] = [
        { do: "add-table" },
        { do: "add-set", set: "s", is: SET },
        { do: "add-elements", set: "s", is: SET, elements },
      ];
      other.commit(commands);
      const first = heard(ours.portId);
      expect(first.at(-1)).toBe(ENOBUFS);
      while (heard(ours.portId).at(-1) !== EAGAIN);
      other.commit([{ do: "delete-set", set: "s" }]);
      other.commit([{ do: "delete-table" }]);
      expect(heard(ours.portId).length).toBeGreaterThan(1);
    });
  });
});

onBothKernels((kernel) => {
  const { sys, withNamespaces } = kernel;

  /** Everything that can be read now, in words, of the interface under test and of nodes' settings. */
  function newsOf(fd: number, index: number, own: number | undefined): string[] {
    const buffer = new Uint8Array(1 << 18);
    const found: string[] = [];
    for (;;) {
      const length = sys.receive(fd, buffer, MSG_DONTWAIT);
      if (length < 0) return [...new Set(found)];
      for (const news of readNews(buffer.subarray(0, length))) {
        if (news.type === "link" && news.link.index === index)
          found.push(`link ${news.link.name} ${news.gone ? "gone" : news.link.up ? "up" : "down"}`);
        if (news.type === "route" && news.route.table === MAIN_TABLE && news.route.protocol === OURS)
          found.push(
            `route ${news.route.destination} ${news.gone ? "gone" : "there"} by ${news.by === own ? "us" : news.by}`,
          );
        if (news.type === "settings" && (news.index === undefined || news.index === index))
          found.push(`settings of ${news.index === undefined ? "all" : "the interface"} by ${news.by}`);
      }
    }
  }

  test("changes of links, routes and settings are told, with who asked for them", () => {
    withNamespaces(["news"], (namespace) => {
      namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
      namespace.run(["ip", "link", "set", "peer", "up"]);
      const client = namespace.enter(() => new RouteClient(sys));
      const fds = [LINK_GROUPS, ROUTE_GROUPS].map((groups) =>
        namespace.enter(() => openRouteNotifications(sys, groups)),
      );
      const index = client.linkByName("cali1")?.index ?? 0;
      const route = (text: string): KernelRoute => ({
        destination: unwrap(parsePrefix(text)),
        table: MAIN_TABLE,
        protocol: OURS,
        type: "unicast",
        scope: text.includes(":") ? 0 : SCOPE_LINK,
        interfaceIndex: index,
      });
      const told = (run: () => void): string[] => {
        run();
        return [...new Set(fds.flatMap((fd) => newsOf(fd, index, client.portId)))].sort();
      };
      try {
        expect(told(() => client.setLinkUp(index))).toEqual(["link cali1 up"]);
        for (const [file, whose] of [
          ["net/ipv4/conf/cali1/rp_filter", ["settings of the interface by 0"]],
          ["net/ipv4/conf/cali1/proxy_arp", ["settings of the interface by 0"]],
          ["net/ipv4/conf/cali1/route_localnet", []],
          ["net/ipv6/conf/cali1/forwarding", ["settings of the interface by 0"]],
          ["net/ipv6/conf/cali1/proxy_ndp", ["settings of the interface by 0"]],
          ["net/ipv6/conf/cali1/accept_ra", []],
          ["net/ipv4/ip_forward", ["settings of all by 0", "settings of the interface by 0"]],
          ["net/ipv6/conf/all/forwarding", ["settings of all by 0"]],
        ] as const) {
          const value = file.endsWith("accept_ra") ? "0" : "1";
          // The real kernel tells of a carrier when it comes to it.
          const seen = told(() => namespace.enter(() => writeSysctl(sys, file, value))).filter(
            (news) => news !== "link cali1 up",
          );
          expect([file, ...seen]).toEqual([file, ...whose]);
        }
        expect(told(() => client.setSettings(index, { proxyArp: false }))).toEqual(["link cali1 up"]);
        for (const destination of ["10.65.0.1/32", "fd00:65::1/128"]) {
          // The kernel may tell of the link once more when its carrier has settled.
          const routesTold = (act: () => unknown): string[] => told(act).filter((news) => news.startsWith("route "));
          expect(routesTold(() => client.addRoute(route(destination)))).toEqual([`route ${destination} there by us`]);
          expect(routesTold(() => client.deleteRoute(route(destination)))).toEqual([`route ${destination} gone by us`]);
          told(() => client.addRoute(route(destination)));
        }
        // IPv4 routes that go with their interface are told to nobody.
        expect(told(() => client.setLinkDown(index))).toEqual(["link cali1 down", "route fd00:65::1/128 gone by 0"]);
        expect(told(() => client.deleteLink(index)).at(-1)).toBe("link cali1 gone");
      } finally {
        for (const fd of fds) sys.close(fd);
        client.close();
      }
    });
  });

  test("a link is reported with its settings", () => {
    withNamespaces(["settings"], (namespace) => {
      namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
      const client = namespace.enter(() => new RouteClient(sys));
      try {
        const index = client.linkByName("cali1")?.index ?? 0;
        client.setSettings(index, { forwarding: true, proxyArp: true, routeLocalnet: true, rpFilter: 2 });
        namespace.enter(() => {
          for (const [setting, value] of [
            ["forwarding", "1"],
            ["proxy_ndp", "1"],
            ["accept_ra", "0"],
            ["disable_ipv6", "1"],
          ] as const)
            writeSysctl(sys, `net/ipv6/conf/cali1/${setting}`, value);
        });
        expect(client.linkByName("cali1")).toMatchObject({
          ipv4: { forwarding: true, proxyArp: true, routeLocalnet: true, rpFilter: 2 },
          ipv6: { forwarding: true, proxyNdp: true, acceptRa: false, disabled: true },
        });
      } finally {
        client.close();
      }
    });
  });

  test("a rule goes before the one that is named, or away alone; of one chain the handles are told, of one set its declaration", () => {
    withNamespaces(["place"], (namespace) => {
      const client = namespace.enter(() => new NftablesClient(sys, TABLE));
      const log = (prefix: string): NftRule => ({ expressions: [{ op: "log", prefix }], comment: undefined });
      const mark: NftRule = {
        expressions: [
          { op: "meta", key: "mark", register: 0 },
          { op: "bitwise", source: 0, destination: 0, mask: "fffffeff", xor: "00000100" },
          { op: "meta-set", key: "mark", register: 0 },
        ],
        comment: "mark",
      };
      const texts = (): unknown =>
        client
          .read()
          ?.chains.get("a")
          ?.rules.map(({ rule }) => rule);
      try {
        client.commit([
          { do: "add-table" },
          { do: "add-chain", chain: "a", base: { hook: "prerouting", priority: -300, policy: "accept" } },
          { do: "add-chain", chain: "b", base: undefined },
          { do: "add-rule", chain: "b", rule: log("other") },
          { do: "add-rule", chain: "a", rule: log("1") },
          { do: "add-rule", chain: "a", rule: { expressions: [{ op: "notrack" }], comment: undefined } },
        ]);
        const [first = 0n, second = 0n] = client.handlesOf("a");
        const inserted = client.commit([
          { do: "insert-rule", chain: "a", rule: mark, place: second },
          { do: "insert-rule", chain: "a", rule: log("0"), place: first },
          { do: "delete-rule", chain: "a", handle: first },
          { do: "insert-rule", chain: "a", rule: log("2"), place: "last" },
        ]);
        expect(texts()).toEqual([log("0"), mark, { expressions: [{ op: "notrack" }], comment: undefined }, log("2")]);
        const handles = client.handlesOf("a");
        expect([inserted.get(1), inserted.get(0), second, inserted.get(3)]).toEqual([...handles]);
        expect([...inserted.keys()].sort()).toEqual([0, 1, 3]);
        client.commit([{ do: "delete-rule", chain: "a", handle: inserted.get(3) ?? 0n }]);
        expect(() => client.commit([{ do: "delete-rule", chain: "a", handle: first }])).toThrow("ENOENT");
        expect(() => client.commit([{ do: "insert-rule", chain: "a", rule: mark, place: first }])).toThrow("ENOENT");
        // Taken back as a whole.
        expect(() =>
          client.commit([
            { do: "delete-rule", chain: "a", handle: second },
            { do: "delete-chain", chain: "none" },
          ]),
        ).toThrow("ENOENT");
        expect(texts()).toEqual([log("0"), mark, { expressions: [{ op: "notrack" }], comment: undefined }]);
      } finally {
        client.close();
      }
    });
  });
});
