/** Chains that change rule by rule: what is asked of the kernel for it, and what becomes of a chain that somebody else changes at that moment. */
import { expect, test } from "bun:test";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import type { Sys } from "../../src/host/sys.ts";
import { ENOBUFS } from "../../src/kernel/errno.ts";
import { canOwnTables } from "../../src/kernel/nftables/client.ts";
import { VirtualClock } from "../../src/lib/virtual-clock.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Policy, PolicyId } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { type Namespace, sys, withNamespaces } from "./fixture.ts";

const NFNL_MSG_BATCH_BEGIN = 0x10;
const NO_CHANGE = { sets: new Map(), policies: new Map(), routes: new Map(), members: new Map() };

function idOf(name: string): PolicyId {
  return `KubernetesNetworkPolicy/a/${name}` as PolicyId;
}

function policyOf(name: string): Policy {
  const source = { kind: "KubernetesNetworkPolicy", namespace: "a", name } as const;
  const ingress = [{ id: { source, direction: "ingress", index: 0 }, when: [], action: "allow" } as const];
  return { source, tier: "default", ingress, egress: undefined, error: undefined };
}

function endpointOf(policies: string): Endpoint {
  const tiers = [{ tier: "default", policies: [...policies].map(idOf), otherwise: "deny" }] as const;
  return {
    kind: "workload",
    source: { kind: "Pod", namespace: "a", name: "p" },
    addresses: ["10.65.0.1" as Addr],
    stages: {
      normal: {
        ingress: { tiers, profiles: [], otherwise: "allow" },
        egress: { tiers: [], profiles: [], otherwise: "allow" },
      },
    },
  };
}

/** A node with policies `a` to `h`, and endpoints that run some of them. */
class Node {
  readonly driver: NftablesDriver;
  readonly #namespace: Namespace;
  readonly #program = {
    settings: DEFAULT_SETTINGS,
    sets: new Map(),
    policies: new Map([..."abcdefgh"].map((name) => [idOf(name), policyOf(name)] as const)),
    endpoints: new Map<EndpointId, Endpoint>(),
    routes: new Map(),
  } satisfies Program;
  /** Messages sent, a transaction as one. */
  sends = 0;
  /** The next answer is lost. */
  losesAnswer = false;
  /** Runs once, before the next transaction. */
  beforeCommit: (() => void) | undefined;

  constructor(namespace: Namespace, ownsTable: boolean) {
    this.#namespace = namespace;
    const spied: Sys = {
      ...sys,
      send: (fd, bytes, flags, address) => {
        this.sends++;
        const type = new DataView(bytes.buffer, bytes.byteOffset).getUint16(4, true);
        const run = type === NFNL_MSG_BATCH_BEGIN ? this.beforeCommit : undefined;
        if (run !== undefined) this.beforeCommit = undefined;
        run?.();
        return sys.send(fd, bytes, flags, address);
      },
      receive: (fd, buffer, flags) => {
        const length = sys.receive(fd, buffer, flags);
        if (!this.losesAnswer || length <= 0) return length;
        this.losesAnswer = false;
        return -ENOBUFS;
      },
    };
    this.driver = namespace.enter(() => new NftablesDriver(spied, { ownsTable, clock: new VirtualClock() }));
    this.driver.lower(this.#program, { ...NO_CHANGE, policies: this.#program.policies, endpoints: new Map() });
    this.driver.read();
    this.driver.commit();
  }

  lower(endpoints: Readonly<Record<string, string>>): void {
    const delta = new Map(Object.entries(endpoints).map(([id, policies]) => [id as EndpointId, endpointOf(policies)]));
    for (const [id, endpoint] of delta) this.#program.endpoints.set(id, endpoint);
    this.driver.lower(this.#program, { ...NO_CHANGE, endpoints: delta });
  }

  /** How many messages it took. */
  run(endpoints: Readonly<Record<string, string>>): number {
    this.lower(endpoints);
    const { sends } = this;
    this.driver.commit();
    return this.sends - sends;
  }

  nft(command: string): string {
    return this.#namespace.run(["nft", ...command.split(" ")]);
  }

  /** By rule of the endpoint's chain: the policy that it asks. */
  policies(name: string): string {
    return [...this.nft(`list chain inet calico cali-tw-${name}`).matchAll(/a\/(\w)\b/g)]
      .map(([, each]) => each)
      .join("");
  }

  /** Handles of the rules that ask a policy. */
  handles(name: string): Map<string, string> {
    const rules = this.nft(`-a list chain inet calico cali-tw-${name}`).matchAll(/a\/(\w) # handle (\d+)/g);
    return new Map([...rules].map(([, policy = "", handle = ""]) => [policy, handle]));
  }
}

function withNode(ownsTable: boolean, run: (node: Node) => void): void {
  withNamespaces(["edits"], (namespace) => {
    const node = new Node(namespace, ownsTable);
    try {
      run(node);
    } finally {
      node.driver.close();
    }
  });
}

const EDITS = [
  "abcd",
  "abd",
  "abcd",
  "bcda",
  "bcdaefgh",
  "aefgh",
  "h",
  "gh",
  "cgh",
  "dcgh",
  "d",
  "abcdefgh",
  "hgfedcba",
];

for (const ownsTable of [true, false])
  test.skipIf(ownsTable && !canOwnTables(sys))(
    `whatever comes and goes in a chain, it ends as wanted and rules that stay keep their handles (${ownsTable ? "our" : "nobody's"} table)`,
    () => {
      withNode(ownsTable, (node) => {
        let before = "";
        for (const policies of EDITS) {
          const kept = before === "" ? new Map<string, string>() : node.handles("1");
          node.run({ cali1: policies });
          expect(node.policies("1")).toBe(policies);
          const now = node.handles("1");
          const ends = endsOf(before, policies);
          expect([...ends].map((policy) => now.get(policy))).toEqual([...ends].map((policy) => kept.get(policy)));
          before = policies;
        }
        node.driver.read();
        expect([node.driver.pending, node.driver.failures]).toEqual([0, []]);
      });
    },
  );

/** What two texts have in common at either end. */
function endsOf(a: string, b: string): string {
  const most = Math.min(a.length, b.length);
  let head = 0;
  while (head < most && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < most - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  return b.slice(0, head) + b.slice(b.length - tail);
}

test.skipIf(!canOwnTables(sys))(
  "the rules of a chain that we have written in our own table are never read, those of one that was there are once",
  () => {
    withNode(true, (node) => {
      node.run({ cali1: "abcd", cali2: "efgh" });
      expect(node.run({ cali1: "abd", cali2: "egh" })).toBe(1);
      for (const [one, two] of [
        ["abcd", "efgh"],
        ["abd", "egh"],
        ["bd", "gh"],
        ["bda", "ghe"],
      ] as const) {
        expect(node.run({ cali1: one, cali2: two })).toBe(1);
        expect([node.policies("1"), node.policies("2")]).toEqual([one, two]);
      }
    });
  },
);

test.skipIf(!canOwnTables(sys))("after an answer that was lost nothing is taken for known", () => {
  withNode(true, (node) => {
    node.run({ cali1: "abcd" });
    node.run({ cali1: "abd" });
    node.lower({ cali1: "aed" });
    node.losesAnswer = true;
    expect(() => node.driver.commit()).toThrow("ENOBUFS");
    expect(node.policies("1")).toBe("aed");
    node.driver.read();
    node.driver.commit();
    // Its rules are read, and one transaction is made.
    expect(node.run({ cali1: "ad" })).toBe(2);
    expect(node.policies("1")).toBe("ad");
  });
});

test("a rule that somebody else removes at the moment of an edit: the chain is read and ends as wanted, and nobody is refused", () => {
  withNode(false, (node) => {
    node.run({ cali1: "abcd", cali2: "abcd" });
    for (const [gone, policies] of [
      ["c", "abd"],
      ["d", "abcd"],
      ["a", "dabcd".slice(1)],
      ["b", "aefbcd"],
    ] as const) {
      node.beforeCommit = () =>
        void node.nft(`delete rule inet calico cali-tw-1 handle ${node.handles("1").get(gone) ?? "0"}`);
      node.lower({ cali1: policies, cali2: policies });
      node.driver.commit();
      // What it did not stumble over is found by the read that the kernel's news brings about.
      node.driver.read();
      node.driver.commit();
      expect([node.policies("1"), node.policies("2")]).toEqual([policies, policies]);
      expect([node.driver.pending, node.driver.failures]).toEqual([0, []]);
      node.beforeCommit = undefined;
    }
  });
});

test("a chain that somebody else changes at the moment of each edit closes its endpoint, and nobody else's", () => {
  withNode(false, (node) => {
    node.run({ cali1: "abcd", cali2: "abcd" });
    const removeFirst = (): void => {
      const [handle] = node.handles("1").values();
      if (handle !== undefined) node.nft(`delete rule inet calico cali-tw-1 handle ${handle}`);
      node.beforeCommit = removeFirst;
    };
    node.beforeCommit = removeFirst;
    node.lower({ cali1: "ebcd", cali2: "ebcd" });
    for (const step of node.driver.committing()) void step;
    expect(node.driver.failures.map(({ row, state }) => `${row} ${state}`)).toEqual(["pod a/p failed"]);
    expect(node.nft("list chain inet calico cali-tw-1")).toContain("closed: pod a/p is not programmed");
    expect(node.policies("2")).toBe("ebcd");
  });
});
