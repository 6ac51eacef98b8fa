import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { eachMessage, type Message, Span } from "../netlink/reader.ts";
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
import { encodeCommand, type MessageSink } from "./encode.ts";
import { decodeExpression, encodeExpression } from "./expressions.ts";
import type { Expr, KeyField, NftCommand, NftElement, NftRule, NftSet, NftVerdict, TableId } from "./objects.ts";
import { keyLength } from "./sets.ts";
import { NFGENMSG, NFTA_FLOWTABLE_FLAGS, NFTA_RULE_HANDLE, NFTA_TABLE_FLAGS, NFTA_TABLE_OWNER } from "./wire.ts";

const TABLE: TableId = { family: "inet", name: "t" };

/** The messages of a command, each followed by what `after` adds to the last one. */
function messagesOf(
  command: NftCommand,
  after: (w: Writer) => void = () => undefined,
): { readonly bytes: Uint8Array; readonly messages: Message[] } {
  const writer = new Writer();
  let sequence = 0;
  const sink: MessageSink = {
    writer,
    message(type, flags) {
      sequence++;
      writer.message(type, flags, sequence);
      return sequence;
    },
  };
  encodeCommand(sink, TABLE, command);
  after(writer);
  writer.finish();
  const bytes = writer.bytes.slice();
  const messages: Message[] = [];
  expect(eachMessage(bytes, (message) => messages.push(message))).toBe(true);
  return { bytes, messages };
}

const hex = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((array) => Buffer.from(array).toString("hex"));
const slot = fc.integer({ min: 0, max: 15 });
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,30}$/);
const verdict: fc.Arbitrary<NftVerdict> = fc.oneof(
  fc.constantFrom<NftVerdict>({ type: "accept" }, { type: "drop" }, { type: "continue" }, { type: "return" }),
  fc.record({ type: fc.constantFrom("jump" as const, "goto" as const), chain: name }),
);
const compare = fc.constantFrom(
  "eq" as const,
  "neq" as const,
  "lt" as const,
  "lte" as const,
  "gt" as const,
  "gte" as const,
);
const length = fc.constantFrom(1, 2, 4, 16);
const expression: fc.Arbitrary<Expr> = fc.oneof(
  fc.record({
    op: fc.constant("payload" as const),
    base: fc.constantFrom("network" as const, "transport" as const),
    offset: fc.nat(255),
    length: fc.integer({ min: 1, max: 16 }),
    register: slot,
  }),
  fc.record({
    op: fc.constant("meta" as const),
    key: fc.constantFrom(
      "nfproto" as const,
      "l4proto" as const,
      "iifname" as const,
      "oifname" as const,
      "oif" as const,
      "mark" as const,
    ),
    register: slot,
  }),
  fc.record({ op: fc.constant("ct" as const), key: fc.constant("state" as const), register: slot }),
  length.chain((n) => fc.record({ op: fc.constant("cmp" as const), compare, register: slot, data: hex(n) })),
  length.chain((n) =>
    fc.record({
      op: fc.constant("range" as const),
      compare: fc.constantFrom("eq" as const, "neq" as const),
      register: slot,
      from: hex(n),
      to: hex(n),
    }),
  ),
  length.chain((n) =>
    fc.record({ op: fc.constant("bitwise" as const), source: slot, destination: slot, mask: hex(n), xor: hex(n) }),
  ),
  fc.record({ op: fc.constant("lookup" as const), set: name, register: slot, not: fc.boolean() }),
  fc.record({ op: fc.constant("verdict-map" as const), map: name, register: slot }),
  fc.constant<Expr>({ op: "counter" }),
  fc.record({ op: fc.constant("flow-offload" as const), flowtable: name }),
  fc.record({ op: fc.constant("verdict" as const), verdict }),
);
const rule: fc.Arbitrary<NftRule> = fc.record({
  expressions: fc.array(expression, { maxLength: 8 }),
  comment: fc.option(fc.stringMatching(/^[ -~é]{0,60}$/), { nil: undefined }),
});
const field = fc.constantFrom<KeyField>(
  "ipv4_addr",
  "ipv6_addr",
  "ifname",
  "iface_index",
  "nf_proto",
  "inet_proto",
  "inet_service",
);
const set: fc.Arbitrary<NftSet> = fc.record({
  key: fc.array(field, { minLength: 1, maxLength: 4 }),
  interval: fc.boolean(),
  verdictMap: fc.boolean(),
});

/** Elements with unique keys; ranges do not overlap. */
function elementsOf(of: NftSet): fc.Arbitrary<NftElement[]> {
  const key = hex(keyLength(of.key));
  return fc.uniqueArray(key, { maxLength: 12 }).chain((keys) => {
    const sorted = [...keys].sort();
    const pairs = of.interval
      ? Array.from({ length: sorted.length >> 1 }, (_, i) => [sorted[2 * i] ?? "", sorted[2 * i + 1]] as const)
      : sorted.map((one) => [one, undefined] as const);
    const values = fc.array(verdict, { minLength: pairs.length, maxLength: pairs.length });
    return values.map((verdicts) =>
      pairs.map(([from, to], i) => ({ key: from, keyEnd: to, verdict: of.verdictMap ? verdicts[i] : undefined })),
    );
  });
}
const setWithElements = set.chain((is) => elementsOf(is).map((elements) => ({ is, elements })));

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

describe("damaged messages", () => {
  const samples: readonly NftCommand[] = [
    { do: "own-table" },
    { do: "add-chain", chain: "c", base: { hook: "forward", priority: 0, policy: "drop" } },
    { do: "add-set", set: "s", is: { key: ["inet_proto", "inet_service"], interval: true, verdictMap: false } },
    {
      do: "add-elements",
      set: "s",
      is: { key: ["ifname"], interval: false, verdictMap: true },
      elements: [{ key: "63".padEnd(32, "0"), keyEnd: undefined, verdict: { type: "goto", chain: "c" } }],
    },
    ...fc.sample(rule, { numRuns: 30, seed: 1 }).map((one): NftCommand => ({ do: "add-rule", chain: "c", rule: one })),
  ];
  const decodeAny = (message: Message): unknown[] => [
    decodeTable(message, TABLE),
    decodeRule(message, TABLE),
    decodeChain(message, TABLE),
    decodeSetMessage(message, TABLE),
    decodeElements(message, []),
  ];

  test("an expression cut at any byte is not decoded", () => {
    for (const expr of fc.sample(expression, { numRuns: 200, seed: 2 })) {
      const w = new Writer();
      w.message(0, 0, 0);
      encodeExpression(w, expr);
      w.finish();
      // Behind the message header and the header of the list element.
      const content = w.bytes.slice(20);
      const decode = (bytes: Uint8Array): Expr | undefined => decodeExpression(Span.of(bytes), () => undefined);
      expect(decode(content)).toEqual(expr);
      for (let cut = 0; cut < content.length; cut++) {
        const found = decode(content.slice(0, cut));
        // Only padding may be missing.
        if (found !== undefined)
          expect(content.slice(cut).every((byte) => byte === 0) && content.length - cut < 4).toBe(true);
      }
    }
  });

  test("a message body cut at any byte is undefined, or whole up to a missing last attribute", () => {
    for (const command of samples) {
      const [message] = messagesOf(command, (w) =>
        command.do === "add-rule" ? w.u64Be(NFTA_RULE_HANDLE, 1n) : undefined,
      ).messages;
      if (message === undefined) throw new Error("no message");
      const body = message.body.copy();
      for (let cut = 0; cut < body.length; cut++) {
        const span = Span.of(body.slice(0, cut));
        const whole = span.after(NFGENMSG)?.attributes() !== undefined;
        const decoded = decodeAny({ ...message, body: span });
        if (!whole) expect(decoded.slice(0, 4)).toEqual([undefined, undefined, undefined, undefined]);
      }
    }
  });

  test("flipped bytes never throw and never read outside", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...samples),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        (command, flips) => {
          const { bytes } = messagesOf(command);
          // From the body on: the message's own length is the socket's business.
          for (const [at, value] of flips) bytes[16 + (at % (bytes.length - 16))] = value;
          eachMessage(bytes, (message) => decodeAny(message));
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("an attribute or value without a word makes the expression unknown", () => {
    const unknown = (kind: string, write: (w: Writer) => void): Expr | undefined => {
      const w = new Writer();
      w.message(0, 0, 0);
      w.text(1, kind);
      const data = w.open(2);
      write(w);
      w.close(data);
      w.finish();
      return decodeExpression(Span.of(w.bytes.slice(16)), () => undefined);
    };
    const words =
      (...pairs: (readonly [number, number])[]) =>
      (w: Writer) =>
        pairs.forEach(([type, value]) => w.u32Be(type, value));
    expect(unknown("meta", words([1, 8], [2, 16]))).toEqual({ op: "meta", key: "l4proto", register: 0 });
    expect(unknown("meta", words([2, 3], [3, 8]))).toEqual({ op: "meta-set", key: "mark", register: 0 });
    // Writing a key that is only read here, reading and writing at once, an unknown key, a register out of range.
    expect(unknown("meta", words([2, 16], [3, 8]))).toBeUndefined();
    expect(unknown("meta", words([1, 8], [2, 3], [3, 8]))).toBeUndefined();
    expect(unknown("meta", words([1, 8], [2, 16], [3, 8]))).toBeUndefined();
    expect(unknown("meta", words([1, 8], [2, 99]))).toBeUndefined();
    expect(unknown("meta", words([1, 24], [2, 16]))).toBeUndefined();
    // A direction, another key of conntrack, another header, a shift, a map of data.
    expect(unknown("ct", words([1, 8], [2, 0], [3, 0]))).toBeUndefined();
    expect(unknown("ct", words([1, 8], [2, 2]))).toBeUndefined();
    expect(unknown("payload", words([1, 8], [2, 0], [3, 0], [4, 6]))).toBeUndefined();
    expect(unknown("bitwise", words([1, 8], [2, 8], [3, 4], [6, 1]))).toBeUndefined();
    expect(unknown("masq", () => undefined)).toBeUndefined();
  });

  test("registers 1 to 4 are the slots that are multiples of four", () => {
    for (const [number, slotNumber] of [
      [1, 0],
      [2, 4],
      [3, 8],
      [4, 12],
      [8, 0],
      [12, 4],
      [23, 15],
    ] as const) {
      const w = new Writer();
      w.message(0, 0, 0);
      w.text(1, "meta");
      const data = w.open(2);
      w.u32Be(1, number);
      w.u32Be(2, 16);
      w.close(data);
      w.finish();
      expect(decodeExpression(Span.of(w.bytes.slice(16)), () => undefined)).toEqual({
        op: "meta",
        key: "l4proto",
        register: slotNumber,
      });
    }
  });
});
