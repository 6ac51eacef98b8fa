/**
 * PolicyModel: a policy of any kind after conversion, as the calculation consumes it. Converters of Kubernetes' and of Calico's kinds
 * produce it. A policy that could not be converted is still here: it selects what it would have selected and allows nothing
 * (fail closed), with the reason in `error`.
 */
import type { Family } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";
import type { ServiceName } from "./service-name.ts";
import type { Key } from "./key.ts";
import type { Selector } from "./selector/selector.ts";

export type Direction = "ingress" | "egress";

/**
 * Where on a packet's path policy is applied. `normal`: at workload endpoints, and to what host processes send and receive. `forward`: to
 * what a host endpoint's interface forwards. `pre-dnat` (ingress only): before translation. `untracked`: before connection tracking.
 */
export type Hook = "untracked" | "pre-dnat" | "forward" | "normal";

/** `pass` skips the rest of the tier; `log` logs and continues with the next rule. */
export type Action = "allow" | "deny" | "pass" | "log";

export interface PolicyModel {
  /** Of a staged policy its own, not that of the policy in whose place it is evaluated. */
  readonly key: Key;
  readonly tier: string;
  /** Ascending; equal orders are decided by the text `name/namespace/kind`. Infinity: last. */
  readonly order: number;
  /** Which endpoints the policy applies to, namespace included. */
  readonly selects: Selector;
  /** Where its rules apply; workload endpoints have only `normal`. */
  readonly hooks: readonly Hook[];
  readonly ingress: readonly RuleModel[] | undefined;
  readonly egress: readonly RuleModel[] | undefined;
  readonly error: string | undefined;
}

/** What its author called a rule; nothing of it decides. */
export interface RuleWords {
  /** Of a ClusterNetworkPolicy, an AdminNetworkPolicy or a BaselineAdminNetworkPolicy; 100 characters at most. */
  readonly name?: string;
  /** `metadata.annotations` of a rule of Calico's; never empty. */
  readonly annotations?: Readonly<Record<string, string>>;
}

/** One written rule. All given conditions must hold. */
export interface RuleModel {
  readonly action: Action;
  readonly words?: RuleWords | undefined;
  readonly ipVersion?: Family | undefined;
  readonly protocol?: Protocol | undefined;
  readonly notProtocol?: Protocol | undefined;
  readonly icmp?: IcmpModel | undefined;
  /** The packet is of none of these. */
  readonly notIcmp?: readonly IcmpModel[] | undefined;
  readonly source: Entity;
  readonly destination: Entity;
}

/** A type of ICMP or ICMPv6, with every code or with one. */
export interface IcmpModel {
  readonly protocol: Protocol;
  readonly type: number;
  readonly code?: number | undefined;
}

/** One side of a packet. All given conditions must hold. */
export interface Entity {
  /** The address is in each of these. */
  readonly in?: readonly AddressesModel[] | undefined;
  /** The address is in none of these. */
  readonly notIn?: readonly AddressesModel[] | undefined;
  /** The port is one of these; an empty list has none. */
  readonly ports?: readonly PortModel[] | undefined;
  /** The packet's protocol and port are none of these. */
  readonly notPorts?: readonly PortModel[] | undefined;
}

/** The addresses of what the selector selects, those in the nets, and those of the endpoints of the Service: a union. */
export interface AddressesModel {
  readonly selector?: Selector | undefined;
  readonly nets?: readonly Prefix[] | undefined;
  /** `NAMESPACE/NAME`. */
  readonly service?: ServiceName | undefined;
}

export type PortModel =
  /** Every packet of the protocol, whatever its port. */
  | { readonly type: "protocol"; readonly protocol: Protocol }
  /** Inclusive. */
  | { readonly type: "range"; readonly protocol: Protocol; readonly from: number; readonly to: number }
  /** A named port of the endpoints that `holders` selects; each endpoint has its own number for the name. */
  | { readonly type: "named"; readonly protocol: Protocol; readonly name: string; readonly holders: Selector }
  /** A port of an endpoint of the Service, at its address. */
  | { readonly type: "service"; readonly protocol: Protocol; readonly service: ServiceName };
