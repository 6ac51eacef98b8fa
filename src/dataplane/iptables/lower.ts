/**
 * lower: the program as rows of iptables and IP sets of both families, and the members of its sets as elements. Pure but for its own index of
 * what it lowered before, so that the work is proportional to the change.
 */
import { type Rule, TABLE_NAMES, type TableName } from "../../kernel/iptables/rule.ts";
import { addTo, type Bag, removeFrom, valuesOf } from "../../lib/bag.ts";
import { invariant } from "../../lib/bug.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import { FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import type { Policy, PolicyId, SetId } from "../../program/policy.ts";
import {
  changedStages,
  type Delta,
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  EVERY_INTERFACE,
  hasStage,
  HOOKS,
  type Program,
  type ProgramDelta,
} from "../../program/program.ts";
import { canPass } from "../nftables/policy-chains.ts";
import type { OwnedRow } from "../table-state.ts";
import { BASE_UNIT, type Unit } from "../units.ts";
import { changedUses, continuationOf, namedBy, type Use, useKey, USES } from "../uses.ts";
import { baseRows, type BaseUse, type HostDispatch } from "./base.ts";
import { workloadDispatch } from "./dispatch.ts";
import { changeIn, type ElementChange, ipSetsOf, wantedMembers } from "./members.ts";
import { setName, sourcesSet, stageChain, stagedChain, tableOf } from "./names.ts";
import { lowerPolicyChain } from "./policy-chains.ts";
import { chainId, type IptRow, memberId, sameRow, setId } from "./rows.ts";
import { lowerPlace } from "./stage-chains.ts";

/** What a change of the program is in iptables. */
export interface IptChange {
  /** undefined: no longer wanted. */
  readonly rows: ReadonlyMap<string, OwnedRow<IptRow> | undefined>;
  /** By IP set: what came and went; `all`: the set is new, or is another than it was. */
  readonly elements: ReadonlyMap<string, ElementChange | "all">;
}

export class IptablesLowering {
  /** What each unit was lowered to. */
  readonly #rowsOf = new Map<string, ReadonlyMap<string, IptRow>>();
  readonly #endpoints = new Map<EndpointId, Endpoint>();
  readonly #policies = new Map<PolicyId, Policy>();
  /** Endpoints that name the policy, and how many stages use it in which way and table. */
  readonly #endpointsOf = new Map<PolicyId, Bag<EndpointId>>();
  readonly #uses = new Map<string, number>();
  #base: string | undefined;
  #logPrefix: string | undefined;
  #rows = new Map<string, OwnedRow<IptRow> | undefined>();
  #elements = new Map<string, ElementChange | "all">();

  /** `program` is the state after `delta`. */
  lower(program: Program, delta: ProgramDelta): IptChange {
    this.#rows = new Map();
    this.#elements = new Map();
    const policies = new Set<PolicyId>(delta.policies.keys());
    for (const id of this.#countUses(delta.endpoints)) policies.add(id);
    for (const id of this.#setLogPrefix(program.settings.logPrefix)) policies.add(id);
    for (const id of delta.sets.keys()) this.#stepSet(id, program, delta);
    const endpoints = new Set<EndpointId>(delta.endpoints.keys());
    for (const [id, policy] of delta.policies)
      if (this.#setPolicy(id, policy))
        for (const endpoint of valuesOf(this.#endpointsOf.get(id))) endpoints.add(endpoint);
    for (const id of policies) this.#stepPolicy(id, program.settings.logPrefix);
    for (const id of endpoints) this.#stepEndpoint(id);
    if (this.#base === undefined || delta.endpoints.size > 0 || delta.settings !== undefined) this.#stepBase(program);
    return { rows: this.#rows, elements: this.#elements };
  }

  #stepSet(id: SetId, program: Program, delta: ProgramDelta): void {
    const members = delta.sets.get(id);
    const unit: Unit = { kind: "set", id: `set ${id}`, object: undefined };
    const sets = members === undefined ? [] : ipSetsOf(id, members.type);
    this.#replace(unit, new Map(sets.map(({ set, is }): [string, IptRow] => [setId(set), { type: "set", set, is }])));
    if (members === undefined) return;
    const change = delta.members.get(id);
    for (const family of FAMILIES) {
      const wanted = wantedMembers(program.sets.get(id) ?? members, family);
      this.#elements.set(setName(id, family), change === undefined ? "all" : changeIn(change, family, wanted));
    }
  }

  /** True when chains of endpoints that name it must be lowered anew: it begins or ceases to pass packets on. */
  #setPolicy(id: PolicyId, policy: Policy | undefined): boolean {
    const before = this.#policies.get(id);
    if (policy === undefined) this.#policies.delete(id);
    else this.#policies.set(id, policy);
    if (policy === undefined || before === undefined) return false;
    return DIRECTIONS.some((direction) => canPass(policy, direction) !== canPass(before, direction));
  }

  #policyOf(id: PolicyId): Policy {
    const policy = this.#policies.get(id);
    invariant(policy !== undefined, `the program names policy ${id} but has it not`);
    return policy;
  }

  #stepPolicy(id: PolicyId, logPrefix: string): void {
    const rows = new Map<string, IptRow>();
    const policy = this.#policies.get(id);
    if (policy !== undefined)
      for (const { table, ...use } of TABLE_USES) {
        if (!this.#uses.has(keyIn(table, id, use))) continue;
        for (const family of FAMILIES)
          addChains(rows, family, table, lowerPolicyChain(policy, { family, logPrefix, ...use }) ?? new Map());
      }
    this.#replace({ kind: "policy", id: `policy ${id}`, object: policy?.source }, rows);
  }

  #stepEndpoint(id: EndpointId): void {
    const endpoint = this.#endpoints.get(id);
    const rows = new Map<string, IptRow>();
    if (endpoint !== undefined) {
      const { kind, addresses } = endpoint;
      for (const hook of HOOKS)
        for (const direction of DIRECTIONS)
          if (hasStage(endpoint, hook, direction)) this.#addPlace(rows, id, endpoint, hook, direction);
      for (const addr of kind === "host" ? [] : addresses) {
        const set = sourcesSet(familyOf(addr));
        const member = `${addr},${id}`;
        rows.set(memberId(set, member), { type: "member", set, member });
      }
    }
    this.#replace({ kind: "endpoint", id: `endpoint ${id}`, object: endpoint?.source }, rows);
  }

  #addPlace(rows: Map<string, IptRow>, id: EndpointId, endpoint: Endpoint, hook: Hook, direction: Direction): void {
    const continuation = continuationOf(endpoint.kind, hook, direction);
    const chain = (part: number): string => stageChain(id, endpoint, hook, direction, part);
    const countedBefore = (part: number): string => stagedChain(id, endpoint, hook, direction, part);
    const policyOf = (policy: PolicyId): Policy => this.#policyOf(policy);
    const [stage, staged] = [endpoint.stages[hook]?.[direction], endpoint.staged?.[hook]?.[direction]];
    const chains = lowerPlace(stage, staged, { direction, continuation, chain, policyOf }, countedBefore);
    for (const family of FAMILIES) addChains(rows, family, tableOf(hook), chains);
  }

  /** The policies of which a use has come or gone. */
  #countUses(endpoints: Delta<EndpointId, Endpoint>): ReadonlySet<PolicyId> {
    const touched = new Set<PolicyId>();
    const count = (policy: PolicyId, key: string, by: 1 | -1): void => {
      const uses = (this.#uses.get(key) ?? 0) + by;
      if (uses === 0) this.#uses.delete(key);
      else this.#uses.set(key, uses);
      if (uses === 0 || (uses === 1 && by === 1)) touched.add(policy);
    };
    for (const [id, endpoint] of endpoints) {
      const before = this.#endpoints.get(id);
      if (endpoint === undefined) this.#endpoints.delete(id);
      else this.#endpoints.set(id, endpoint);
      for (const { hook, use, came, went } of changedUses(changedStages(before, endpoint))) {
        for (const policy of came) count(policy, keyIn(tableOf(hook), policy, use), 1);
        for (const policy of went) count(policy, keyIn(tableOf(hook), policy, use), -1);
      }
      const [was, is] = [namedBy(before), namedBy(endpoint)];
      for (const policy of was) if (!is.has(policy)) removeFrom(this.#endpointsOf, policy, id);
      for (const policy of is) if (!was.has(policy)) addTo(this.#endpointsOf, policy, id);
    }
    return touched;
  }

  /** Returns the policies that log, if the prefix changed. */
  #setLogPrefix(prefix: string): readonly PolicyId[] {
    if (prefix === this.#logPrefix) return [];
    this.#logPrefix = prefix;
    return [...this.#policies].flatMap(([id, { ingress, egress }]) =>
      [...(ingress ?? []), ...(egress ?? [])].some(({ action }) => action === "log") ? [id] : [],
    );
  }

  #stepBase(program: Program): void {
    const use = { hostStages: hostDispatchesOf(this.#endpoints), sources: sourcesIn(this.#endpoints) };
    const workloads = [...this.#endpoints].filter(([, { kind }]) => kind === "workload");
    const text = JSON.stringify([program.settings, use, workloads.map(([id]) => id)]);
    if (text === this.#base) return;
    this.#base = text;
    const rows = new Map<string, IptRow>();
    for (const family of FAMILIES) {
      for (const [id, row] of baseRows(family, program.settings, use)) rows.set(id, row);
      for (const direction of DIRECTIONS) {
        const chains = workloads.map(([id, endpoint]): [string, string] => [
          id,
          stageChain(id, endpoint, "normal", direction),
        ]);
        addChains(rows, family, "filter", workloadDispatch(direction, new Map(chains)));
      }
    }
    this.#replace(BASE_UNIT, rows);
  }

  /** A row that is as it was is not told again. */
  #replace(unit: Unit, rows: ReadonlyMap<string, IptRow>): void {
    const before = this.#rowsOf.get(unit.id);
    for (const id of before?.keys() ?? []) if (!rows.has(id)) this.#rows.set(id, undefined);
    for (const [id, row] of rows) {
      const was = before?.get(id);
      if (was === undefined || !sameRow(was, row)) this.#rows.set(id, { row, unit });
    }
    if (rows.size === 0) this.#rowsOf.delete(unit.id);
    else this.#rowsOf.set(unit.id, rows);
  }
}

/** Every table and way in which a policy can be used. */
const TABLE_USES = TABLE_NAMES.flatMap((table) => USES.map((use) => ({ table, ...use })));

function keyIn(table: TableName, policy: PolicyId, use: Use): string {
  return `${table} ${useKey(policy, use)}`;
}

function addChains(
  rows: Map<string, IptRow>,
  family: Family,
  table: TableName,
  chains: ReadonlyMap<string, readonly Rule[]>,
): void {
  for (const [chain, rules] of chains)
    rows.set(chainId(family, table, chain), { type: "chain", family, table, chain, rules });
}

/** Hooks and directions for which some host endpoint has a stage. */
function hostDispatchesOf(endpoints: ReadonlyMap<EndpointId, Endpoint>): HostDispatch[] {
  const hosts = [...endpoints].filter(([, { kind }]) => kind === "host");
  return HOOKS.flatMap((hook) =>
    DIRECTIONS.flatMap((direction) => {
      const has = ([, host]: readonly [EndpointId, Endpoint]): boolean => hasStage(host, hook, direction);
      const devices = hosts.flatMap((host) => (has(host) ? [host[0]] : [])).sort();
      if (devices.length === 0) return [];
      const isForAll = devices.includes(EVERY_INTERFACE);
      return [
        {
          hook,
          direction,
          devices,
          exempt: isForAll ? hosts.flatMap((host) => (has(host) ? [] : [host[0]])).sort() : [],
        },
      ];
    }),
  );
}

/** Of the workloads that have source prefixes. */
function sourcesIn(endpoints: ReadonlyMap<EndpointId, Endpoint>): BaseUse["sources"] {
  return [...endpoints]
    .flatMap(([id, { sources }]) => (sources === undefined ? [] : [[id, sources] as const]))
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
