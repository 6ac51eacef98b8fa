/**
 * Sets: the members, among all endpoints and network sets of the cluster, of every set that a rule of this node names.
 *
 * Each member counts the rows that contribute it: a new owner of an address may appear before the old one is gone, and removing the old one
 * must not remove the address. Rows are immutable, so a row's contribution is recomputed, not stored. A set's members are mutable Sets that
 * the program exposes: work is proportional to the change, not to the set. A hot loop.
 */
import { addTo, type Bag, removeFrom, valuesOf } from "../lib/bag.ts";
import { differences } from "../lib/common-ends.ts";
import type { NamedPort } from "../model/endpoint.ts";
import { formatSelector } from "../model/selector/canonical.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { SetDefinition } from "../program/lower-rule.ts";
import { type AddrPort, formatAddrPort, type SetId, type SetMembers } from "../program/policy.ts";
import type { Delta, MemberChange } from "../program/program.ts";
import { addressesOf, type EndpointsDelta, type Row } from "./endpoints.ts";
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
  readonly #bySelector = new Map<string, Bag<MemberSet>>();

  /** May be stopped at each `yield`: a new set, which nobody sees yet, is filled. No set that others see has changed then. */
  *step(definitions: Delta<SetId, SetDefinition>, endpoints: EndpointsDelta): Generator<undefined, SetsDelta> {
    const sets = new Map<SetId, SetMembers | undefined>();
    for (const [id, definition] of definitions) {
      if (definition !== undefined) continue;
      this.#remove(id);
      sets.set(id, undefined);
    }
    const added = new Set<MemberSet>();
    for (const [id, definition] of definitions)
      if (definition !== undefined && definition.type !== "nets" && definition.type !== "service")
        added.add(yield* this.#add(id, definition));
    const changed = this.#applyRows(endpoints);
    const members = new Map<SetId, MemberChange>();
    for (const set of changed) {
      const change = set.drain();
      if (added.has(set) || change.added.length + change.removed.length === 0) continue;
      sets.set(set.id, set.members);
      members.set(set.id, change);
    }
    for (const [id, definition] of definitions) {
      const set = this.#sets.get(id);
      if (definition?.type === "nets") sets.set(id, netMembers(definition));
      else if (definition !== undefined && set !== undefined) sets.set(id, set.members);
    }
    return { sets, members };
  }

  /** Applies rows that changed, or that started or stopped matching; returns the sets that may have changed. */
  #applyRows(endpoints: EndpointsDelta): ReadonlySet<MemberSet> {
    const touched = new Set<MemberSet>();
    this.#index.step(endpoints, (selector, before, now) => {
      for (const set of valuesOf(this.#bySelector.get(selector))) {
        set.replace(before, now);
        touched.add(set);
      }
    });
    return touched;
  }

  *#add(id: SetId, definition: Selecting): Generator<undefined, MemberSet> {
    const selector = formatSelector(definition.selector);
    if (!this.#bySelector.has(selector)) this.#index.addSelector(selector, definition.selector);
    const set = new MemberSet(id, definition, selector);
    this.#sets.set(id, set);
    addTo(this.#bySelector, selector, set);
    yield* set.fill(this.#index.rowsOf(selector));
    return set;
  }

  #remove(id: SetId): void {
    const set = this.#sets.get(id);
    if (set === undefined) return;
    this.#sets.delete(id);
    removeFrom(this.#bySelector, set.selector, set);
    if (!this.#bySelector.has(set.selector)) this.#index.removeSelector(set.selector);
  }
}

const NO_NETS: readonly Prefix[] = [];
/** Rows that a new set takes in before the thread may be given back. */
const FILLED_AT_ONCE = 1_024;

/** The members of one set, and how many pods contribute each. */
class MemberSet {
  readonly id: SetId;
  readonly selector: string;
  readonly members: SetMembers;
  readonly #definition: Selecting;
  readonly #live = new Set<Addr & AddrPort>();
  readonly #nets = new Set<Prefix>();
  /** Rows that contribute a member, beyond the first; absent in the usual case of one. */
  #more: Map<string, number> | undefined;
  /** What was added and removed since they were drained, if anything was. */
  #added: Set<string> | undefined;
  #removed: Set<string> | undefined;

  constructor(id: SetId, definition: Selecting, selector: string) {
    this.id = id;
    this.selector = selector;
    this.#definition = definition;
    this.members =
      definition.type === "address"
        ? { type: "address", hosts: this.#live, nets: this.#nets }
        : { type: "address-port", members: this.#live };
  }

  /** Takes the first rows in, some at a time. */
  *fill(rows: Iterable<Row>): Generator<undefined, void> {
    let count = 0;
    for (const row of rows) {
      for (const member of this.#contributionOf(row)) this.#count(this.#live, member as Addr & AddrPort);
      for (const net of this.#netsOf(row)) this.#count(this.#nets, net);
      if (++count % FILLED_AT_ONCE === 0) yield;
    }
  }

  /** Takes a row that was added out, and another in. */
  replace(before: Row | undefined, now: Row | undefined): void {
    for (const member of this.#contributionOf(before)) this.#decrement(this.#live, member as Addr & AddrPort);
    for (const member of this.#contributionOf(now)) this.#increment(this.#live, member as Addr & AddrPort);
    const { added, removed } = differences(this.#netsOf(before), this.#netsOf(now));
    for (const net of removed) this.#decrement(this.#nets, net);
    for (const net of added) this.#increment(this.#nets, net);
  }

  #contributionOf(row: Row | undefined): readonly (Addr | AddrPort)[] {
    return row === undefined ? [] : contributionOf(this.#definition, row.group.ports, addressesOf(row));
  }

  #netsOf(row: Row | undefined): readonly Prefix[] {
    return row?.nets === undefined || this.#definition.type !== "address" ? NO_NETS : row.nets;
  }

  /** What was added and removed since the last call. */
  drain(): MemberChange {
    const change = { added: [...(this.#added ?? [])], removed: [...(this.#removed ?? [])] };
    this.#added = undefined;
    this.#removed = undefined;
    return change;
  }

  /** True for the first row that contributes the member. */
  #count<T extends string>(live: Set<T>, member: T): boolean {
    const size = live.size;
    if (live.add(member).size > size) return true;
    this.#more ??= new Map();
    this.#more.set(member, (this.#more.get(member) ?? 0) + 1);
    return false;
  }

  #increment<T extends string>(live: Set<T>, member: T): void {
    if (this.#count(live, member) && this.#removed?.delete(member) !== true) (this.#added ??= new Set()).add(member);
  }

  #decrement<T extends string>(live: Set<T>, member: T): void {
    const more = this.#more?.get(member);
    if (more !== undefined) {
      if (more > 1) this.#more?.set(member, more - 1);
      else this.#more?.delete(member);
      return;
    }
    live.delete(member);
    if (this.#added?.delete(member) !== true) (this.#removed ??= new Set()).add(member);
  }
}
