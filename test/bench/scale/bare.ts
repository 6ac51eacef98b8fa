/**
 * bare: what the kernel alone takes for a change, in the network namespace of the copy of the node's table: the same kind of transaction, by netlink,
 * made beforehand. It prints the milliseconds as a list.
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

function chains(): ReadonlyMap<string, NftChainState> {
  const steps = client.steps.chains();
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Of each chain whose name passes, the first rule that is ours. */
function firstRules(isMeant: (chain: string) => boolean): Moving[] {
  return [...chains()].flatMap(([chain, { rules }]) => {
    const first = isMeant(chain) ? rules[0] : undefined;
    return first?.rule === undefined ? [] : [{ chain, rule: first.rule, handle: first.handle }];
  });
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

/** To workloads, without their tiers. */
function isStage(chain: string): boolean {
  return chain.startsWith("cali-tw-") && !chain.includes("/");
}

/** A chain that every stage jumps to comes; then it goes, which is not counted. */
function addPolicy(stages: readonly Moving[]): number {
  const name = "cali-bare";
  const jump: NftRule = {
    expressions: [{ op: "verdict", verdict: { type: "jump", chain: name } }],
    comment: undefined,
  };
  const { ms, told } = timed([
    { do: "add-chain", chain: name, base: undefined },
    ...stages.map(({ chain, handle }): NftCommand => ({ do: "insert-rule", chain, rule: jump, place: handle })),
  ]);
  timed([
    ...stages.flatMap(({ chain }, i): NftCommand[] => {
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
      const [first] = firstRules((chain) => chain.startsWith("cali-pi-"));
      return first === undefined ? [] : repeated(() => move([first]));
    }
    case "tier": {
      const stages = firstRules(isStage);
      return repeated(() => move(stages));
    }
    case "policy": {
      const stages = firstRules(isStage);
      return repeated(() => addPolicy(stages));
    }
    case "net":
      return changeNet();
    default:
      throw new Error(`${JSON.stringify(what)} must be rule, tier, policy or net`);
  }
}

console.log(JSON.stringify(measured(process.argv[2] ?? "")));
