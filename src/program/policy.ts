/**
 * Policy, rule, clause, atom: the match language of the program. An AND of (negated) ORs of atoms, and nothing else.
 *
 * Every rule points back to what the operator wrote, so that each verdict can say why.
 */
import type { Brand } from "../lib/brand.ts";
import type { Key } from "../model/key.ts";
import type { Action, Direction, RuleWords } from "../model/policy.ts";
import type { Addr, Family } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";

/** Text of the policy's key (`formatKey`). */
export type PolicyId = Brand<string, "PolicyId">;
/** Content-derived, so that equal sets are one set; unique over all types. */
export type SetId = Brand<string, "SetId">;

export type Side = "source" | "destination";

export type Atom =
  | { readonly on: "ip-version"; readonly is: Family }
  | { readonly on: "protocol"; readonly is: Protocol }
  /** Port of that protocol and side in `from`..`to`, inclusive. */
  | {
      readonly on: "ports";
      readonly side: Side;
      readonly protocol: Protocol;
      readonly from: number;
      readonly to: number;
    }
  /** The type of that protocol (ICMP or ICMPv6), and the code unless it is undefined. */
  | { readonly on: "icmp"; readonly protocol: Protocol; readonly type: number; readonly code: number | undefined }
  /** The side's address is in the set, which is of type `address` or `nets`. */
  | { readonly on: "set"; readonly side: Side; readonly set: SetId }
  /** The packet is of the protocol, and the side's address, protocol and port are in the set, which is of type `address-port`. */
  | { readonly on: "named-port"; readonly side: Side; readonly protocol: Protocol; readonly set: SetId };

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
  readonly words?: RuleWords;
}

/** Rule `index` (0-based) of that direction of the written policy. */
export interface RuleId {
  readonly source: Key;
  readonly direction: Direction;
  readonly index: number;
}

/** A policy's rules for each direction; undefined: the policy does not concern that direction. Profiles are policies too. */
export interface Policy {
  readonly source: Key;
  /** Empty for a profile. */
  readonly tier: string;
  readonly ingress: readonly Rule[] | undefined;
  readonly egress: readonly Rule[] | undefined;
  /** Why the policy could not be translated; it then isolates and allows nothing. */
  readonly error: string | undefined;
}

export interface TierBinding {
  readonly tier: string;
  /** In order; a policy is listed only for the directions it has. */
  readonly policies: readonly PolicyId[];
  /** What happens to a packet that none of the policies decided; `pass` continues with the next tier. */
  readonly otherwise: "deny" | "pass";
}

/** What one direction of one hook of one endpoint runs, in order: the tiers, then the profiles, then the end action. */
export interface Stage {
  readonly tiers: readonly TierBinding[];
  /** In order; the first rule that matches decides. */
  readonly profiles: readonly PolicyId[];
  readonly otherwise: "allow" | "deny";
}

/** What a set holds. */
export type SetMembers =
  /**
   * Addresses of endpoints and nets of network sets, which come and go: both are changed in place. An address is in the set if it is one of
   * the hosts or in one of the nets.
   */
  | { readonly type: "address"; readonly hosts: ReadonlySet<Addr>; readonly nets: ReadonlySet<Prefix> }
  /** Nets that a policy lists. They may overlap. A set of this type never changes. */
  | { readonly type: "nets"; readonly nets: ReadonlySet<Prefix> }
  /** Members are `ADDR,PROTOCOL,PORT` as made by `formatAddrPort`. */
  | { readonly type: "address-port"; readonly members: ReadonlySet<AddrPort> };

/** `10.0.0.1,6,80`: address, protocol number, port. */
export type AddrPort = Brand<string, "AddrPort">;

export function formatAddrPort(addr: Addr, protocol: Protocol, port: number): AddrPort {
  return `${addr},${protocol},${port}` as AddrPort;
}
