import { expect, test } from "bun:test";
import { whyNotSendable } from "./limits.ts";
import type { NftCommand, NftElement, NftSet } from "./objects.ts";

const ADDRESSES: NftSet = { key: ["ipv4_addr"], interval: false, verdictMap: false };
const element = (key: string): NftElement => ({ key, keyEnd: undefined, verdict: undefined });
const rule = (chain: string, comment?: string): NftCommand => ({
  do: "add-rule",
  chain: "c",
  rule: { expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment },
});

test("what is within the kernel's limits may be sent", () => {
  const commands: NftCommand[] = [
    { do: "add-table" },
    { do: "add-chain", chain: "x".repeat(255), base: undefined },
    { do: "add-set", set: "s", is: ADDRESSES },
    { do: "add-elements", set: "s", is: ADDRESSES, elements: [element("0a000001")] },
    rule("x".repeat(255), "c".repeat(128)),
    { do: "delete-rule", chain: "c", handle: 7n },
  ];
  expect(commands.map(whyNotSendable)).toEqual(commands.map(() => undefined));
});

const BAD: readonly (readonly [NftCommand, string])[] = [
  [{ do: "add-chain", chain: "x".repeat(256), base: undefined }, "has 256 bytes, must have 1 to 255"],
  [{ do: "add-chain", chain: "ü".repeat(128), base: undefined }, "has 256 bytes, must have 1 to 255"],
  [{ do: "add-chain", chain: "", base: undefined }, "has 0 bytes, must have 1 to 255"],
  [{ do: "add-set", set: "a\0b", is: ADDRESSES }, "NUL"],
  [rule("x".repeat(256)), "has 256 bytes, must have 1 to 255"],
  [rule("c", "ü".repeat(65)), "has 130 bytes, must have at most 128"],
  [
    {
      do: "add-rule",
      chain: "c",
      rule: { expressions: Array.from({ length: 129 }, () => ({ op: "counter" }) as const), comment: undefined },
    },
    "has 129 expressions, must have at most 128",
  ],
  [{ do: "add-elements", set: "s", is: ADDRESSES, elements: [element("0a0000")] }, "has 3 bytes, must have 4"],
];

for (const [command, why] of BAD)
  test(`${command.do}: ${why}`, () => {
    expect(whyNotSendable(command)).toContain(why);
  });
