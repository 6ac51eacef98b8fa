/**
 * Program: everything this node's kernel should be doing, as plain data in a few keyed tables. The waist of the product:
 * all that decides is left of it and pure, all that acts is right of it and dumb.
 *
 * Invariants: every id named is present; a set exists exactly while a rule names it; v4 and v6 live in the same tables.
 */
import type { Brand } from "../lib/brand.ts";
import type { Key } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Policy, PolicyId, SetId, SetMembers, Stage } from "./policy.ts";

/** The host-side interface name of the endpoint, `cali…`: unique on a node. */
export type EndpointId = Brand<string, "EndpointId">;
/** The destination prefix of the route: this product has one route per destination. */
export type RouteId = Prefix;

/** A local workload endpoint: where its traffic enters and leaves, and what each direction runs. */
export interface Endpoint {
  readonly source: Key<"Pod">;
  /** The only source addresses accepted from it, and the only destinations delivered to it. */
  readonly addresses: readonly Addr[];
  /** Traffic towards the endpoint. */
  readonly ingress: Stage;
  /** Traffic from the endpoint. */
  readonly egress: Stage;
}

export type Route =
  /** One address of a local endpoint, on link. */
  | { readonly type: "local"; readonly interface: string }
  /** A block of this node: whatever has no more specific route does not exist. */
  | { readonly type: "blackhole" };

export interface Program {
  readonly sets: ReadonlyMap<SetId, SetMembers>;
  readonly policies: ReadonlyMap<PolicyId, Policy>;
  readonly endpoints: ReadonlyMap<EndpointId, Endpoint>;
  readonly routes: ReadonlyMap<RouteId, Route>;
}

/** What became of each key that changed; undefined means gone. */
export type Delta<K, V> = ReadonlyMap<K, V | undefined>;

/** Changed rows by table. For a changed set the whole new value is given together with the members that came and went. */
export interface ProgramDelta {
  readonly sets: Delta<SetId, SetMembers>;
  readonly policies: Delta<PolicyId, Policy>;
  readonly endpoints: Delta<EndpointId, Endpoint>;
  readonly routes: Delta<RouteId, Route>;
  /** For sets of `sets` that existed before and keep their type: the change, so that work stays proportional to it. */
  readonly members: ReadonlyMap<SetId, MemberChange>;
}

/** Members by their text (address, or address-port). */
export interface MemberChange {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}
