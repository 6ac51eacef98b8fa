import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Writer } from "../netlink/writer.ts";
import {
  decodeChain,
  decodeElements,
  decodeFlowtable,
  decodeRule,
  decodeSetMessage,
  decodeTable,
  digestElements,
} from "./decode.ts";
import { KeyDigest } from "./key-digest.ts";
import { hasPairs, joinElements, type RawElement } from "./elements.ts";
import type { NftCommand, NftElement, NftSet } from "./objects.ts";
import { NFTA_FLOWTABLE_FLAGS, NFTA_RULE_HANDLE, NFTA_TABLE_FLAGS, NFTA_TABLE_OWNER } from "./wire.ts";
import { TABLE, messagesOf, rule, setWithElements } from "./codec-samples.ts";

describe("round trip", () => {
  test("rules", () => {
    fc.assert(
      fc.property(rule, (wanted) => {
        const { messages } = messagesOf({ do: "add-rule", chain: "c", rule: wanted }, (w) =>
          w.u64Be(NFTA_RULE_HANDLE, 7n),
        );
        const [message] = messages;
        expect(message === undefined ? undefined : decodeRule(message, TABLE)).toEqual({
          chain: "c",
          state: { rule: wanted, handle: 7n, packets: 0n, bytes: 0n },
        });
      }),
    );
  });

  test("tables, their flags and their owner; a flag without a word is not left out", () => {
    const decoded = (command: NftCommand, after?: (w: Writer) => void): unknown =>
      messagesOf(command, after).messages.map((message) => decodeTable(message, TABLE))[0];
    expect(decoded({ do: "own-table" })).toEqual({ flags: ["owner", "persist"], owner: undefined });
    expect(decoded({ do: "own-table" }, (w) => w.u32Be(NFTA_TABLE_OWNER, 0xffff_f001))).toEqual({
      flags: ["owner", "persist"],
      owner: 0xffff_f001,
    });
    for (const [bits, flags] of [
      [0, []],
      [1, ["dormant"]],
      [2, ["owner"]],
      [4, ["persist"]],
      [5, ["dormant", "persist"]],
      [8, undefined],
      [0x8000_0004, undefined],
    ] as const) {
      expect(decoded({ do: "add-table" }, (w) => w.u32Be(NFTA_TABLE_FLAGS, bits))).toEqual({ flags, owner: undefined });
    }
    expect(decoded({ do: "add-table" })).toEqual({ flags: undefined, owner: undefined });
  });

  test("chains", () => {
    for (const base of [
      undefined,
      { hook: "prerouting", priority: -300, policy: "accept" },
      { hook: "postrouting", priority: 2147483647, policy: "drop" },
    ] as const) {
      const [message] = messagesOf({ do: "add-chain", chain: "c", base }).messages;
      expect(message === undefined ? undefined : decodeChain(message, TABLE)).toEqual({
        chain: "c",
        base,
        known: true,
      });
    }
  });

  test("flowtables with their devices; one with flags or of another hook has no priority", () => {
    const command = { do: "add-flowtable", flowtable: "f", priority: -5, devices: ["cali1", "eth0"] } as const;
    const { flowtable, priority, devices } = command;
    const decoded = (after?: (w: Writer) => void): unknown => {
      const [message] = messagesOf(command, after).messages;
      return message && decodeFlowtable(message, TABLE);
    };
    expect(decoded()).toEqual({ flowtable, priority, devices });
    expect(decoded((w) => w.u32Be(NFTA_FLOWTABLE_FLAGS, 0))).toEqual({ flowtable, priority, devices });
    expect(decoded((w) => w.u32Be(NFTA_FLOWTABLE_FLAGS, 1))).toEqual({ flowtable, priority: undefined, devices });
    const [gone] = messagesOf({ do: "delete-devices", flowtable, priority, devices: ["eth0"] }).messages;
    expect(gone && decodeFlowtable(gone, TABLE)).toEqual({ flowtable, priority, devices: ["eth0"] });
  });

  test("sets and elements of every shape", () => {
    fc.assert(
      fc.property(setWithElements, ({ is, elements }) => {
        const [declaration] = messagesOf({ do: "add-set", set: "s", is }).messages;
        expect(declaration === undefined ? undefined : decodeSetMessage(declaration, TABLE)).toEqual({
          set: "s",
          is,
          count: undefined,
        });
        const raw: RawElement[] = [];
        for (const message of messagesOf({ do: "add-elements", set: "s", is, elements }).messages)
          expect(decodeElements(message, raw)).toBe(true);
        // The kernel reports elements in an order of its own.
        expect((joinElements(is, raw.reverse()) ?? []).sort((a, b) => (a.key < b.key ? -1 : 1))).toEqual(elements);
      }),
    );
  });

  test("keys are digested where they are all that an element is, and then each once", () => {
    fc.assert(
      fc.property(setWithElements, ({ is, elements }) => {
        const [found, wanted] = [new KeyDigest(1), new KeyDigest(1)];
        const isKeyAlone = !is.interval && !is.verdictMap && elements.every(({ key }) => key.length % 8 === 0);
        const { messages } = messagesOf({ do: "add-elements", set: "s", is, elements });
        const isDigested = messages.every((message) => digestElements(message, found));
        expect(isDigested).toBe(isKeyAlone || elements.length === 0);
        if (!isDigested) return;
        for (const { key } of elements) {
          for (let at = 0; at < key.length; at += 8) wanted.word(Number.parseInt(key.slice(at, at + 8), 16));
          wanted.end();
        }
        expect(found.isSame(wanted)).toBe(true);
      }),
    );
  });

  test("long element lists go in several messages, none of which is over 64 KiB", () => {
    const is: NftSet = { key: ["ifname", "ipv6_addr"], interval: true, verdictMap: true };
    const elements = Array.from({ length: 3000 }, (_, i): NftElement => {
      const key = i.toString(16).padStart(64, "0");
      return { key, keyEnd: key, verdict: { type: "jump", chain: "c".repeat(100) } };
    });
    const { messages } = messagesOf({ do: "add-elements", set: "s", is, elements });
    expect(messages.length).toBeGreaterThan(5);
    const raw: RawElement[] = [];
    for (const message of messages) expect(decodeElements(message, raw)).toBe(true);
    expect(joinElements(is, raw)).toEqual(elements);
  });

  test("other tables are not taken for this one", () => {
    const [message] = messagesOf({ do: "add-chain", chain: "c", base: undefined }).messages;
    if (message === undefined) throw new Error("no message");
    expect(decodeChain(message, { family: "ip", name: "t" })).toBeUndefined();
    expect(decodeChain(message, { family: "inet", name: "t2" })).toBeUndefined();
  });
});

describe("ranges of one field", () => {
  const ports: NftSet = { key: ["inet_service"], interval: true, verdictMap: false };
  const join = (...raw: (readonly [string, boolean])[]) =>
    joinElements(
      ports,
      raw.map(([key, intervalEnd]) => ({ key, keyEnd: undefined, intervalEnd, verdict: undefined })),
    );
  const range = (key: string, keyEnd: string): NftElement => ({ key, keyEnd, verdict: undefined });

  test("are pairs; a start without end reaches to the highest key", () => {
    expect(join(["0050", false], ["0051", true])).toEqual([range("0050", "0050")]);
    expect(join(["8000", false])).toEqual([range("8000", "ffff")]);
    expect(join(["0000", false])).toEqual([range("0000", "ffff")]);
  });

  test("may adjoin, with or without an end between", () => {
    expect(join(["0005", true], ["0001", false], ["0005", false], ["0009", true])).toEqual([
      range("0001", "0004"),
      range("0005", "0008"),
    ]);
    expect(join(["0001", false], ["0005", false], ["0009", true])).toEqual([
      range("0001", "0004"),
      range("0005", "0008"),
    ]);
  });

  test("nft's mark at the lowest key is no range", () => {
    expect(join(["0000", true], ["0050", false], ["0051", true])).toEqual([range("0050", "0050")]);
  });

  test("are encoded with the key after their last, if there is one", () => {
    const encoded = (element: NftElement): RawElement[] => {
      const raw: RawElement[] = [];
      for (const message of messagesOf({ do: "add-elements", set: "s", is: ports, elements: [element] }).messages)
        decodeElements(message, raw);
      return raw;
    };
    expect(encoded(range("00ff", "00ff")).map(({ key, intervalEnd }) => [key, intervalEnd])).toEqual([
      ["00ff", false],
      ["0100", true],
    ]);
    expect(encoded(range("00ff", "ffff")).map(({ key, intervalEnd }) => [key, intervalEnd])).toEqual([["00ff", false]]);
  });

  test("a set whose kind is wrong for the elements is not read as if it were right", () => {
    expect(hasPairs(ports)).toBe(true);
    const verdicts: NftSet = { ...ports, verdictMap: true };
    expect(
      joinElements(verdicts, [{ key: "0050", keyEnd: undefined, intervalEnd: false, verdict: undefined }]),
    ).toBeUndefined();
    const plain: NftSet = { ...ports, interval: false };
    expect(
      joinElements(plain, [{ key: "0050", keyEnd: undefined, intervalEnd: true, verdict: undefined }]),
    ).toBeUndefined();
    expect(
      joinElements(plain, [{ key: "0050", keyEnd: "0051", intervalEnd: false, verdict: undefined }]),
    ).toBeUndefined();
  });
});
