/**
 * bare: what the kernel alone takes for a change, in the network namespace of the copy of the node's table: the same kind of transaction, by netlink,
 * and nothing else. It prints the milliseconds as a list.
 * Usage: bun bare.ts rule | tier | policy | net
 */
import { openSys } from "../../../src/host/bun/sys.ts";
import { NftablesClient } from "../../../src/kernel/nftables/client.ts";
import type {
  NftChainState,
  NftCommand,
  NftElement,
  NftRule,
  NftSetState,
} from "../../../src/kernel/nftables/objects.ts";

const TIMES = 40;
const client = new NftablesClient(openSys(), { family: "inet", name: "calico" });

/** The handle and the rule of one that goes and comes. */
interface Moving {
  readonly chain: string;
  readonly rule: NftRule;
  handle: bigint;
}

function timed(commands: readonly NftCommand[]): { readonly ms: number; readonly told: ReadonlyMap<number, bigint> } {
  const start = performance.now();
  const told = client.commit(commands);
  return { ms: performance.now() - start, told };
}

function finish<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Puts a rule of our own at the end of each chain; `ruleOf` undefined: not of that one. */
function prepared(ruleOf: (chain: string, all: ReadonlyMap<string, NftChainState>) => NftRule | undefined): Moving[] {
  const all = finish(client.steps.chains());
  const rules = [...all.keys()].flatMap((chain) => {
    const rule = ruleOf(chain, all);
    return rule === undefined ? [] : [{ chain, rule }];
  });
  if (rules.length === 0) throw new Error("the table has no such chain");
  const { told } = timed(rules.map((each): NftCommand => ({ do: "insert-rule", ...each, place: "last" })));
  return rules.map((each, index) => ({ ...each, handle: told.get(index) ?? 0n }));
}

function jumpTo(chain: string): NftRule {
  return { expressions: [{ op: "verdict", verdict: { type: "jump", chain } }], comment: undefined };
}

/** As one of a policy: addresses of a set are allowed. */
function policyRule(set: string): NftRule {
  return {
    expressions: [
      { op: "meta", key: "nfproto", register: 0 },
      { op: "cmp", compare: "eq", register: 0, data: "02" },
      { op: "payload", base: "network", offset: 12, length: 4, register: 0 },
      { op: "lookup", set, register: 0, not: false },
      { op: "counter" },
      { op: "verdict", verdict: { type: "accept" } },
    ],
    comment: undefined,
  };
}

/** All leave their places for the ends of their chains, in one transaction. */
function move(moving: readonly Moving[]): number {
  const { ms, told } = timed([
    ...moving.map(({ chain, handle }): NftCommand => ({ do: "delete-rule", chain, handle })),
    ...moving.map(({ chain, rule }): NftCommand => ({ do: "insert-rule", chain, rule, place: "last" })),
  ]);
  for (const [i, each] of moving.entries()) each.handle = told.get(moving.length + i) ?? each.handle;
  return ms;
}

/** Of the stages to workloads: a jump to the first of their tiers. */
function stages(): Moving[] {
  return prepared((chain, all) => {
    if (!chain.startsWith("cali-tw-") || chain.includes("/")) return undefined;
    const tier = [...all.keys()].find((each) => each.startsWith(`${chain}/`));
    return tier === undefined ? { expressions: [{ op: "counter" }], comment: undefined } : jumpTo(tier);
  });
}

/** A chain that every stage jumps to comes; then it goes, which is not counted. */
function addPolicy(places: readonly Moving[]): number {
  const name = "cali-bare";
  const { ms, told } = timed([
    { do: "add-chain", chain: name, base: undefined },
    ...places.map(({ chain, handle }): NftCommand => ({ do: "insert-rule", chain, rule: jumpTo(name), place: handle })),
  ]);
  timed([
    ...places.flatMap(({ chain }, i): NftCommand[] => {
      const handle = told.get(i + 1);
      return handle === undefined ? [] : [{ do: "delete-rule", chain, handle }];
    }),
    { do: "delete-chain", chain: name },
  ]);
  return ms;
}

/** One element more in the largest set of nets of one length, and one less. */
function changeNet(): number[] {
  const sets = client.read()?.sets ?? new Map<string, NftSetState>();
  const [largest] = [...sets]
    .filter(([, { is }]) => is !== undefined && !is.verdictMap && is.key.join() === "ipv4_addr")
    .sort(([, a], [, b]) => b.elements.length - a.elements.length);
  if (largest === undefined) throw new Error("the table has no set");
  const [set, { is, elements }] = largest;
  if (is === undefined) throw new Error(`set ${set} cannot be expressed`);
  const key = "c0000201";
  const element: NftElement = { key, keyEnd: is.interval ? key : undefined, verdict: undefined };
  if (elements.some((each) => each.key === key)) throw new Error(`set ${set} has ${key}`);
  return Array.from({ length: TIMES }, (_, i) =>
    timed([{ do: i % 2 === 0 ? "add-elements" : "delete-elements", set, is, elements: [element] }]),
  ).map(({ ms }) => ms);
}

function measured(what: string): number[] {
  const repeated = (run: () => number): number[] => Array.from({ length: TIMES }, run);
  switch (what) {
    case "rule": {
      const [set = ""] = [...finish(client.steps.sets())].flatMap(([name, { is }]) =>
        is?.key.join() === "ipv4_addr" ? [name] : [],
      );
      let isFirst = true;
      const one = prepared((chain) => {
        if (!isFirst || !chain.startsWith("cali-pi-")) return undefined;
        isFirst = false;
        return policyRule(set);
      });
      return repeated(() => move(one));
    }
    case "tier": {
      const places = stages();
      return repeated(() => move(places));
    }
    case "policy": {
      const places = stages();
      return repeated(() => addPolicy(places));
    }
    case "net":
      return changeNet();
    default:
      throw new Error(`${JSON.stringify(what)} must be rule, tier, policy or net`);
  }
}

console.log(JSON.stringify(measured(process.argv[2] ?? "")));
