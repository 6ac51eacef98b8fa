/**
 * Policy, rule, clause, atom: the match language of the program. An AND of (negated) ORs of atoms, and nothing else.
 *
 * Every rule points back to what the operator wrote, so that each verdict can say why.
 */
import type { Brand } from "../lib/brand.ts";
import type { Key } from "../model/key.ts";
import type { Direction } from "../model/policy.ts";
import type { Addr } from "../net/addr.ts";
import type { Protocol } from "../net/protocol.ts";

/** Text of the policy's key (`formatKey`). */
export type PolicyId = Brand<string, "PolicyId">;
/** Content-derived, so that equal sets are one set; unique over all types. */
export type SetId = Brand<string, "SetId">;

export type Side = "source" | "destination";
export type Action = "allow" | "deny";

export type Atom =
  | { readonly on: "protocol"; readonly is: Protocol }
  /** Port of that protocol and side in `from`..`to`, inclusive. */
  | {
      readonly on: "ports";
      readonly side: Side;
      readonly protocol: Protocol;
      readonly from: number;
      readonly to: number;
    }
  /** Membership of the side's address, or of address, protocol and port, by the set's type. */
  | { readonly on: "set"; readonly side: Side; readonly set: SetId };

/** True when any atom holds or, negated, when none does. An empty `any` is never true (negated: always). */
export interface Clause {
  readonly not: boolean;
  readonly any: readonly Atom[];
}

/** All clauses must hold; no clauses match every packet. */
export interface Rule {
  readonly id: RuleId;
  readonly when: readonly Clause[];
  readonly action: Action;
}

/** Rule `index` (0-based) of that direction of the written policy. */
export interface RuleId {
  readonly source: Key;
  readonly direction: Direction;
  readonly index: number;
}

/** A policy's rules for each direction; undefined: the policy does not concern that direction. */
export interface Policy {
  readonly source: Key;
  readonly ingress: readonly Rule[] | undefined;
  readonly egress: readonly Rule[] | undefined;
  /** Why the policy could not be translated; it then isolates and allows nothing. */
  readonly error: string | undefined;
}

export interface TierBinding {
  readonly tier: string;
  /** In order; a policy is listed only for the directions it has. */
  readonly policies: readonly PolicyId[];
  /** What happens to a packet that none of the policies decided. */
  readonly otherwise: "deny" | "pass";
}

/** What one direction of one endpoint runs, in order: the tiers, then the end. No tiers: not isolated. */
export interface Stage {
  readonly tiers: readonly TierBinding[];
  readonly otherwise: "allow" | "deny";
}

/** What a set holds. Ranges cover prefixes too: `first-last`, inclusive, sorted and disjoint within a family. */
export type SetMembers =
  | { readonly type: "address"; readonly members: ReadonlySet<Addr> }
  | { readonly type: "ranges"; readonly ranges: readonly { readonly first: Addr; readonly last: Addr }[] }
  /** Members are `ADDR,PROTOCOL,PORT` as made by `formatAddrPort`. */
  | { readonly type: "address-port"; readonly members: ReadonlySet<AddrPort> };

/** `10.0.0.1,6,80`: address, protocol number, port. */
export type AddrPort = Brand<string, "AddrPort">;

export function formatAddrPort(addr: Addr, protocol: Protocol, port: number): AddrPort {
  return `${addr},${protocol},${port}` as AddrPort;
}
