/** codec-samples: random objects of nf_tables, and the messages of commands, for the tests of the codec. */
import fc from "fast-check";
import { eachMessage, type Message } from "../netlink/reader.ts";
import { Writer } from "../netlink/writer.ts";
import { encodeCommand, type MessageSink } from "./encode.ts";
import type { Expr, KeyField, NftCommand, NftElement, NftRule, NftSet, NftVerdict, TableId } from "./objects.ts";
import { keyLength } from "./sets.ts";

export const TABLE: TableId = { family: "inet", name: "t" };

/** The messages of a command, each followed by what `after` adds to the last one. */
export function messagesOf(
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
  if (!eachMessage(bytes, (message) => messages.push(message))) throw new Error("the messages are cut");
  return { bytes, messages };
}

const hex = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((array) => Buffer.from(array).toString("hex"));
const slot = fc.integer({ min: 0, max: 15 });

export const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,30}$/);

export const verdict: fc.Arbitrary<NftVerdict> = fc.oneof(
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

export const length = fc.constantFrom(1, 2, 4, 16);

export const expression: fc.Arbitrary<Expr> = fc.oneof(
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

export const rule: fc.Arbitrary<NftRule> = fc.record({
  expressions: fc.array(expression, { maxLength: 8 }),
  comment: fc.option(fc.stringMatching(/^[ -~é]{0,60}$/), { nil: undefined }),
});

export const field = fc.constantFrom<KeyField>(
  "ipv4_addr",
  "ipv6_addr",
  "ifname",
  "iface_index",
  "nf_proto",
  "inet_proto",
  "inet_service",
);

export const set: fc.Arbitrary<NftSet> = fc.record({
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

export const setWithElements = set.chain((is) => elementsOf(is).map((elements) => ({ is, elements })));
