import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { eachMessage, type Message, Span } from "../netlink/reader.ts";
import { Writer } from "../netlink/writer.ts";
import { decodeChain, decodeElements, decodeRule, decodeSetMessage, decodeTable } from "./decode.ts";
import { decodeExpression, encodeExpression } from "./expressions.ts";
import type { Expr, NftCommand } from "./objects.ts";
import { NFGENMSG, NFTA_RULE_HANDLE } from "./wire.ts";
import { TABLE, expression, messagesOf, rule } from "./codec-samples.ts";

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
