/**
 * Services: the members of the sets that stand for Services: the addresses, or addresses with ports, of their EndpointSlices.
 *
 * Each member counts the slices that contribute it: an endpoint may be in two of them while it moves.
 */
import type { EndpointSliceRow } from "../model/convert/endpoint-slice.ts";
import type { KeyText } from "../model/key.ts";
import type { ServiceName } from "../model/service-name.ts";
import type { Addr } from "../net/addr.ts";
import type { SetDefinition } from "../program/lower-rule.ts";
import { type AddrPort, formatAddrPort, type SetId, type SetMembers } from "../program/policy.ts";
import type { Delta, MemberChange } from "../program/program.ts";
import type { SetsDelta } from "./sets.ts";

type ServiceDefinition = Extract<SetDefinition, { readonly type: "service" }>;

/** What a slice contributes to a set. Shared with the from-scratch calculation. */
export function sliceContribution(
  { ports: withPorts }: ServiceDefinition,
  { addresses, ports }: EndpointSliceRow,
): readonly (Addr | AddrPort)[] {
  if (!withPorts) return addresses;
  return [
    ...new Set(addresses.flatMap((addr) => ports.map(({ protocol, port }) => formatAddrPort(addr, protocol, port)))),
  ];
}

export class Services {
  readonly #slices = new Map<KeyText, EndpointSliceRow>();
  readonly #byService = new Map<ServiceName, Set<KeyText>>();
  readonly #sets = new Map<SetId, ServiceSet>();
  readonly #setsOf = new Map<ServiceName, Set<ServiceSet>>();

  step(definitions: Delta<SetId, SetDefinition>, slices: Delta<KeyText, EndpointSliceRow>): SetsDelta {
    const sets = new Map<SetId, SetMembers | undefined>();
    const members = new Map<SetId, MemberChange>();
    for (const [id, definition] of definitions)
      if (definition === undefined && this.#remove(id)) sets.set(id, undefined);
    const touched = new Set<ServiceSet>();
    for (const [key, slice] of slices) {
      const before = this.#slices.get(key);
      this.#put(key, before, slice);
      if (before !== undefined) for (const set of this.#setsFor(before)) touched.add(set.remove(before));
      if (slice !== undefined) for (const set of this.#setsFor(slice)) touched.add(set.add(slice));
    }
    for (const set of touched) {
      const change = set.drain();
      if (change.added.length + change.removed.length === 0) continue;
      sets.set(set.id, set.members);
      members.set(set.id, change);
    }
    for (const [id, definition] of definitions)
      if (definition?.type === "service") sets.set(id, this.#create(id, definition).members);
    return { sets, members };
  }

  #setsFor({ service }: EndpointSliceRow): Iterable<ServiceSet> {
    return (service === undefined ? undefined : this.#setsOf.get(service)) ?? [];
  }

  #put(key: KeyText, before: EndpointSliceRow | undefined, slice: EndpointSliceRow | undefined): void {
    if (before?.service !== undefined) removeFrom(this.#byService, before.service, key);
    if (slice === undefined) return void this.#slices.delete(key);
    this.#slices.set(key, slice);
    if (slice.service !== undefined) addTo(this.#byService, slice.service, key);
  }

  #create(id: SetId, definition: ServiceDefinition): ServiceSet {
    const set = new ServiceSet(id, definition);
    for (const key of this.#byService.get(definition.service) ?? []) {
      const slice = this.#slices.get(key);
      if (slice !== undefined) set.add(slice);
    }
    set.drain();
    this.#sets.set(id, set);
    addTo(this.#setsOf, definition.service, set);
    return set;
  }

  #remove(id: SetId): boolean {
    const set = this.#sets.get(id);
    if (set === undefined) return false;
    this.#sets.delete(id);
    removeFrom(this.#setsOf, set.definition.service, set);
    return true;
  }
}

class ServiceSet {
  readonly id: SetId;
  readonly definition: ServiceDefinition;
  readonly members: SetMembers;
  readonly #live = new Set<Addr & AddrPort>();
  readonly #counts = new Map<string, number>();
  readonly #added = new Set<string>();
  readonly #removed = new Set<string>();

  constructor(id: SetId, definition: ServiceDefinition) {
    this.id = id;
    this.definition = definition;
    this.members = definition.ports
      ? { type: "address-port", members: this.#live }
      : { type: "address", hosts: this.#live, nets: new Set() };
  }

  add(slice: EndpointSliceRow): this {
    for (const member of sliceContribution(this.definition, slice)) {
      const count = this.#counts.get(member) ?? 0;
      this.#counts.set(member, count + 1);
      if (count > 0) continue;
      this.#live.add(member as Addr & AddrPort);
      if (!this.#removed.delete(member)) this.#added.add(member);
    }
    return this;
  }

  /** Removes a slice that was added. */
  remove(slice: EndpointSliceRow): this {
    for (const member of sliceContribution(this.definition, slice)) {
      const count = this.#counts.get(member) ?? 0;
      if (count > 1) {
        this.#counts.set(member, count - 1);
        continue;
      }
      this.#counts.delete(member);
      this.#live.delete(member as Addr & AddrPort);
      if (!this.#added.delete(member)) this.#removed.add(member);
    }
    return this;
  }

  /** What was added and removed since the last call. */
  drain(): MemberChange {
    const change = { added: [...this.#added], removed: [...this.#removed] };
    this.#added.clear();
    this.#removed.clear();
    return change;
  }
}

function addTo<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([value]));
  else set.add(value);
}

function removeFrom<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  set?.delete(value);
  if (set?.size === 0) sets.delete(key);
}
