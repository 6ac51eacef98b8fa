/**
 * members: the program's sets as IP sets, one for each family, and their members as elements, by their text: `10.0.0.1`, `10.0.0.0/24`,
 * `10.0.0.1,6,80`. What is wanted is the program's own Set, enumerated and asked in place.
 */
import type { IpSetKind } from "../../kernel/ipset/client.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import type { SetId, SetMembers } from "../../program/policy.ts";
import type { MemberChange } from "../../program/program.ts";
import { setName } from "./names.ts";

export interface IpSet {
  readonly set: string;
  readonly is: IpSetKind;
}

export function ipSetsOf(id: SetId, type: SetMembers["type"]): IpSet[] {
  return FAMILIES.map((family) => ({
    set: setName(id, family),
    is: { type: type === "address-port" ? "hash:ip,port" : "hash:net", family },
  }));
}

/** The whole of a family, which the kernel takes in halves only. */
const WHOLE: { readonly [F in Family]: string } = { 4: "0.0.0.0/0", 6: "::/0" };
const HALVES: { readonly [F in Family]: readonly string[] } = {
  4: ["0.0.0.0/1", "128.0.0.0/1"],
  6: ["::/1", "8000::/1"],
};
/** A net of one address is that address. */
const SINGLE: { readonly [F in Family]: string } = { 4: "/32", 6: "/128" };

/** What is wanted in one IP set. It changes as the program does. */
export interface WantedMembers {
  /** One that two members stand for may come twice. */
  elements(): IterableIterator<string>;
  has(element: string): boolean;
}

export function wantedMembers(members: SetMembers, family: Family): WantedMembers {
  const sets: readonly ReadonlySet<string>[] =
    members.type === "address-port"
      ? [members.members]
      : [members.nets, ...(members.type === "address" ? [members.hosts] : [])];
  const has = (member: string): boolean => sets.some((set) => set.has(member));
  return {
    *elements() {
      for (const set of sets) for (const member of set) yield* elementsOf(member, family);
    },
    has: (element) =>
      (element !== WHOLE[family] && has(element)) ||
      (!element.includes("/") && has(`${element}${SINGLE[family]}`)) ||
      (HALVES[family].includes(element) && has(WHOLE[family])),
  };
}

/** None for one of the other family. */
function elementsOf(member: string, family: Family): readonly string[] {
  if (familyOf(member as Addr) !== family) return [];
  if (member === WHOLE[family]) return HALVES[family];
  return [member.endsWith(SINGLE[family]) ? member.slice(0, -SINGLE[family].length) : member];
}

export interface ElementChange {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** The change of one family's IP set; `wanted` is what it is after the change. */
export function changeIn(change: MemberChange, family: Family, wanted: WantedMembers): ElementChange {
  const elements = (members: readonly string[]): string[] => members.flatMap((member) => elementsOf(member, family));
  return {
    added: elements(change.added),
    // What another member stands for too stays.
    removed: elements(change.removed).filter((element) => !wanted.has(element)),
  };
}
