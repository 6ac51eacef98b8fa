/**
 * lower: the program as rows of our nf_tables table, and the members of its sets as elements. Pure but for its own index of what it
 * lowered before, so that the work is proportional to the change: a member is one element, a policy a chain for each way in which it is
 * used, an endpoint a few chains and rows of dispatch.
 */
import type { NftElement } from "../../kernel/nftables/objects.ts";
import { addTo, type Bag, removeFrom, valuesOf } from "../../lib/bag.ts";
import { invariant } from "../../lib/bug.ts";
import { FAMILIES } from "../../net/addr.ts";
import type { Prefix } from "../../net/prefix.ts";
import type { Policy, PolicyId, SetId, SetMembers } from "../../program/policy.ts";
import {
  changedStages,
  type Delta,
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  type MemberChange,
  type Program,
  type ProgramDelta,
} from "../../program/program.ts";
import { baseRows } from "./base.ts";
import { Calls } from "./calls.ts";
import { hostStagesOf } from "./dispatch.ts";
import { type EndpointChange, EndpointParts } from "./endpoint-parts.ts";
import type { NamedSet, PortSet } from "./match.ts";
import { netsSetNames } from "./names.ts";
import { keysOf, Nets, netsIn } from "./nets.ts";
import { canPass, lowerPolicyChain } from "./policy-chains.ts";
import { chainId, elementId, type NftRow, setId } from "./rows.ts";
import { isNet, type KernelSet, kernelSetsOf, memberElement, type NetsByFamily, netsByFamily } from "./sets.ts";
import type { OwnedRow } from "../table-state.ts";
import { changedUses, namedBy, type Use, useKey, USES } from "../uses.ts";
import { BASE_UNIT, type Unit } from "../units.ts";

/** What became of the elements of one kernel set: all are new, or these came and went. */
export type ElementChange =
  | { readonly type: "all" }
  | { readonly type: "some"; readonly added: readonly NftElement[]; readonly removed: readonly NftElement[] };

/** What a change of the program is in the table. */
export interface NftChange {
  /** undefined: no longer wanted. Elements of dispatch and of lists of ports are rows; members of the program's sets are not. */
  readonly rows: ReadonlyMap<string, OwnedRow<NftRow> | undefined>;
  /** By kernel set, those of the program's sets that exist. */
  readonly elements: ReadonlyMap<string, ElementChange>;
}

export class NftablesLowering {
  /** What each unit but endpoints was lowered to: rows that it no longer is are taken back, and those that are the same objects are not told again. */
  readonly #rowsOf = new Map<string, ReadonlyMap<string, NftRow>>();
  readonly #portSetUsers = new Map<string, number>();
  readonly #portSetsOf = new Map<PolicyId, readonly string[]>();
  readonly #endpoints = new Map<EndpointId, Endpoint>();
  readonly #policies = new Map<PolicyId, Policy>();
  readonly #calls = new Calls((id) => this.#policyOf(id));
  readonly #parts = new EndpointParts(this.#calls.of);
  /** Endpoints that name the policy, and how many stages use it in which way (`useKey`). */
  readonly #endpointsOf = new Map<PolicyId, Bag<EndpointId>>();
  readonly #uses = new Map<string, number>();
  /** Policies that name the set. */
  readonly #policiesOf = new Map<SetId, Bag<PolicyId>>();
  readonly #nets = new Map<SetId, NetsByFamily>();
  #base: string | undefined;
  #logPrefix: string | undefined;
  #rows = new Map<string, OwnedRow<NftRow> | undefined>();
  #elements = new Map<string, ElementChange>();

  /** `program` is the state after `delta`. Work is proportional to the delta. */
  lower(program: Program, delta: ProgramDelta): NftChange {
    this.#rows = new Map();
    this.#elements = new Map();
    const policies = new Set<PolicyId>(delta.policies.keys());
    const endpoints = this.#setEndpoints(delta.endpoints);
    for (const id of this.#countUses(endpoints)) policies.add(id);
    if (this.#base === undefined || delta.endpoints.size > 0 || delta.settings !== undefined) this.#stepBase(program);
    for (const id of this.#setLogPrefix(program.settings.logPrefix)) policies.add(id);
    for (const [id, members] of delta.sets) {
      if (this.#stepSet(id, members, delta.members.get(id)))
        for (const policy of valuesOf(this.#policiesOf.get(id))) policies.add(policy);
    }
    const anew = new Set<EndpointId>();
    for (const [id, policy] of delta.policies)
      if (this.#setPolicy(id, policy)) for (const endpoint of valuesOf(this.#endpointsOf.get(id))) anew.add(endpoint);
    for (const id of policies) this.#stepPolicy(id, program);
    for (const id of new Set([...endpoints.keys(), ...anew])) {
      const change = anew.has(id) ? undefined : endpoints.get(id);
      for (const [row, owned] of this.#parts.step(id, this.#endpoints.get(id), change)) this.#rows.set(row, owned);
    }
    return { rows: this.#rows, elements: this.#elements };
  }

  #setEndpoints(delta: Delta<EndpointId, Endpoint>): ReadonlyMap<EndpointId, EndpointChange> {
    const changes = new Map<EndpointId, EndpointChange>();
    for (const [id, endpoint] of delta) {
      const before = this.#endpoints.get(id);
      changes.set(id, { before, stages: changedStages(before, endpoint) });
      if (endpoint === undefined) this.#endpoints.delete(id);
      else this.#endpoints.set(id, endpoint);
    }
    return changes;
  }

  /** The policies of which a use has come or gone. */
  #countUses(endpoints: ReadonlyMap<EndpointId, EndpointChange>): ReadonlySet<PolicyId> {
    const touched = new Map<string, { readonly policy: PolicyId; readonly before: boolean }>();
    const count = (policy: PolicyId, use: Use, by: 1 | -1): void => {
      const key = useKey(policy, use);
      const uses = this.#uses.get(key) ?? 0;
      if (!touched.has(key)) touched.set(key, { policy, before: uses > 0 });
      if (uses + by === 0) this.#uses.delete(key);
      else this.#uses.set(key, uses + by);
    };
    for (const [id, { stages }] of endpoints) {
      const gone = new Set<PolicyId>();
      for (const { use, came, went } of changedUses(stages)) {
        for (const policy of came) {
          count(policy, use, 1);
          addTo(this.#endpointsOf, policy, id);
        }
        for (const policy of went) {
          count(policy, use, -1);
          gone.add(policy);
        }
      }
      const named = gone.size === 0 ? undefined : namedBy(this.#endpoints.get(id));
      for (const policy of gone) if (named?.has(policy) !== true) removeFrom(this.#endpointsOf, policy, id);
    }
    return new Set(
      [...touched].flatMap(([key, { policy, before }]) => (this.#uses.has(key) === before ? [] : [policy])),
    );
  }

  /** True when the endpoints that name the policy must be lowered anew: whether it can pass decides what follows its jump. */
  #setPolicy(id: PolicyId, policy: Policy | undefined): boolean {
    const before = this.#policies.get(id);
    for (const set of setsOf(before)) removeFrom(this.#policiesOf, set, id);
    for (const set of setsOf(policy)) addTo(this.#policiesOf, set, id);
    if (policy === undefined) this.#policies.delete(id);
    else this.#policies.set(id, policy);
    const isOther =
      policy === undefined ||
      before === undefined ||
      DIRECTIONS.some((direction) => canPass(policy, direction) !== canPass(before, direction));
    if (isOther) this.#calls.forget(id);
    return isOther && policy !== undefined && before !== undefined;
  }

  #policyOf(id: PolicyId): Policy {
    const policy = this.#policies.get(id);
    invariant(policy !== undefined, `the program names policy ${id} but has it not`);
    return policy;
  }

  /** As of the last change. */
  readonly netsOf = (id: SetId): NetsByFamily | undefined => this.#nets.get(id);

  /** True when rules that name the set must be lowered anew: its nets are in other kernel sets than before. */
  #stepSet(id: SetId, members: SetMembers | undefined, change: MemberChange | undefined): boolean {
    const before = this.#nets.get(id);
    if (members !== undefined && members.type !== "nets" && change !== undefined && before !== undefined) {
      this.#stepMembers(id, members.type, change);
      return members.type === "address" && this.#stepNets(id, members.nets, before, change);
    }
    if (members === undefined) {
      this.#nets.delete(id);
      this.#replaceSet(id, []);
      return false;
    }
    const nets = netsByFamily(members);
    this.#nets.set(id, nets);
    const sets = kernelSetsOf(id, members.type, nets);
    this.#replaceSet(id, sets);
    for (const { name } of sets) this.#elements.set(name, { type: "all" });
    return before !== undefined && members.type !== "address-port" && !sameNames(id, members.type, before, nets);
  }

  #replaceSet(id: SetId, sets: readonly KernelSet[]): void {
    const unit: Unit = { kind: "set", id: `set ${id}`, object: undefined };
    const before = this.#rowsOf.get(unit.id);
    const rowOf = ({ name, is }: KernelSet): NftRow => before?.get(setId(name)) ?? { type: "set", set: name, is };
    this.#replace(unit, new Map(sets.map((set) => [setId(set.name), rowOf(set)])));
  }

  #stepMembers(id: SetId, type: "address" | "address-port", change: MemberChange): void {
    const bySet = new Map<string, { added: NftElement[]; removed: NftElement[] }>();
    for (const which of ["added", "removed"] as const) {
      for (const member of change[which]) {
        if (isNet(member)) continue;
        const { set, element } = memberElement(id, type, member);
        const entry = bySet.get(set) ?? { added: [], removed: [] };
        entry[which].push(element);
        bySet.set(set, entry);
      }
    }
    for (const [set, entry] of bySet) this.#elements.set(set, { type: "some", ...entry });
  }

  /** True when some are in other kernel sets than before. */
  #stepNets(id: SetId, all: ReadonlySet<Prefix>, before: NetsByFamily, change: MemberChange): boolean {
    const now = new Map(before);
    for (const family of FAMILIES) {
      const [added, removed] = [change.added, change.removed].map((members) => netsIn(members.filter(isNet), family));
      if (added === undefined || removed === undefined || added.length + removed.length === 0) continue;
      const old = before.get(family);
      const changes = old?.apply(added, removed);
      if (old === undefined || changes === undefined) {
        const own = netsIn(all, family);
        if (own.length === 0) now.delete(family);
        else now.set(family, this.#relayNets(id, old, new Nets(family, own), added, removed));
        continue;
      }
      for (const [set, part] of netsSetNames(id, "address", old)) {
        const changed = changes.get(part);
        if (changed !== undefined) this.#elements.set(set, { type: "some", ...changed });
      }
    }
    if (sameNames(id, "address", before, now)) return false;
    this.#nets.set(id, now);
    this.#replaceSet(id, kernelSetsOf(id, "address", now));
    return true;
  }

  /** Of the sets that `nets` is in, those that `before` was in too change, and the others are new. */
  #relayNets(
    id: SetId,
    before: Nets | undefined,
    nets: Nets,
    added: readonly Prefix[],
    removed: readonly Prefix[],
  ): Nets {
    const known = netsSetNames(id, "address", before);
    for (const [set, part] of netsSetNames(id, "address", nets))
      if (part === "rest" || !known.has(set)) this.#elements.set(set, { type: "all" });
      else this.#elements.set(set, { type: "some", added: keysOf(added, part), removed: keysOf(removed, part) });
    return nets;
  }

  /** As of the last change. */
  readonly #namedSet = (id: SetId, { sets }: Program): NamedSet => {
    const type = sets.get(id)?.type;
    const nets = this.#nets.get(id);
    invariant(type !== undefined && nets !== undefined, `the program names set ${id} but has it not`);
    return { type, nets };
  };

  #stepPolicy(id: PolicyId, program: Program): void {
    const rows = new Map<string, NftRow>();
    const portSets = new Map<string, PortSet>();
    const policy = this.#policies.get(id);
    const setOf = (set: SetId): NamedSet => this.#namedSet(set, program);
    for (const use of policy === undefined ? [] : USES) {
      if (policy === undefined || !this.#uses.has(useKey(id, use))) continue;
      const { direction, continuation } = use;
      const lowered = lowerPolicyChain(policy, direction, continuation, setOf, program.settings.logPrefix);
      if (lowered === undefined) continue;
      for (const [name, set] of lowered.portSets) portSets.set(name, set);
      for (const [chain, rules] of lowered.chains)
        rows.set(chainId(chain), { type: "chain", chain, base: undefined, rules });
    }
    for (const [name, set] of portSets) this.#usePortSet(name, set);
    this.#replace({ kind: "policy", id: `policy ${id}`, object: policy?.source }, rows);
    for (const name of this.#portSetsOf.get(id) ?? []) this.#dropPortSet(name);
    if (policy === undefined) this.#portSetsOf.delete(id);
    else this.#portSetsOf.set(id, [...portSets.keys()]);
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
    const hasSources = [...this.#endpoints.values()].some(({ sources }) => sources !== undefined);
    const use = { hostStages: hostStagesOf(this.#endpoints), hasSources };
    const text = JSON.stringify([program.settings, use]);
    if (text === this.#base) return;
    this.#base = text;
    this.#replace(BASE_UNIT, baseRows(program.settings, use));
  }

  #usePortSet(name: string, set: PortSet): void {
    const users = this.#portSetUsers.get(name) ?? 0;
    this.#portSetUsers.set(name, users + 1);
    if (users > 0) return;
    const rows = new Map<string, NftRow>([[setId(name), { type: "set", set: name, is: set.is }]]);
    for (const element of set.elements)
      rows.set(elementId(name, element), { type: "element", set: name, is: set.is, element });
    this.#replace(portSetUnit(name), rows);
  }

  #dropPortSet(name: string): void {
    const users = this.#portSetUsers.get(name);
    invariant(users !== undefined, `port set ${name} is dropped more often than used`);
    if (users > 1) {
      this.#portSetUsers.set(name, users - 1);
      return;
    }
    this.#portSetUsers.delete(name);
    this.#replace(portSetUnit(name), new Map());
  }

  #replace(unit: Unit, rows: ReadonlyMap<string, NftRow>): void {
    const before = this.#rowsOf.get(unit.id);
    for (const id of before?.keys() ?? []) if (!rows.has(id)) this.#rows.set(id, undefined);
    for (const [id, row] of rows) if (before?.get(id) !== row) this.#rows.set(id, { row, unit });
    if (rows.size === 0) this.#rowsOf.delete(unit.id);
    else this.#rowsOf.set(unit.id, rows);
  }
}

function portSetUnit(name: string): Unit {
  return { kind: "set", id: `ports ${name}`, object: undefined };
}

/** Whether the same kernel sets hold the nets. */
function sameNames(id: SetId, type: "address" | "nets", a: NetsByFamily, b: NetsByFamily): boolean {
  const namesOf = (nets: NetsByFamily): string =>
    FAMILIES.flatMap((family) => [...netsSetNames(id, type, nets.get(family)).keys()]).join();
  return namesOf(a) === namesOf(b);
}

function setsOf(policy: Policy | undefined): ReadonlySet<SetId> {
  const rules = DIRECTIONS.flatMap((direction) => policy?.[direction] ?? []);
  return new Set(
    rules.flatMap(({ when }) => when.flatMap(({ any }) => any.flatMap((atom) => ("set" in atom ? [atom.set] : [])))),
  );
}
