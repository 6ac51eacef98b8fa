/** planner: what makes the maps agree with the program: what of it has changed, or everything, compared with what the maps hold. */
import { ENOSPC, KernelError } from "../../kernel/errno.ts";
import { invariant } from "../../lib/bug.ts";
import { equal } from "../../lib/equal.ts";
import { formatKey, formatName } from "../../model/key.ts";
import type { Direction } from "../../model/policy.ts";
import type { Addr } from "../../net/addr.ts";
import { isWorkloadInterface } from "../../program/path.ts";
import type { PolicyId, Rule, SetId, Stage } from "../../program/policy.ts";
import {
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  EVERY_INTERFACE,
  HOOKS,
  policiesNamedBy,
  type Program,
  stagesOf,
} from "../../program/program.ts";
import type { Steps } from "../driver.ts";
import { Changes } from "./changes.ts";
import type { Dirt } from "./dirt.ts";
import { type Block, type BlockKind, contentOf, freeRanges, type Image } from "./image.ts";
import {
  encodeAddressKey,
  encodeRecords,
  type EndpointStages,
  EVERY_INDEX,
  NO_STAGES,
  RECORD_BYTES,
  words,
} from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";
import { Placement, type PolicyKey } from "./placement.ts";
import { lowerRules, lowerStage, type SetReference } from "./records.ts";
import { SetPlanner } from "./set-planner.ts";
import { planSettings } from "./settings-planner.ts";

/** Records of rules and their block's content, as long as the sets that they name are the same. */
export type Lowered = WeakMap<
  readonly Rule[],
  { readonly records: Uint8Array; readonly content: string; readonly sets: ReadonlyMap<SetId, SetReference> }
>;

export interface Planning {
  readonly program: Program;
  readonly image: Image;
  readonly maps: DataplaneMaps;
  readonly lowered: Lowered;
  /** Where everything is, if that is known; it is changed. */
  readonly placement: Placement | undefined;
  readonly dirt: Dirt;
  /** By name of the interface; undefined: it does not exist. */
  readonly indexOf: (name: string) => number | undefined;
  /** Why the kernel refuses the unit. */
  readonly refusalOf: (unit: string) => KernelError | undefined;
}

/** Policies, or endpoints, planned in one step. */
const IN_STEP = 64;

export class Planner {
  readonly placement: Placement;
  readonly changes: Changes;
  readonly #of: Planning;
  readonly #sets: SetPlanner;
  readonly #isWhole: boolean;
  readonly #policies: Set<PolicyId>;
  readonly #endpoints: Set<EndpointId>;
  readonly #newBlocks = new Map<string, Block>();
  #free: { from: number; readonly to: number }[] | undefined;

  constructor(of: Planning) {
    const { program, image, maps, dirt } = of;
    this.#of = of;
    this.#isWhole = of.placement === undefined || dirt.isWhole;
    this.placement = of.placement === undefined || dirt.isWhole ? new Placement(image) : of.placement;
    this.changes = new Changes(image.state);
    this.#sets = new SetPlanner(image, maps, this.placement, this.changes);
    this.#policies = new Set(this.#isWhole ? program.policies.keys() : dirt.policies);
    this.#endpoints = new Set(this.#isWhole ? program.endpoints.keys() : dirt.endpoints);
  }

  /** The program must not change between two steps. */
  *steps(): Steps {
    const { program, dirt, refusalOf } = this.#of;
    for (const id of this.#isWhole ? program.sets.keys() : dirt.sets) {
      const touched = this.#isWhole ? undefined : dirt.members.get(id);
      if (this.#sets.plan(id, program.sets.get(id), touched, refusalOf(`set ${id}`)))
        for (const key of this.placement.usersOfSet(id)) this.#policies.add(policyOf(key));
    }
    yield;
    let count = 0;
    for (const id of this.#policies) {
      for (const direction of DIRECTIONS) this.#policy(id, direction);
      if (++count % IN_STEP === 0) yield;
    }
    for (const id of this.#endpoints) {
      this.#endpoint(id);
      if (++count % IN_STEP === 0) yield;
    }
    const hasHosts = this.placement.hosts.size > 0;
    planSettings({ ...this.#of, changes: this.changes, hasHosts, isWhole: this.#isWhole });
    this.#rest();
  }

  #policy(id: PolicyId, direction: Direction): void {
    const { program } = this.#of;
    const { placement } = this;
    const key: PolicyKey = `${direction} ${id}`;
    const unit = `policy ${key}`;
    const before = placement.policies.get(key);
    placement.held.delete(unit);
    const policy = program.policies.get(id);
    const rules = policy?.[direction];
    if (policy === undefined || rules === undefined) {
      placement.placePolicy(key, undefined, []);
    } else {
      const { source, tier, error } = policy;
      const text = [formatKey(source), tier, ...(error === undefined ? [] : [error])].join("\0");
      const kind = `policy-${direction}` as const;
      const hold = (why: KernelError | undefined): void => {
        placement.placePolicy(key, undefined, setsOf(rules));
        placement.held.set(unit, { row: `policy ${formatName(source)}`, object: source, error: why });
      };
      try {
        const refusal = this.#of.refusalOf(unit);
        if (refusal !== undefined) throw refusal;
        if (this.#hasHeldSet(rules)) hold(undefined);
        else {
          const { records, content } = this.#rules(rules, kind, text);
          const start = this.#block(unit, kind, text, records, content);
          placement.placePolicy(key, { content, start }, setsOf(rules));
        }
      } catch (refusal) {
        if (!(refusal instanceof KernelError)) throw refusal;
        hold(refusal);
      }
    }
    if (placement.policies.get(key)?.start !== before?.start)
      for (const endpoint of placement.usersOfPolicy(key)) this.#endpoints.add(endpoint);
  }

  #hasHeldSet(rules: readonly Rule[]): boolean {
    const { held } = this.placement;
    return held.size > 0 && [...setsOf(rules)].some((id) => held.has(`set ${id}`));
  }

  /** Throws KernelError when they are too long. */
  #rules(rules: readonly Rule[], kind: BlockKind, text: string): { records: Uint8Array; content: string } {
    const { lowered } = this.#of;
    const { sets: numbers } = this.placement;
    const known = lowered.get(rules);
    const prefix = `${kind}\0${text}\0`;
    if (
      known?.content.startsWith(prefix) === true &&
      [...known.sets].every(([id, reference]) => equal(reference, numbers.get(id)))
    )
      return known;
    const sets = new Map<SetId, SetReference>();
    const bytes = encodeRecords(
      lowerRules(rules, (id) => {
        const found = numbers.get(id);
        invariant(found !== undefined, `no set ${id}`);
        sets.set(id, found);
        return found;
      }),
    );
    const result = { records: bytes, content: contentOf(kind, text, bytes), sets };
    lowered.set(rules, result);
    return result;
  }

  /** First record of the block. Throws KernelError when there is no room for it. */
  #block(unit: string, kind: BlockKind, text: string, records: Uint8Array, content: string): number {
    const { image, maps } = this.#of;
    const known = image.blocks.get(content) ?? this.#newBlocks.get(content);
    if (known !== undefined) return known.start;
    const count = records.length / RECORD_BYTES;
    const start = this.#allocate(count);
    const block = { kind, start, text, records, since: this.changes.next };
    this.#newBlocks.set(content, block);
    this.changes.note("+", `${kind} ${text.split("\0")[0]} (${count} records)`);
    const run = (): void => {
      maps.writeRecords(start, records);
      maps.writeObject(kind, start, text, count);
    };
    this.changes.prepare.push({ unit, run });
    this.changes.apply.push(() => image.blocks.set(content, block));
    return start;
  }

  #allocate(count: number): number {
    const { image, maps } = this.#of;
    this.#free ??= freeRanges(image, maps.records.definition.maxEntries);
    const range = this.#free.find(({ from, to }) => to - from >= count);
    if (range === undefined) throw new KernelError("find room for", `${count} records`, ENOSPC);
    range.from += count;
    return range.from - count;
  }

  #endpoint(id: EndpointId): void {
    const { program, indexOf, refusalOf } = this.#of;
    const { placement } = this;
    const unit = `endpoint ${id}`;
    const endpoint = program.endpoints.get(id);
    placement.held.delete(unit);
    if (endpoint?.kind === "host") placement.hosts.add(id);
    else placement.hosts.delete(id);
    const index = endpoint === undefined ? undefined : id === EVERY_INTERFACE ? EVERY_INDEX : indexOf(id);
    const isWorkload = isWorkloadInterface(id, program.settings);
    if (endpoint === undefined || index === undefined || isWorkload !== (endpoint.kind === "workload")) {
      placement.placeEndpoint(id, undefined, []);
      return;
    }
    const policies = stagesOf(endpoint).flatMap(({ stage, direction }) =>
      policiesNamedBy(stage).map((policy): PolicyKey => `${direction} ${policy}`),
    );
    try {
      const refusal = refusalOf(unit);
      if (refusal !== undefined) throw refusal;
      const contents = this.#put(id, endpoint, index);
      placement.placeEndpoint(id, { index, contents }, policies);
    } catch (refusal) {
      if (!(refusal instanceof KernelError)) throw refusal;
      // Without an endpoint nothing passes the interface.
      placement.placeEndpoint(id, undefined, policies);
      placement.held.set(unit, { ...rowOf(endpoint), error: refusal });
    }
  }

  /** Contents of the blocks that it runs. */
  #put(id: EndpointId, endpoint: Endpoint, index: number): string[] {
    const { image, maps } = this.#of;
    const { changes } = this;
    const { kind } = endpoint;
    const unit = `endpoint ${id}`;
    const contents: string[] = [];
    const first = HOOKS.flatMap((hook) =>
      DIRECTIONS.map((direction) => this.#stage(id, endpoint, hook, direction, contents)),
    );
    const after: EndpointStages = { kind, first };
    const own = kind === "host" ? endpoint.addresses : [];
    const text = [id, formatKey(endpoint.source), ...own].join("\0");
    const accepted = kind === "host" ? [] : endpoint.addresses;
    const found = image.endpoints.get(index);
    // It describes what is in force.
    if (found?.text !== text) changes.clean.push(() => maps.writeObject("endpoint", index, text, 0));
    const before = found?.stages ?? NO_STAGES;
    if (!equal(before, after)) {
      changes.isSwitched = true;
      changes.note(found === undefined ? "+" : "~", `endpoint ${id}`);
      const since = changes.next;
      changes.prepare.push({ unit, run: () => maps.writeEndpoint(index, { since, before, after }) });
    }
    const had = found?.addresses ?? new Set<Addr>();
    const added = accepted.filter((addr) => !had.has(addr));
    const removed = [...had].filter((addr) => !accepted.includes(addr));
    this.#addresses(unit, index, added, removed);
    changes.apply.push(() => image.endpoints.set(index, { text, stages: after, addresses: new Set(accepted) }));
    return contents;
  }

  #addresses(unit: string, index: number, added: readonly Addr[], removed: readonly Addr[]): void {
    if (added.length + removed.length === 0) return;
    const { maps } = this.#of;
    const { changes } = this;
    const { addresses } = maps;
    changes.isSwitched = true;
    changes.note("~", `addresses of interface ${index} (${added.length} more, ${removed.length} less)`);
    const gone = removed.map((addr) => encodeAddressKey(index, addr));
    const run = (): void =>
      maps.writeAll(addresses, [
        ...added.map((addr) => ({ key: encodeAddressKey(index, addr), value: words(changes.next, 0) })),
        ...gone.map((key) => ({ key, value: words(0, changes.next) })),
      ]);
    changes.prepare.push({ unit, run });
    changes.clean.push(() => maps.removeAll(addresses, gone));
  }

  /** First record of the stage; 0: there is none. One that names a policy that is held drops everything. */
  #stage(
    id: EndpointId,
    endpoint: Endpoint,
    hook: (typeof HOOKS)[number],
    direction: Direction,
    contents: string[],
  ): number {
    const { placement } = this;
    const given = endpoint.stages[hook]?.[direction];
    if (given === undefined) return 0;
    const startOf = (policy: PolicyId): number | undefined => placement.policies.get(`${direction} ${policy}`)?.start;
    const isOpen = policiesNamedBy(given).every((policy) => startOf(policy) !== undefined);
    if (!isOpen) placement.held.set(`endpoint ${id}`, { ...rowOf(endpoint), error: undefined });
    const stage: Stage = isOpen ? given : { tiers: [], profiles: [], otherwise: "deny" };
    const records = encodeRecords(
      lowerStage(stage, (policy) => {
        const start = startOf(policy);
        invariant(start !== undefined, `no ${direction} policy ${policy}`);
        return start;
      }),
    );
    const text = stage.tiers.map(({ tier }) => tier).join("\0");
    const kind = `stage-${direction}` as const;
    const content = contentOf(kind, text, records);
    contents.push(content);
    return this.#block(`endpoint ${id}`, kind, text, records, content);
  }

  /** What is there and not wanted: of everything, or of what this change has freed. */
  #rest(): void {
    const { image } = this.#of;
    const { placement } = this;
    const { freed } = placement;
    for (const index of this.#isWhole ? image.endpoints.keys() : freed.indices)
      if (!placement.endpointAt.has(index)) this.#removeEndpoint(index);
    for (const content of this.#isWhole ? image.blocks.keys() : freed.blocks)
      if (!placement.isUsed(content)) this.#removeBlock(content);
    const numbers = new Set(this.#isWhole ? [...placement.sets.values()].map(({ number }) => number) : []);
    for (const number of this.#isWhole ? image.sets.keys() : freed.sets) {
      const set = image.sets.get(number);
      if (set !== undefined && !numbers.has(number)) this.#sets.remove(set);
    }
    for (const each of Object.values(freed)) each.clear();
  }

  #removeEndpoint(index: number): void {
    const { image, maps } = this.#of;
    const { changes } = this;
    const found = image.endpoints.get(index);
    if (found === undefined) return;
    const { text, stages, addresses } = found;
    changes.isSwitched = true;
    changes.note("-", `endpoint ${text?.split("\0")[0] ?? index}`);
    const unit = `interface ${index}`;
    const since = changes.next;
    changes.prepare.push({
      unit,
      run: () => maps.writeEndpoint(index, { since, before: stages, after: NO_STAGES }),
    });
    this.#addresses(unit, index, [], [...addresses]);
    changes.clean.push(() => {
      maps.removeAll(maps.endpoints, [words(index)]);
      maps.removeObject("endpoint", index, text ?? "");
    });
    changes.apply.push(() => image.endpoints.delete(index));
  }

  #removeBlock(content: string): void {
    const { image, maps } = this.#of;
    const { changes } = this;
    const found = image.blocks.get(content);
    if (found === undefined) return;
    const { kind, start, text } = found;
    changes.isSwitched = true;
    changes.note("-", `${kind} ${text.split("\0")[0]}`);
    changes.clean.push(() => maps.removeObject(kind, start, text));
    changes.apply.push(() => image.blocks.delete(content));
  }
}

function policyOf(key: PolicyKey): PolicyId {
  return key.slice(key.indexOf(" ") + 1) as PolicyId;
}

function rowOf({ kind, source }: Endpoint): { readonly row: string; readonly object: Endpoint["source"] } {
  return { row: `${kind === "host" ? "host endpoint" : "pod"} ${formatName(source)}`, object: source };
}

function setsOf(rules: readonly Rule[]): ReadonlySet<SetId> {
  const sets = new Set<SetId>();
  for (const { when } of rules)
    for (const { any } of when) for (const atom of any) if ("set" in atom) sets.add(atom.set);
  return sets;
}
