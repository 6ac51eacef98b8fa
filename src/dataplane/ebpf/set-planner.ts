/**
 * set-planner: sets of the program, and source prefixes of workloads, as elements of the maps: a host comes and goes by itself; with other networks a set
 * is another one.
 */
import type { MapEntry } from "../../kernel/bpf/map.ts";
import type { KernelError } from "../../kernel/errno.ts";
import type { Addr } from "../../net/addr.ts";
import type { Prefix } from "../../net/prefix.ts";
import type { AddrPort, SetId, SetMembers } from "../../program/policy.ts";
import type { EndpointId } from "../../program/program.ts";
import type { Changes } from "./changes.ts";
import { type Image, type ImageSet, type SetType, setText } from "./image.ts";
import { encodeMemberKey, encodeNetKey, words } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";
import type { Placement } from "./placement.ts";
import { hasOf } from "./records.ts";

type Member = Addr | AddrPort;

export class SetPlanner {
  readonly #image: Image;
  readonly #maps: DataplaneMaps;
  readonly #placement: Placement;
  readonly #changes: Changes;
  /** By type and id; made when everything is planned. */
  #byId: ReadonlyMap<string, ImageSet> | undefined;

  constructor(image: Image, maps: DataplaneMaps, placement: Placement, changes: Changes) {
    this.#image = image;
    this.#maps = maps;
    this.#placement = placement;
    this.#changes = changes;
  }

  /** `touched`: the only members that can have changed; undefined: any. `refusal`: it is left as it is. True when who names it must be planned anew. */
  plan(
    id: SetId,
    wanted: SetMembers | undefined,
    touched: ReadonlySet<string> | undefined,
    refusal: KernelError | undefined,
  ): boolean {
    const placement = this.#placement;
    const before = placement.sets.get(id);
    const unit = `set ${id}`;
    placement.held.delete(unit);
    if (wanted === undefined) {
      placement.placeSet(id, undefined);
      return before !== undefined;
    }
    const found = this.#find(id, wanted.type, before?.number);
    if (refusal !== undefined) {
      placement.held.set(unit, { row: unit, object: undefined, error: refusal });
      placement.placeSet(id, found && { number: found.number, has: hasOf(wanted) });
      return true;
    }
    const isKept = found !== undefined && hasSameNets(found, wanted, touched);
    const number = isKept ? found.number : placement.nextSet();
    placement.placeSet(id, { number, has: hasOf(wanted) });
    if (isKept) this.#changeMembers(unit, found, hostsOf(wanted), touched);
    // The calculation changes its sets in place.
    else {
      const [members, nets] = [new Set(hostsOf(wanted)), new Set(netsOf(wanted))];
      this.#add(unit, { id, type: wanted.type, number, members, nets });
    }
    return before?.number !== number;
  }

  /** Number of the set of the workload's source prefixes, `before`: that which it had; 0: it has none. With other prefixes it is another one. */
  planSources(unit: string, id: EndpointId, wanted: readonly Prefix[], before: number | undefined): number {
    if (wanted.length === 0) return 0;
    const found = this.#find(id, "sources", before === 0 ? undefined : before);
    if (found?.nets.size === wanted.length && wanted.every((net) => found.nets.has(net))) return found.number;
    const number = this.#placement.nextSet();
    this.#add(unit, { id, type: "sources", number, members: new Set(), nets: new Set(wanted) });
    return number;
  }

  #find(id: string, type: SetType, number: number | undefined): ImageSet | undefined {
    if (number !== undefined) {
      const found = this.#image.sets.get(number);
      return found?.type === type ? found : undefined;
    }
    this.#byId ??= new Map([...this.#image.sets.values()].map((set) => [`${set.type} ${set.id}`, set]));
    return this.#byId.get(`${type} ${id}`);
  }

  #changeMembers(
    unit: string,
    set: ImageSet,
    wanted: ReadonlySet<Member>,
    touched: ReadonlySet<string> | undefined,
  ): void {
    const candidates = touched as ReadonlySet<Member> | undefined;
    const added = [...(candidates ?? wanted)].filter((member) => wanted.has(member) && !set.members.has(member));
    const removed = [...(candidates ?? set.members)].filter((member) => set.members.has(member) && !wanted.has(member));
    if (added.length === 0 && removed.length === 0) return;
    this.#changes.note("~", `set ${set.id} (${added.length} members more, ${removed.length} less)`);
    this.#changes.isSwitched = true;
    const keys = (members: readonly Member[]): Uint8Array[] =>
      members.map((member) => encodeMemberKey(set.number, member));
    const { members } = this.#maps;
    const { next } = this.#changes;
    const [born, dying] = [words(next, 0), words(0, next)];
    const run = (): void =>
      this.#maps.writeAll(members, [
        ...keys(added).map((key) => ({ key, value: born })),
        ...keys(removed).map((key) => ({ key, value: dying })),
      ]);
    this.#changes.prepare.push({ unit, run });
    if (removed.length > 0) this.#changes.clean.push(() => this.#maps.removeAll(members, keys(removed)));
    this.#changes.apply.push(() => {
      for (const member of added) set.members.add(member);
      for (const member of removed) set.members.delete(member);
    });
  }

  /** Nobody refers to it before the switch. */
  #add(unit: string, set: ImageSet): void {
    const { id, type, number, members, nets } = set;
    this.#changes.note("+", `${nameOf(set)} (${members.size + nets.size} members)`);
    const { prepare } = this.#changes;
    prepare.push({ unit, run: () => this.#maps.writeObject("set", number, setText(id, type), 0) });
    for (const part of parts(members)) {
      const entries = (): MapEntry[] =>
        part.map((member) => ({ key: encodeMemberKey(number, member), value: words(0, 0) }));
      prepare.push({ unit, run: () => this.#maps.writeAll(this.#maps.members, entries()) });
    }
    for (const part of parts(nets)) {
      const entries = (): MapEntry[] => part.map((net) => ({ key: encodeNetKey(number, net), value: words(1) }));
      prepare.push({ unit, run: () => this.#maps.writeAll(this.#maps.nets, entries()) });
    }
    this.#changes.apply.push(() => this.#image.sets.set(number, set));
  }

  remove(set: ImageSet): void {
    const { id, type, number, members, nets } = set;
    this.#changes.isSwitched = true;
    this.#changes.note("-", nameOf(set));
    const { clean } = this.#changes;
    for (const part of parts(members))
      clean.push(() =>
        this.#maps.removeAll(
          this.#maps.members,
          part.map((member) => encodeMemberKey(number, member)),
        ),
      );
    for (const part of parts(nets))
      clean.push(() =>
        this.#maps.removeAll(
          this.#maps.nets,
          part.map((net) => encodeNetKey(number, net)),
        ),
      );
    clean.push(() => this.#maps.removeObject("set", number, setText(id, type)));
    this.#changes.apply.push(() => this.#image.sets.delete(number));
  }
}

function nameOf({ id, type }: ImageSet): string {
  return type === "sources" ? `source prefixes of ${id}` : `set ${id}`;
}

function hasSameNets(found: ImageSet, wanted: SetMembers, touched: ReadonlySet<string> | undefined): boolean {
  const nets = netsOf(wanted);
  if (found.nets.size !== nets.size) return false;
  const candidates = touched === undefined ? nets : [...touched].filter((member) => member.includes("/"));
  for (const net of candidates) if (nets.has(net as Prefix) !== found.nets.has(net as Prefix)) return false;
  return true;
}

function hostsOf(set: SetMembers): ReadonlySet<Member> {
  return set.type === "address" ? set.hosts : set.type === "address-port" ? set.members : new Set();
}

function netsOf(set: SetMembers): ReadonlySet<Prefix> {
  return set.type === "address-port" ? new Set() : set.nets;
}

/** Elements that are written, or removed, in one step. */
const IN_STEP = 2048;

function* parts<T>(all: ReadonlySet<T>): Generator<readonly T[]> {
  let part: T[] = [];
  for (const each of all) {
    part.push(each);
    if (part.length < IN_STEP) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}
