/** planner: what makes the maps agree with the program: what of it has changed, or everything, compared with what the maps hold. */
import { KernelError } from "../../kernel/errno.ts";
import { invariant } from "../../lib/bug.ts";
import { equal } from "../../lib/equal.ts";
import { formatKey, formatName } from "../../model/key.ts";
import type { Direction } from "../../model/policy.ts";
import type { Addr } from "../../net/addr.ts";
import { isWorkloadInterface } from "../../program/path.ts";
import type { PolicyId, Rule, SetId } from "../../program/policy.ts";
import {
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  EVERY_INTERFACE,
  HOOKS,
  policiesNamedBy,
  type Program,
  stagedOf,
  stagesOf,
} from "../../program/program.ts";
import type { Steps } from "../driver.ts";
import { BlockPlanner } from "./block-planner.ts";
import { Changes } from "./changes.ts";
import type { Dirt } from "./dirt.ts";
import { type BlockKind, contentOf, type Image } from "./image.ts";
import { encodeAddressKey, encodeRecords, type EndpointStages, EVERY_INDEX, NO_STAGES, words } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";
import { Placement, type PlacedEndpoint, type PlacedStage, type PolicyKey, type PolicyUse } from "./placement.ts";
import { asStaged, lowerRules, type SetReference } from "./records.ts";
import { SetPlanner } from "./set-planner.ts";
import { planSettings } from "./settings-planner.ts";
import { rowOf, StagePlanner } from "./stage-planner.ts";

/** Records of rules and their block's content, by the block's kind, as long as the sets that they name are the same. */
export type Lowered = WeakMap<readonly Rule[], Map<BlockKind, LoweredRules>>;

interface LoweredRules {
  readonly records: Uint8Array;
  readonly content: string;
  readonly sets: ReadonlyMap<SetId, SetReference>;
}

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

/** Policies or endpoints, and sets, planned in one step. */
const [IN_STEP, SETS_IN_STEP] = [64, 16];

/** Uses of a policy that count for staged policies. */
const STAGED: readonly PolicyUse[] = DIRECTIONS.map((direction) => `staged-${direction}` as const);

export class Planner {
  readonly placement: Placement;
  readonly changes: Changes;
  readonly #of: Planning;
  readonly #sets: SetPlanner;
  readonly #isWhole: boolean;
  readonly #policies: Set<PolicyId>;
  readonly #endpoints: Set<EndpointId>;
  readonly #blocks: BlockPlanner;
  readonly #stages: StagePlanner;

  constructor(of: Planning) {
    const { program, image, maps, dirt } = of;
    this.#of = of;
    this.#isWhole = of.placement === undefined || dirt.isWhole;
    this.placement = of.placement === undefined || dirt.isWhole ? new Placement(image) : of.placement;
    this.changes = new Changes(image.state);
    this.#sets = new SetPlanner(image, maps, this.placement, this.changes);
    this.#blocks = new BlockPlanner(image, maps, this.changes);
    this.#stages = new StagePlanner(this.placement, this.#blocks, of.refusalOf);
    this.#policies = new Set(this.#isWhole ? program.policies.keys() : dirt.policies);
    this.#endpoints = new Set(this.#isWhole ? program.endpoints.keys() : dirt.endpoints);
  }

  /** The program must not change between two steps. */
  *steps(): Steps {
    const { program, dirt, refusalOf } = this.#of;
    let count = 0;
    for (const id of this.#isWhole ? program.sets.keys() : dirt.sets) {
      if (++count % SETS_IN_STEP === 0) yield;
      const touched = this.#isWhole ? undefined : dirt.members.get(id);
      if (this.#sets.plan(id, program.sets.get(id), touched, refusalOf(`set ${id}`)))
        for (const key of this.placement.usersOfSet(id)) this.#policies.add(policyOf(key));
    }
    yield;
    for (const id of this.#endpoints) {
      for (const key of this.placement.name(id, policiesOf(program.endpoints.get(id))))
        this.#policies.add(policyOf(key));
      if (++count % IN_STEP === 0) yield;
    }
    // What decides is given room first.
    for (const uses of [DIRECTIONS, STAGED])
      for (const id of this.#policies) {
        for (const use of uses) this.#policy(id, use);
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

  /** One that nothing names so is in no block. */
  #policy(id: PolicyId, use: PolicyUse): void {
    const { program } = this.#of;
    const { placement } = this;
    const key: PolicyKey = `${use} ${id}`;
    const unit = `policy ${key}`;
    const before = placement.policies.get(key);
    placement.held.delete(unit);
    const policy = program.policies.get(id);
    const isStaged = use.startsWith("staged-");
    const direction: Direction = use.endsWith("ingress") ? "ingress" : "egress";
    const rules = policy?.[direction];
    if (policy === undefined || rules === undefined || !placement.isNamed(key)) {
      placement.placePolicy(key, undefined, []);
    } else {
      const { source, tier, error } = policy;
      const text = [formatKey(source), tier, ...(error === undefined ? [] : [error])].join("\0");
      const kind = isStaged ? (`staged-policy-${direction}` as const) : (`policy-${direction}` as const);
      const hold = (why: KernelError | undefined): void => {
        placement.placePolicy(key, undefined, setsOf(rules));
        const row = `policy ${formatName(source)}`;
        placement.held.set(unit, {
          row: isStaged ? `staged counters of ${row}` : row,
          object: isStaged ? undefined : source,
          error: why,
        });
      };
      try {
        const refusal = this.#of.refusalOf(unit);
        if (refusal !== undefined) throw refusal;
        if (this.#hasHeldSet(rules)) hold(undefined);
        else {
          const { records, content } = this.#rules(rules, kind, text);
          placement.placePolicy(key, this.#blocks.put(unit, { kind, text, records }, content), setsOf(rules));
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
  #rules(rules: readonly Rule[], kind: BlockKind, text: string): LoweredRules {
    const { lowered } = this.#of;
    const { sets: numbers } = this.placement;
    const byKind = lowered.get(rules) ?? new Map<BlockKind, LoweredRules>();
    const known = byKind.get(kind);
    const prefix = `${kind}\0${text}\0`;
    if (
      known?.content.startsWith(prefix) === true &&
      [...known.sets].every(([id, reference]) => equal(reference, numbers.get(id)))
    )
      return known;
    const sets = new Map<SetId, SetReference>();
    const records = lowerRules(rules, (id) => {
      const found = numbers.get(id);
      invariant(found !== undefined, `no set ${id}`);
      sets.set(id, found);
      return found;
    });
    const bytes = encodeRecords(kind.startsWith("staged-") ? asStaged(records) : records);
    const result = { records: bytes, content: contentOf(kind, text, bytes), sets };
    lowered.set(rules, byKind.set(kind, result));
    return result;
  }

  #endpoint(id: EndpointId): void {
    const { program, indexOf, refusalOf } = this.#of;
    const { placement } = this;
    const unit = `endpoint ${id}`;
    const endpoint = program.endpoints.get(id);
    placement.held.delete(unit);
    placement.held.delete(`staged ${id}`);
    if (endpoint?.kind === "host") placement.hosts.add(id);
    else placement.hosts.delete(id);
    const index = endpoint === undefined ? undefined : id === EVERY_INTERFACE ? EVERY_INDEX : indexOf(id);
    const isWorkload = isWorkloadInterface(id, program.settings);
    if (endpoint === undefined || index === undefined || isWorkload !== (endpoint.kind === "workload")) {
      placement.placeEndpoint(id, undefined);
      return;
    }
    try {
      const refusal = refusalOf(unit);
      if (refusal !== undefined) throw refusal;
      placement.placeEndpoint(id, { index, ...this.#put(id, endpoint, index) });
    } catch (refusal) {
      if (!(refusal instanceof KernelError)) throw refusal;
      // Without an endpoint nothing passes the interface.
      placement.placeEndpoint(id, undefined);
      placement.held.set(unit, { ...rowOf(endpoint), error: refusal });
    }
  }

  #put(id: EndpointId, endpoint: Endpoint, index: number): Pick<PlacedEndpoint, "stages" | "sources"> {
    const { image, maps } = this.#of;
    const { changes } = this;
    const { kind } = endpoint;
    const unit = `endpoint ${id}`;
    const placed: PlacedStage[] = [];
    const first = HOOKS.flatMap((hook) =>
      DIRECTIONS.map((direction) => this.#stages.place(id, endpoint, hook, direction, placed)),
    );
    const before = image.endpoints.get(index)?.stages ?? NO_STAGES;
    const wanted = kind === "host" ? [] : (endpoint.sources ?? []);
    const known = this.placement.endpoints.get(id)?.sources;
    const sources = this.#sets.planSources(unit, id, wanted, known);
    const after: EndpointStages = { kind, sources, first };
    const own = kind === "host" ? endpoint.addresses : [];
    const text = [id, formatKey(endpoint.source), ...own].join("\0");
    const accepted = kind === "host" ? [] : endpoint.addresses;
    const found = image.endpoints.get(index);
    if (found?.text !== text) changes.describe.push(() => maps.writeObject("endpoint", index, text, 0));
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
    return { stages: placed, sources };
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
    if (gone.length > 0) changes.clean.push(() => maps.removeAll(addresses, gone));
  }

  /** What is there and not wanted: of everything, or of what this change has freed. */
  #rest(): void {
    const { image } = this.#of;
    const { placement } = this;
    const { freed } = placement;
    for (const index of this.#isWhole ? image.endpoints.keys() : freed.indices)
      if (!placement.endpointAt.has(index)) this.#removeEndpoint(index);
    for (const content of this.#isWhole ? image.blocks.keys() : freed.blocks)
      if (!placement.isUsed(content)) this.#blocks.remove(content);
    const numbers = this.#isWhole ? placement.setNumbers() : new Set();
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
}

/** The policies that it names, by use. */
function policiesOf(endpoint: Endpoint | undefined): PolicyKey[] {
  if (endpoint === undefined) return [];
  const keys = (prefix: "" | "staged-", stages: ReturnType<typeof stagesOf>): PolicyKey[] =>
    stages.flatMap(({ stage, direction }) =>
      policiesNamedBy(stage).map((policy): PolicyKey => `${prefix}${direction} ${policy}`),
    );
  return [...keys("", stagesOf(endpoint)), ...keys("staged-", stagedOf(endpoint))];
}

function policyOf(key: PolicyKey): PolicyId {
  return key.slice(key.indexOf(" ") + 1) as PolicyId;
}

function setsOf(rules: readonly Rule[]): ReadonlySet<SetId> {
  const sets = new Set<SetId>();
  for (const { when } of rules)
    for (const { any } of when) for (const atom of any) if ("set" in atom) sets.add(atom.set);
  return sets;
}
