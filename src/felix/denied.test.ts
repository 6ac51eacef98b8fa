/** What is told of denied packets, in both families, and what is said where nothing is. */
import { expect, test } from "bun:test";
import type { DeniedPacket } from "../dataplane/denied.ts";
import type { Addr } from "../net/addr.ts";
import { ICMPV6, TCP } from "../net/protocol.ts";
import { askDenied, formatDenied } from "./denied.ts";

const [A, B, C] = ["10.65.0.1", "fd00:65::1", "fd00:65::2"] as readonly string[] as readonly [Addr, Addr, Addr];
const POD = { interface: "cali0", endpoint: { kind: "Pod", namespace: "shop", name: "web" } } as const;
const PACKETS: readonly DeniedPacket[] = [
  {
    time: "2026-11-30T03:00:00.000Z",
    from: POD,
    to: { interface: undefined, endpoint: undefined },
    packet: { source: A, destination: A, protocol: TCP, sourcePort: 1000, destinationPort: 80 },
    by: {
      is: "rule",
      policy: { kind: "NetworkPolicy", namespace: "shop", name: "p" },
      tier: "default",
      direction: "egress",
      rule: 2,
    },
  },
  {
    time: "2026-11-30T03:00:01.000Z",
    from: { interface: "ens3", endpoint: undefined },
    to: POD,
    packet: { source: B, destination: C, protocol: TCP, sourcePort: 1000, destinationPort: 80 },
    by: { is: "tier-end", tier: "front", direction: "ingress" },
  },
  {
    time: "2026-11-30T03:00:02.000Z",
    from: POD,
    to: POD,
    packet: {
      source: B,
      destination: C,
      protocol: ICMPV6,
      sourcePort: undefined,
      destinationPort: undefined,
      icmp: { type: 128, code: 0 },
    },
    by: { is: "changed" },
  },
];

test("a line for each packet, and how many are not told of", () => {
  expect(formatDenied({ dataplane: "ebpf", packets: PACKETS, missed: 7 })).toBe(
    [
      "TIME                       FROM                   TO                     PACKET                                           DENIED BY",
      "2026-11-30T03:00:00.000Z   Pod shop/web (cali0)   the node               tcp 10.65.0.1:1000 → 10.65.0.1:80                egress rule 2 of NetworkPolicy shop/p in tier default",
      "2026-11-30T03:00:01.000Z   ens3                   Pod shop/web (cali0)   tcp [fd00:65::1]:1000 → [fd00:65::2]:80          ingress: no rule of tier front matched",
      "2026-11-30T03:00:02.000Z   Pod shop/web (cali0)   Pod shop/web (cali0)   icmpv6 fd00:65::1 → fd00:65::2 type 128 code 0   not known: policy has changed since",
      "7 more were denied or logged since the path is there and not told of: too many at once.",
      "",
    ].join("\n"),
  );
  expect(formatDenied({ dataplane: "ebpf", packets: [], missed: 0 })).toContain("denied nothing");
});

test("a dataplane that does not tell is named", () => {
  expect(formatDenied({ dataplane: "iptables-nft" })).toContain("The dataplane iptables-nft does not tell");
});

test("the daemon's words are passed on, and an answer that is none is an error", async () => {
  const answering = (body: unknown) => ({ fetch: async () => Response.json(body) });
  const address = { host: "::1", port: 9099 };
  expect(await askDenied(answering({ dataplane: "ebpf", packets: PACKETS, missed: 0 }), address, true)).toContain(
    '"interface": "ens3"',
  );
  expect(askDenied(answering({ error: "Cannot look up" }), address, false)).rejects.toThrow(
    '"[::1]:9099": Cannot look up',
  );
  expect(askDenied(answering([]), address, false)).rejects.toThrow("the answer to /denied is of another kind");
});
