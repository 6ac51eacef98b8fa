/** What the kernel tells of transactions: who changed our table, by which generation, and that news were lost; the same on both kernels. */
import { expect, test } from "bun:test";
import type { Sys } from "../../src/host/sys.ts";
import { EAGAIN, ENOBUFS } from "../../src/kernel/errno.ts";
import { openNotifications } from "../../src/kernel/netlink/notifications.ts";
import { NETLINK_NETFILTER } from "../../src/kernel/netlink/socket.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { type ForeignTransaction, ForeignTransactions } from "../../src/kernel/nftables/monitor.ts";
import type { NftCommand, NftSet, TableId } from "../../src/kernel/nftables/objects.ts";
import { onBothKernels } from "./fixture.ts";

const TABLE: TableId = { family: "inet", name: "calico-news" };
const GROUP = 7;
const MSG_DONTWAIT = 0x40;
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
      const fd = namespace.enter(() => openNotifications(sys, NETLINK_NETFILTER, GROUP, receiveBytes));
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
        { generation: ours.generation - 1, by: expect.stringMatching(/^\S+ \(process \d+\)$/) },
        { generation: ours.generation, by: expect.any(String) },
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
