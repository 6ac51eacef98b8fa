/** The fake kernel held against the real one: random transactions, and requests for routes, by which both must answer alike and be alike afterwards. */
import { describe, expect, test } from "bun:test";
import { KernelError } from "../../src/kernel/errno.ts";
import { NftablesClient, NftCommitError } from "../../src/kernel/nftables/client.ts";
import type {
  Expr,
  NftCommand,
  NftElement,
  NftSet,
  NftTableState,
  NftVerdict,
  TableId,
} from "../../src/kernel/nftables/objects.ts";
import { type KernelRoute, RouteClient } from "../../src/kernel/route/client.ts";
import { BugError } from "../../src/lib/bug.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { Random } from "../property/random.ts";
import { FAKE, type Kernel, REAL } from "./fixture.ts";

const TABLE: TableId = { family: "inet", name: "calico-alike" };
const SEEDS = Number(process.env["KERNEL_SEEDS"] ?? 12);
const STEPS = 25;

const CHAINS = ["a", "b", "c", "d"];
const SETS: { readonly [name: string]: NftSet } = {
  hash: { key: ["ipv4_addr"], interval: false, verdictMap: false },
  ranges: { key: ["ipv4_addr"], interval: true, verdictMap: false },
  pairs: { key: ["inet_proto", "inet_service"], interval: true, verdictMap: false },
  map: { key: ["ipv4_addr"], interval: false, verdictMap: true },
};

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

function element(random: Random, set: string, verdict: () => NftVerdict): NftElement {
  const from = random.below(12);
  const to = from + random.below(4);
  if (set === "hash") return { key: hex(from, 8), keyEnd: undefined, verdict: undefined };
  if (set === "map") return { key: hex(from, 8), keyEnd: undefined, verdict: verdict() };
  if (set === "ranges") return { key: hex(from * 4, 8), keyEnd: hex(to * 4, 8), verdict: undefined };
  const port = (value: number): string => `06000000${hex(value, 4)}0000`;
  return { key: port(from), keyEnd: port(to), verdict: undefined };
}

function expressions(random: Random, verdict: () => NftVerdict): Expr[] {
  const address: Expr = { op: "payload", base: "network", offset: 12, length: 4, register: 0 };
  switch (random.below(6)) {
    case 0:
      return [address, { op: "lookup", set: random.pick(["hash", "ranges"]), register: 0, not: random.below(2) === 0 }];
    case 1:
      return [address, { op: "verdict-map", map: random.pick(["map", "hash"]), register: 0 }];
    case 2:
      return [{ op: "cmp", compare: "eq", register: random.below(2) * 4, data: "00000001" }];
    case 3:
      return [
        { op: "meta", key: "l4proto", register: 0 },
        { op: "lookup", set: "hash", register: 0, not: false },
      ];
    default:
      return [{ op: "counter" }, { op: "verdict", verdict: verdict() }];
  }
}

function command(random: Random): NftCommand {
  const chain = random.pick(CHAINS);
  const set = random.pick(Object.keys(SETS));
  const is = SETS[set] ?? unwrapSet();
  const verdict = (): NftVerdict =>
    random.below(3) === 0 ? { type: "accept" } : { type: random.pick(["jump", "goto"]), chain: random.pick(CHAINS) };
  const base =
    random.below(4) === 0 ? ({ hook: "forward", priority: random.below(2), policy: "accept" } as const) : undefined;
  switch (random.below(15)) {
    case 0:
    case 1:
    case 2:
      return { do: "add-chain", chain, base: chain === "a" ? base : undefined };
    case 3:
      return { do: "delete-chain", chain };
    case 4:
      return { do: "flush-chain", chain };
    case 5:
    case 6:
    case 7:
      return { do: "add-rule", chain, rule: { comment: undefined, expressions: expressions(random, verdict) } };
    case 8:
    case 9:
      // Now and then a set of another kind under the name.
      return { do: "add-set", set, is: random.below(8) === 0 ? (SETS["hash"] ?? is) : is };
    case 10:
      return { do: "delete-set", set };
    case 11:
    case 12:
    case 13:
      return { do: "add-elements", set, is, elements: [element(random, set, verdict)] };
    default:
      return { do: "delete-elements", set, is, elements: [element(random, set, verdict)] };
  }
}

function unwrapSet(): never {
  throw new Error("no such set");
}

const UNKNOWN = "the fake kernel does not know";

/** How it went: empty, or what was refused first and why. */
function outcome(run: () => void): string {
  try {
    run();
    return "";
  } catch (error) {
    if (error instanceof NftCommitError) return `command ${error.index}: ${error.errno}`;
    if (error instanceof KernelError) return `whole: ${error.errno}`;
    if (error instanceof BugError && error.message.startsWith(UNKNOWN)) return UNKNOWN;
    throw error;
  }
}

/** Of what both must agree on: elements of hashes have no order. */
function view(state: NftTableState | undefined): unknown {
  if (state === undefined) return undefined;
  return {
    chains: [...state.chains].map(([name, { base, rules }]) => [name, base, rules.map(({ rule }) => rule)]).sort(),
    sets: [...state.sets]
      .map(([name, { is, elements }]) => [name, is, elements.map((one) => JSON.stringify(one)).sort()])
      .sort(),
  };
}

function withBoth(open: (kernel: Kernel) => NftablesClient, run: (clients: readonly NftablesClient[]) => void): void {
  REAL.withNamespaces(["alike"], (real) => {
    FAKE.withNamespaces(["alike"], (fake) => {
      const clients = [fake.enter(() => open(FAKE)), real.enter(() => open(REAL))] as const;
      try {
        run(clients);
      } finally {
        for (const client of clients) client.close();
      }
    });
  });
}

describe("nf_tables: random transactions are taken or refused alike, by the same command for the same reason, and leave the same", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    test(`seed ${seed}`, () => {
      withBoth(
        ({ sys }) => new NftablesClient(sys, TABLE),
        (clients) => {
          const random = new Random(seed);
          for (const client of clients) client.commit([{ do: "add-table" }]);
          for (let step = 0; step < STEPS; step++) {
            let unknown = false;
            const commands = Array.from({ length: 1 + random.below(5) }, () => command(random));
            const [fake, real] = clients.map((client) => {
              // Of what the fake refuses to answer the real one is not asked.
              if (unknown) return [];
              const how = outcome(() => client.commit(commands));
              unknown = how === UNKNOWN;
              return unknown ? [] : [how, view(client.read())];
            });
            expect([commands, fake]).toEqual([commands, real]);
          }
        },
      );
    });
  }
});

const prefix = (text: string) => unwrap(parsePrefix(text));

function route(random: Random): KernelRoute {
  const is6 = random.below(2) === 0;
  const destination = prefix(
    random.pick(is6 ? ["fd00::1/128", "fd00::/122", "::/0"] : ["10.0.0.1/32", "10.0.0.0/26", "0.0.0.0/0"]),
  );
  const type = random.pick(["unicast", "unicast", "unicast", "blackhole", "unreachable"] as const);
  const gateways = is6 ? ["fd00:9::2", "fe80::2", "fd00:7::1"] : ["192.0.2.2", "198.51.100.1"];
  const gateway = type === "unicast" && random.below(3) === 0 ? unwrap(parseAddr(random.pick(gateways))) : undefined;
  return {
    destination,
    table: 254,
    protocol: random.pick([80, 80, 12]),
    type,
    scope: type === "unicast" && gateway === undefined && !is6 ? 253 : 0,
    // An interface that there is not, now and then.
    ...(type === "unicast" ? { interfaceIndex: random.pick([2, 2, 3, 3, 9]) } : {}),
    ...(gateway === undefined ? {} : { gateway }),
    ...(random.below(3) === 0 ? { metric: random.pick([7, 4_294_967_295]) } : {}),
  };
}

describe("routes: random requests are taken or refused alike, and leave the same", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    test(`seed ${seed}`, () => {
      REAL.withNamespaces(["alike"], (real) => {
        FAKE.withNamespaces(["alike"], (fake) => {
          const random = new Random(seed);
          const clients = (
            [
              [REAL, real],
              [FAKE, fake],
            ] as const
          ).map(([{ sys }, namespace]) => {
            namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
            namespace.run(["sysctl", "-qw", "net.ipv6.conf.cali1.disable_ipv6=1"]);
            namespace.run(["sysctl", "-qw", "net.ipv6.conf.cali1.disable_ipv6=0"]);
            for (const link of ["cali1", "peer"]) namespace.run(["ip", "link", "set", link, "up"]);
            const client = namespace.enter(() => new RouteClient(sys));
            client.addAddress(3, unwrap(parseAddr("192.0.2.1")), 24);
            client.addAddress(3, unwrap(parseAddr("fd00:9::1")), 64, { noDad: true });
            return client;
          });
          const ours = (client: RouteClient): unknown =>
            client
              .routes({ table: 254 })
              .filter(({ protocol }) => protocol === 80 || protocol === 12)
              .map((one) => JSON.stringify(Object.entries(one).sort()))
              .sort();
          for (let step = 0; step < STEPS; step++) {
            const change = { do: random.pick(["add", "add", "replace", "delete"] as const), route: route(random) };
            const [first, second] = clients.map((client) => [
              client.changeRoutes([change])[0]?.errno,
              ours(client),
              ["10.0.0.1", "10.0.0.9", "fd00::1"].map((addr) => client.routeTo(unwrap(parseAddr(addr)))),
            ]);
            expect([change, second]).toEqual([change, first]);
          }
          for (const client of clients) client.close();
        });
      });
    });
  }
});
