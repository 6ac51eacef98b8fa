/** Order: for each endpoint of this node, what each direction runs: tiers, their policies in order, and the action at the end. */
import { equal } from "../lib/equal.ts";
import { keyOfText, type KeyText } from "../model/key.ts";
import type { EndpointRow, WorkloadKey } from "../model/endpoint.ts";
import type { Direction, Hook } from "../model/policy.ts";
import { BUILT_IN_TIERS, type TierModel } from "../model/tier.ts";
import { policyIdOf } from "../program/lower-rule.ts";
import type { PolicyId, Stage, TierBinding } from "../program/policy.ts";
import {
  type Delta,
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  HOOKS,
  type Settings,
  stagedOf,
  type Stages,
  stagesOf,
} from "../program/program.ts";
import { addressesOf, type Row } from "./endpoints.ts";
import type { HostBindings } from "./host-bindings.ts";
import type { Matches, Selecting } from "./matches.ts";
import { profileKey } from "./profiles.ts";
import { compareRanked, compareText, type Ranked } from "./ranked.ts";

/** Before translation and before connection tracking, what no rule decided continues: otherwise nothing would get through. */
const PASSING_HOOKS: readonly Hook[] = ["pre-dnat", "untracked"];

/**
 * The stage of an endpoint that these policies select, given in ascending order. A tier without a policy for the hook and direction is left out; without any tier
 * the endpoint is not isolated.
 */
function stageOf(
  policies: readonly Ranked[],
  tiers: ReadonlyMap<string, TierModel>,
  hook: Hook,
  direction: Direction,
): Pick<Stage, "tiers"> {
  const byTier = new Map<string, PolicyId[]>();
  // As a rule the next one is of the same tier.
  let last: { readonly tier: string; readonly members: PolicyId[] } | undefined;
  for (const { model, id } of policies) {
    if (model[direction] === undefined || !model.hooks.includes(hook)) continue;
    if (last?.tier !== model.tier) {
      last = { tier: model.tier, members: byTier.get(model.tier) ?? [] };
      byTier.set(last.tier, last.members);
    }
    last.members.push(id);
  }
  if (byTier.size === 0) return NO_TIERS;
  const bindings = Array.from(byTier, ([tier, members]): TierBinding => ({
    tier,
    policies: members,
    otherwise: "pass",
  }));
  return { tiers: inOrder(bindings, tiers, hook) };
}

const NO_TIERS: Pick<Stage, "tiers"> = { tiers: [] };

/** The tiers as they are asked now. One that ends as before is the same object, and if all are in their places, the list. */
function inOrder(
  bindings: readonly TierBinding[],
  tiers: ReadonlyMap<string, TierModel>,
  hook: Hook,
): readonly TierBinding[] {
  const passes = PASSING_HOOKS.includes(hook);
  const placed = bindings.map((binding) => {
    const tier = tiers.get(binding.tier) ?? missingTier(binding.tier);
    const otherwise = passes ? "pass" : tier.otherwise;
    return { tier, binding: binding.otherwise === otherwise ? binding : { ...binding, otherwise } };
  });
  const isMissing = ({ name }: TierModel): number => (tiers.has(name) ? 0 : 1);
  placed.sort((a, b) => isMissing(a.tier) - isMissing(b.tier) || compareTiers(a.tier, b.tier));
  return placed.every(({ binding }, i) => binding === bindings[i]) ? bindings : placed.map(({ binding }) => binding);
}

/** The stages of an endpoint of which only tiers have changed; the same object where these have no effect. */
function withTiers(before: Stages, tiers: ReadonlyMap<string, TierModel>): Stages {
  const stages: { -readonly [H in Hook]?: { [D in Direction]?: Stage } } = {};
  let isSame = true;
  for (const hook of HOOKS)
    for (const direction of DIRECTIONS) {
      const stage = before[hook]?.[direction];
      if (stage === undefined) continue;
      const ordered = inOrder(stage.tiers, tiers, hook);
      isSame &&= ordered === stage.tiers;
      (stages[hook] ??= {})[direction] = ordered === stage.tiers ? stage : { ...stage, tiers: ordered };
    }
  return isSame ? before : stages;
}

/** A tier that only policies name comes after all others and denies. */
function missingTier(name: string): TierModel {
  return { name, order: Number.POSITIVE_INFINITY, otherwise: "deny" };
}

function compareTiers(a: TierModel, b: TierModel): number {
  return a.order - b.order || compareText(a.name, b.name);
}

/** A hook that no policy concerns has no stage, but `normal`, which is closed without any. Profiles are asked there alone. */
export function hostStages(
  policies: readonly Ranked[],
  profiles: readonly string[],
  tiers: ReadonlyMap<string, TierModel>,
): Stages {
  const stages: { -readonly [H in Hook]?: { [D in Direction]?: Stage } } = {};
  const sorted = [...policies].sort(compareRanked);
  for (const hook of HOOKS)
    for (const direction of DIRECTIONS) {
      const stage = stageOf(sorted, tiers, hook, direction);
      if (hook === "normal") stages.normal = { ...stages.normal, [direction]: closedBut(stage, profiles) };
      else if (stage.tiers.length > 0)
        stages[hook] = { ...stages[hook], [direction]: { ...stage, profiles: [], otherwise: "allow" } };
    }
  return stages;
}

function profileId(name: string): PolicyId {
  return policyIdOf({ key: profileKey(name) });
}

/** What no policy decided passes only if a profile allows it. */
function closedBut(stage: Pick<Stage, "tiers">, profiles: readonly string[]): Stage {
  return { ...stage, profiles: profiles.map(profileId), otherwise: "deny" };
}

/** `profiles`: undefined for a pod, which is open where no policy decides. */
export function workloadStages(
  policies: readonly Ranked[],
  profiles: readonly string[] | undefined,
  tiers: ReadonlyMap<string, TierModel>,
): Stages {
  const sorted = [...policies].sort(compareRanked);
  const stage = (direction: Direction): Stage => {
    const { tiers: asked } = stageOf(sorted, tiers, "normal", direction);
    return profiles === undefined
      ? { tiers: asked, profiles: [], otherwise: "allow" }
      : closedBut({ tiers: asked }, profiles);
  };
  return { normal: { ingress: stage("ingress"), egress: stage("egress") } };
}

/** The stages with all staged policies enforced, of the hooks and directions where one of these has a say; undefined: nowhere. */
function stagedStages(
  { enforced, staged, replaced }: Selecting,
  hooks: readonly Hook[],
  stagesOf: (policies: readonly Ranked[]) => Stages,
): Stages | undefined {
  if (staged.length === 0 && replaced.size === 0) return undefined;
  const then = stagesOf([...enforced.filter((policy) => !replaced.has(policy)), ...staged]);
  const changing = [...staged, ...replaced];
  const stages: { -readonly [H in Hook]?: { [D in Direction]?: Stage } } = {};
  for (const hook of hooks)
    for (const direction of DIRECTIONS) {
      const isMeant = changing.some(({ model }) => model[direction] !== undefined && model.hooks.includes(hook));
      if (isMeant) stages[hook] = { ...stages[hook], [direction]: then[hook]?.[direction] ?? NOTHING_ASKED };
    }
  return Object.keys(stages).length === 0 ? undefined : stages;
}

/** Of a hook whose last policy would be deleted. */
const NOTHING_ASKED: Stage = { tiers: [], profiles: [], otherwise: "allow" };

/** What an endpoint runs. */
export function placesOf(
  selecting: Selecting,
  { host, profiles }: Pick<EndpointRow, "host" | "profiles">,
  tiers: ReadonlyMap<string, TierModel>,
): Pick<Endpoint, "stages" | "staged"> {
  const stagesOf = (policies: readonly Ranked[]): Stages =>
    host === undefined ? workloadStages(policies, profiles, tiers) : hostStages(policies, profiles ?? [], tiers);
  const stages = stagesOf(selecting.enforced);
  const staged = stagedStages(selecting, host === undefined ? ["normal"] : HOOKS, stagesOf);
  return staged === undefined ? { stages } : { stages, staged };
}

/** Source prefixes that a workload asks for in vain. */
export interface Withheld {
  readonly workload: WorkloadKey;
  readonly why: string;
}

/** undefined: workloads get what they ask for. Shared with the from-scratch calculation. */
export function whyNoSourcePrefixes({ allowsSourcePrefixes }: Settings): string | undefined {
  if (allowsSourcePrefixes) return undefined;
  return "they have an effect where workloadSourceSpoofing of the FelixConfiguration is Any, it is Disabled";
}

export class Order {
  /** Endpoints by the key of their row. */
  readonly #endpoints = new Map<KeyText, readonly EndpointId[]>();
  /** By the key of their row: a stage that is as it was stays the same object, so that whoever compiled it need not look at it again. */
  readonly #stages = new Map<KeyText, Places>();
  readonly #tiers = new Map(BUILT_IN_TIERS);
  #why: string | undefined;
  /** Workloads that ask for source prefixes and do not get them, and why. Live. */
  readonly withheld = new Map<KeyText, Withheld>();

  step(
    changed: ReadonlySet<KeyText>,
    tiers: Delta<string, TierModel>,
    matches: Matches,
    bindings: HostBindings,
    settings: Settings,
  ): Delta<EndpointId, Endpoint> {
    const dirty = new Set([...changed, ...this.#setTiers(tiers), ...this.#setSourcePrefixes(settings, matches)]);
    const delta = new Map<EndpointId, Endpoint | undefined>();
    for (const key of dirty) for (const id of this.#endpoints.get(key) ?? []) delta.set(id, undefined);
    for (const key of dirty) {
      const row = matches.row(key);
      if (row === undefined) {
        this.#endpoints.delete(key);
        this.#stages.delete(key);
        this.withheld.delete(key);
        continue;
      }
      const before = this.#stages.get(key);
      const places =
        before === undefined || changed.has(key)
          ? placesSharing(before, placesOf(matches.policiesOf(key), row, this.#tiers))
          : placesWithTiers(before, this.#tiers);
      this.#stages.set(key, places);
      if (row.host !== undefined) {
        const interfaces = bindings.interfacesOf(key);
        const source = keyOfText("HostEndpoint", key);
        for (const id of interfaces) delta.set(id, { kind: "host", source, addresses: addressesOf(row), ...places });
        this.#endpoints.set(key, interfaces);
        continue;
      }
      const sources = this.#sourcesOf(key, row);
      const ids: EndpointId[] = [];
      for (const { interface: name, workload: source, addresses } of row.local) {
        const { stages: own, staged } = places;
        const id = name as EndpointId;
        ids.push(id);
        delta.set(id, {
          kind: "workload",
          source,
          addresses,
          ...(sources === undefined ? undefined : { sources }),
          stages: own,
          ...(staged === undefined ? undefined : { staged }),
        });
      }
      this.#endpoints.set(key, ids);
    }
    return delta;
  }

  #sourcesOf(key: KeyText, { sources, local }: Row): Endpoint["sources"] {
    const [wire] = local;
    this.withheld.delete(key);
    if (sources === undefined || wire === undefined) return undefined;
    if (this.#why === undefined) return sources;
    this.withheld.set(key, { workload: wire.workload, why: `source prefixes ${sources.join(", ")}: ${this.#why}` });
    return undefined;
  }

  /** Returns the rows with source prefixes, if what becomes of these has changed. */
  *#setSourcePrefixes(settings: Settings, matches: Matches): Iterable<KeyText> {
    const why = whyNoSourcePrefixes(settings);
    if (why === this.#why) return;
    this.#why = why;
    for (const key of this.#endpoints.keys()) if (matches.row(key)?.sources !== undefined) yield key;
  }

  /** Returns the rows whose stages have a tier that changed. */
  *#setTiers(changes: Delta<string, TierModel>): Iterable<KeyText> {
    const changed = new Set<string>();
    for (const [name, change] of changes) {
      const tier = change ?? BUILT_IN_TIERS.get(name);
      if (equal(tier, this.#tiers.get(name))) continue;
      changed.add(name);
      if (tier === undefined) this.#tiers.delete(name);
      else this.#tiers.set(name, tier);
    }
    if (changed.size === 0) return;
    for (const [key, places] of this.#stages)
      if (
        [...stagesOf(places), ...stagedOf(places)].some(({ stage }) =>
          stage.tiers.some(({ tier }) => changed.has(tier)),
        )
      )
        yield key;
  }
}

type Places = Pick<Endpoint, "stages" | "staged">;

/** Made of what was before where that is equal. */
function placesSharing(before: Places | undefined, now: Places): Places {
  const stages = sharing(before?.stages, now.stages);
  return now.staged === undefined ? { stages } : { stages, staged: sharing(before?.staged, now.staged) };
}

function placesWithTiers({ stages, staged }: Places, tiers: ReadonlyMap<string, TierModel>): Places {
  const now = withTiers(stages, tiers);
  return staged === undefined ? { stages: now } : { stages: now, staged: withTiers(staged, tiers) };
}

/** The new stages, made of the old ones where these are equal; if all are, the old ones. */
function sharing(before: Stages | undefined, now: Stages): Stages {
  if (before === undefined) return now;
  const stages: { -readonly [H in Hook]?: { [D in Direction]?: Stage } } = {};
  let isSame = true;
  for (const hook of HOOKS)
    for (const direction of DIRECTIONS) {
      const [old, current] = [before[hook]?.[direction], now[hook]?.[direction]];
      const isKept = old !== undefined && current !== undefined && sameStage(old, current);
      isSame &&= isKept || old === current;
      if (current === undefined) continue;
      (stages[hook] ??= {})[direction] = isKept ? old : old === undefined ? current : sharingTiers(old, current);
    }
  return isSame ? before : stages;
}

/** The new stage, with those of the old one's tiers that are equal. */
function sharingTiers(before: Stage, now: Stage): Stage {
  return { ...now, tiers: now.tiers.map((tier) => before.tiers.find((old) => sameTier(old, tier)) ?? tier) };
}

function sameStage(a: Stage, b: Stage): boolean {
  return (
    a.otherwise === b.otherwise &&
    sameItems(a.profiles, b.profiles) &&
    a.tiers.length === b.tiers.length &&
    a.tiers.every((tier, i) => sameTier(tier, b.tiers[i]))
  );
}

function sameTier(a: TierBinding, b: TierBinding | undefined): boolean {
  return a.tier === b?.tier && a.otherwise === b.otherwise && sameItems(a.policies, b.policies);
}

function sameItems(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, i) => each === b[i]);
}
