/**
 * Sets: the members, among all endpoints and network sets of the cluster, of every set that a rule of this node names.
 *
 * Each member counts the rows that contribute it: a new owner of an address may appear before the old one is gone, and removing the old one
 * must not remove the address. Rows are immutable, so a row's contribution is recomputed, not stored. A set's members are one mutable Set that
 * the program exposes: work is proportional to the change, not to the set. A hot loop.
 */
import type { NamedPort } from "../model/endpoint.ts";
import { formatSelector } from "../model/selector/canonical.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { SetDefinition } from "../program/lower-rule.ts";
import { type AddrPort, formatAddrPort, type SetId, type SetMembers } from "../program/policy.ts";
import type { Delta, MemberChange } from "../program/program.ts";
import type { EndpointsDelta, Row } from "./endpoints.ts";
import { SelectorIndex } from "./selector-index.ts";

type Selecting = Exclude<SetDefinition, { readonly type: "nets" | "service" }>;

export interface SetsDelta {
  readonly sets: Delta<SetId, SetMembers>;
  readonly members: ReadonlyMap<SetId, MemberChange>;
}

/** What an endpoint that the selector matches contributes to a set. Shared with the from-scratch calculation. */
export function contributionOf(
  definition: Selecting,
  named: readonly NamedPort[],
  addresses: readonly Addr[],
): readonly (Addr | AddrPort)[] {
  if (definition.type === "address") return addresses;
  const ports = named.filter(({ name, protocol }) => name === definition.port && protocol === definition.protocol);
  return [
    ...new Set(ports.flatMap(({ protocol, port }) => addresses.map((addr) => formatAddrPort(addr, protocol, port)))),
  ];
}

export function netMembers({ nets }: Extract<SetDefinition, { readonly type: "nets" }>): SetMembers {
  return { type: "nets", nets: new Set(nets) };
}

export class Sets {
  readonly #index = new SelectorIndex();
  readonly #sets = new Map<SetId, MemberSet>();
  /** Sets over the same selector, by its text. */
  readonly #bySelector = new Map<string, Set<MemberSet>>();

  step(definitions: Delta<SetId, SetDefinition>, endpoints: EndpointsDelta): SetsDelta {
    const sets = new Map<SetId, SetMembers | undefined>();
    for (const [id, definition] of definitions) {
      if (definition !== undefined) continue;
      this.#remove(id);
      sets.set(id, undefined);
    }
    const changed = this.#applyRows(endpoints);
    const members = new Map<SetId, MemberChange>();
    for (const set of changed) {
      const change = set.drain();
      if (change.added.length + change.removed.length === 0) continue;
      sets.set(set.id, set.members);
      members.set(set.id, change);
    }
    for (const [id, definition] of definitions) {
      if (definition?.type === "nets") sets.set(id, netMembers(definition));
      else if (definition !== undefined && definition.type !== "service")
        sets.set(id, this.#add(id, definition).members);
    }
    return { sets, members };
  }

  /** Applies rows that changed, or that started or stopped matching; returns the sets that may have changed. */
  #applyRows(endpoints: EndpointsDelta): ReadonlySet<MemberSet> {
    const touched = new Set<MemberSet>();
    this.#index.step(endpoints, (selector, row, matches) => {
      for (const set of this.#bySelector.get(selector) ?? []) {
        if (matches) set.add(row);
        else set.remove(row);
        touched.add(set);
      }
    });
    return touched;
  }

  #add(id: SetId, definition: Selecting): MemberSet {
    const selector = formatSelector(definition.selector);
    const sharing = this.#bySelector.get(selector);
    if (sharing === undefined) this.#index.addSelector(selector, definition.selector);
    const set = new MemberSet(id, definition, selector);
    for (const row of this.#index.rowsOf(selector)) set.add(row);
    set.drain();
    this.#sets.set(id, set);
    if (sharing === undefined) this.#bySelector.set(selector, new Set([set]));
    else sharing.add(set);
    return set;
  }

  #remove(id: SetId): void {
    const set = this.#sets.get(id);
    if (set === undefined) return;
    this.#sets.delete(id);
    const sharing = this.#bySelector.get(set.selector);
    sharing?.delete(set);
    if (sharing?.size !== 0) return;
    this.#bySelector.delete(set.selector);
    this.#index.removeSelector(set.selector);
  }
}

/** The members of one set, and how many pods contribute each. */
class MemberSet {
  readonly id: SetId;
  readonly selector: string;
  readonly members: SetMembers;
  readonly #definition: Selecting;
  readonly #live = new Set<Addr & AddrPort>();
  readonly #nets = new Set<Prefix>();
  /** Rows that contribute a member, beyond the first; absent in the usual case of one. */
  readonly #more = new Map<string, number>();
  readonly #added = new Set<string>();
  readonly #removed = new Set<string>();

  constructor(id: SetId, definition: Selecting, selector: string) {
    this.id = id;
    this.selector = selector;
    this.#definition = definition;
    this.members =
      definition.type === "address"
        ? { type: "address", hosts: this.#live, nets: this.#nets }
        : { type: "address-port", members: this.#live };
  }

  add({ group, addresses, nets }: Row): void {
    for (const member of contributionOf(this.#definition, group.ports, addresses))
      this.#increment(this.#live, member as Addr & AddrPort);
    if (this.#definition.type === "address") for (const net of nets ?? []) this.#increment(this.#nets, net);
  }

  /** Removes a row that was added. */
  remove({ group, addresses, nets }: Row): void {
    for (const member of contributionOf(this.#definition, group.ports, addresses))
      this.#decrement(this.#live, member as Addr & AddrPort);
    if (this.#definition.type === "address") for (const net of nets ?? []) this.#decrement(this.#nets, net);
  }

  /** What was added and removed since the last call. */
  drain(): MemberChange {
    const change = { added: [...this.#added], removed: [...this.#removed] };
    this.#added.clear();
    this.#removed.clear();
    return change;
  }

  #increment<T extends string>(live: Set<T>, member: T): void {
    if (live.has(member)) {
      this.#more.set(member, (this.#more.get(member) ?? 0) + 1);
      return;
    }
    live.add(member);
    if (!this.#removed.delete(member)) this.#added.add(member);
  }

  #decrement<T extends string>(live: Set<T>, member: T): void {
    const more = this.#more.get(member);
    if (more !== undefined) {
      if (more > 1) this.#more.set(member, more - 1);
      else this.#more.delete(member);
      return;
    }
    live.delete(member);
    if (!this.#added.delete(member)) this.#removed.add(member);
  }
}
