/**
 * dump: what the pinned maps hold, in names: endpoints, policies, sets, counters and flows. It writes nothing, needs no daemon, and disturbs none:
 * while one changes policy, it reads again until it has seen one generation throughout.
 */
import type { Sys } from "../../host/sys.ts";
import { EAGAIN, KernelError } from "../../kernel/errno.ts";
import { RouteClient } from "../../kernel/route/client.ts";
import { type Key, keyOfText, type KeyText } from "../../model/key.ts";
import { type Kind, KINDS } from "../../model/kind.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import type { PolicyId, Rule, SetId, Stage } from "../../program/policy.ts";
import { DIRECTIONS, HOOKS } from "../../program/program.ts";
import { countsByRule, endsIn } from "./counters.ts";
import type { Count, EndCounter } from "../counters.ts";
import { type Block, type Image, type ImageEndpoint, readingImage, sourcesOf, ZERO } from "./image.ts";
import { COUNTS_ALONE, decodeRecords, decodeState, EVERY_INDEX, RECORD_KINDS } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";
import { asDeciding, readRules, readStage, stagedBefore } from "./records.ts";

export interface DumpedRule extends Pick<Rule, "when" | "action">, Count {
  /** From 1, as written. */
  readonly rule: number;
}

export interface DumpedPolicy {
  /** As the key of its object: `NetworkPolicy/shop/web`. */
  readonly policy: string;
  /** Empty for a profile. */
  readonly tier: string;
  readonly direction: Direction;
  /** It counts for staged policies, and decides nothing. */
  readonly isStaged: boolean;
  readonly rules: readonly DumpedRule[];
  /** Names of interfaces. */
  readonly usedBy: readonly string[];
}

export interface DumpedSet {
  readonly set: string;
  readonly type: string;
  /** Addresses, prefixes, or ports as `ADDR,PROTOCOL,PORT`. */
  readonly members: readonly string[];
}

export interface DumpedStage {
  readonly hook: Hook;
  readonly direction: Direction;
  readonly isStaged: boolean;
  readonly stage: Stage;
  /** What no rule decided; of all endpoints that share the stage. */
  readonly ends: readonly (Pick<EndCounter, "end" | "action"> & Count)[];
  /** Endpoints that run the same block, this one included. */
  readonly sharedBy: number;
}

export interface DumpedEndpoint {
  /** `*`: every interface that has no endpoint and is no workload's. */
  readonly interface: string;
  readonly index: number;
  readonly kind: "workload" | "host";
  /** undefined: the maps do not say yet. */
  readonly endpoint: string | undefined;
  readonly addresses: readonly string[];
  /** Prefixes from which a workload may send besides. */
  readonly sources: readonly string[];
  readonly stages: readonly DumpedStage[];
}

export interface PathDump {
  readonly generation: number;
  readonly endpoints: readonly DumpedEndpoint[];
  readonly policies: readonly DumpedPolicy[];
  readonly sets: readonly DumpedSet[];
}

/** Readings of which policy changed meanwhile, after which it is given up. */
const MOST_READINGS = 20;

/** What the maps hold, of one generation. Throws KernelError. */
export function readImageAtOnce(maps: DataplaneMaps): Image {
  const generation = (): number => decodeState(maps.state.lookup(ZERO) ?? new Uint8Array(16)).generation;
  for (let reading = 0; reading < MOST_READINGS; reading++) {
    const steps = readingImage(maps);
    let step = steps.next();
    while (step.done !== true) step = steps.next();
    if (step.value.state.generation === generation()) return step.value;
  }
  throw new KernelError("read", "the maps", EAGAIN, `policy has changed during each of ${MOST_READINGS} readings`);
}

/** Throws KernelError. */
export function dumpPath(sys: Sys, maps: DataplaneMaps): PathDump {
  const image = readImageAtOnce(maps);
  return new Dumper(image, maps, interfaceNames(sys)).dump();
}

/** By index. Throws KernelError. */
export function interfaceNames(sys: Sys): ReadonlyMap<number, string> {
  const routes = new RouteClient(sys);
  try {
    return new Map(routes.links().map(({ index, name }) => [index, name]));
  } finally {
    routes.close();
  }
}

/** Only what an endpoint runs is looked at: what a commit has begun, or not cleared away yet, is nobody's. */
class Dumper {
  readonly #image: Image;
  readonly #maps: DataplaneMaps;
  readonly #names: ReadonlyMap<number, string>;
  readonly #blocks: ReadonlyMap<number, Block>;
  /** Interfaces by the first record of what they run. */
  readonly #users = new Map<number, Set<string>>();

  constructor(image: Image, maps: DataplaneMaps, names: ReadonlyMap<number, string>) {
    this.#image = image;
    this.#maps = maps;
    this.#names = names;
    this.#blocks = new Map([...image.blocks.values()].map((block) => [block.start, block]));
  }

  dump(): PathDump {
    const { state, endpoints, sets } = this.#image;
    const all = [...endpoints].sort(([a], [b]) => a - b);
    for (const [index, endpoint] of all) this.#use(this.#nameOf(index, endpoint), endpoint);
    const policies = [...this.#blocks.values()]
      .filter(({ kind, start }) => kind.includes("policy-") && this.#users.has(start))
      .map((block) => this.#policy(block));
    return {
      generation: state.generation,
      endpoints: all.map(([index, endpoint]) => this.#endpoint(index, endpoint)),
      policies: policies.sort((a, b) => compareText(nameOfPolicy(a), nameOfPolicy(b))),
      sets: [...sets.values()]
        .filter(({ type }) => type !== "sources")
        .map(({ id, type, members, nets }) => ({ set: id, type, members: [...nets, ...members].sort(compareText) }))
        .sort((a, b) => compareText(a.set, b.set)),
    };
  }

  #nameOf(index: number, { text }: ImageEndpoint): string {
    if (index === EVERY_INDEX) return "*";
    return this.#names.get(index) ?? `${text?.split("\0")[0] ?? index} (gone)`;
  }

  #use(name: string, { stages }: ImageEndpoint): void {
    for (const first of stages.first) {
      const block = this.#blocks.get(first & ~COUNTS_ALONE);
      const staged = block && this.#blocks.get(stagedBefore(decodeRecords(block.records)) ?? 0);
      for (const each of [block, staged]) {
        if (each === undefined) continue;
        for (const start of [each.start, ...calledBy(each)])
          this.#users.set(start, (this.#users.get(start) ?? new Set<string>()).add(name));
      }
    }
  }

  #policy(block: Block): DumpedPolicy {
    const [policy = "", tier = ""] = block.text.split("\0");
    const source = keyOf(policy);
    const direction = directionOf(block);
    const counts = countsByRule(block, this.#maps.counters);
    const setOf = (number: number): SetId => (this.#image.sets.get(number)?.id ?? `set ${number}`) as SetId;
    return {
      policy,
      tier,
      direction,
      isStaged: block.kind.startsWith("staged-"),
      rules:
        source === undefined
          ? []
          : readRules(asDeciding(decodeRecords(block.records)), source, direction, setOf).map(
              ({ id, when, action }) => ({
                rule: id.index + 1,
                action,
                when,
                ...(counts.get(id.index) ?? { packets: 0, bytes: 0 }),
              }),
            ),
      usedBy: [...(this.#users.get(block.start) ?? [])].sort(compareText),
    };
  }

  #endpoint(index: number, endpoint: ImageEndpoint): DumpedEndpoint {
    const { text, stages, addresses } = endpoint;
    const [, source, ...own] = text?.split("\0") ?? [];
    return {
      interface: this.#nameOf(index, endpoint),
      index,
      kind: stages.kind === "host" ? "host" : "workload",
      endpoint: source,
      addresses: stages.kind === "host" ? own : [...addresses].sort(compareText),
      sources: sourcesOf(this.#image, stages),
      stages: HOOKS.flatMap((hook, i) =>
        DIRECTIONS.flatMap((direction, k) =>
          this.#stages(hook, direction, stages.first[i * DIRECTIONS.length + k] ?? 0),
        ),
      ),
    };
  }

  /** In the order in which they are asked. */
  #stages(hook: Hook, direction: Direction, first: number): DumpedStage[] {
    const block = this.#blocks.get(first & ~COUNTS_ALONE);
    if (block === undefined) return [];
    const staged = this.#blocks.get(stagedBefore(decodeRecords(block.records)) ?? 0);
    const dumped = (of: Block, isStaged: boolean): DumpedStage => ({
      hook,
      direction,
      isStaged,
      stage: readStage(asDeciding(decodeRecords(of.records)), of.text.split("\0"), (start) => this.#policyAt(start)),
      ends: endsIn(of, this.#maps.counters),
      sharedBy: this.#users.get(of.start)?.size ?? 0,
    });
    return [
      ...(staged === undefined ? [] : [dumped(staged, true)]),
      ...((first & COUNTS_ALONE) === 0 ? [dumped(block, false)] : []),
    ];
  }

  #policyAt(start: number): PolicyId {
    return (this.#blocks.get(start)?.text.split("\0")[0] ?? `record ${start}`) as PolicyId;
  }
}

function calledBy({ records }: Block): number[] {
  return decodeRecords(records).flatMap(({ kind, target }) => (kind === RECORD_KINDS.call ? [target] : []));
}

function directionOf({ kind }: Block): Direction {
  return kind.endsWith("ingress") ? "ingress" : "egress";
}

/** undefined: it is of a kind that this version does not know. */
function keyOf(text: string): Key | undefined {
  const kind = text.slice(0, text.indexOf("/"));
  return kind in KINDS ? keyOfText(kind as Kind, text as KeyText) : undefined;
}

function nameOfPolicy({ tier, policy, direction, isStaged }: DumpedPolicy): string {
  return [tier, policy, direction, isStaged].join("\0");
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
