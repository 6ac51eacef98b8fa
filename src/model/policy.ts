/**
 * PolicyModel: a policy of any kind after conversion, as the calculation consumes it. Kubernetes NetworkPolicy becomes one of
 * tier `default`. A policy that could not be converted is still here: it selects what it would have selected and allows nothing
 * (fail closed), with the reason in `error`.
 */
import type { AddrRange } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";
import type { Key } from "./key.ts";
import type { Selector } from "./selector/selector.ts";

export type Direction = "ingress" | "egress";

export interface PolicyModel {
  readonly key: Key;
  readonly tier: string;
  /** Ascending; equal orders are decided by `name/namespace/kind` (calico-parity trap 8). */
  readonly order: number;
  /** Which endpoints the policy applies to, namespace included. */
  readonly selects: Selector;
  readonly ingress: readonly RuleModel[] | undefined;
  readonly egress: readonly RuleModel[] | undefined;
  readonly error: string | undefined;
}

/** One written rule: any peer AND any port. An undefined list means "any"; an empty list matches nothing. */
export interface RuleModel {
  readonly action: "allow" | "deny";
  readonly peers: readonly PeerModel[] | undefined;
  readonly ports: readonly PortModel[] | undefined;
}

export type PeerModel =
  | { readonly type: "selector"; readonly selector: Selector }
  /** Addresses of a block less its own exceptions, already computed. */
  | { readonly type: "ranges"; readonly ranges: readonly AddrRange[] };

export type PortModel =
  | { readonly type: "protocol"; readonly protocol: Protocol }
  /** Destination ports, inclusive. */
  | { readonly type: "range"; readonly protocol: Protocol; readonly from: number; readonly to: number }
  /** A port name, resolved at the destination pod, each pod its own number. */
  | { readonly type: "named"; readonly protocol: Protocol; readonly name: string };
