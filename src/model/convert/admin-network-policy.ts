/** Admin network policy: converts an AdminNetworkPolicy or BaselineAdminNetworkPolicy to what the same ClusterNetworkPolicy is. Rules: docs/semantics.md, POL-55. */
import type { AdminNetworkPolicySpec } from "../kinds/admin-network-policy.ts";
import {
  validateAdminNetworkPolicy,
  validateBaselineAdminNetworkPolicy,
} from "../kinds/validation/admin-network-policy.ts";
import type { PolicyModel } from "../policy.ts";
import { keyOf, type Resource } from "../resource.ts";
import { type ClusterSpec, policyOfClusterSpec } from "./cluster-network-policy.ts";

type Rules = Omit<AdminNetworkPolicySpec, "priority">;
type Ports = NonNullable<Rules["ingress"]>[number]["ports"];
type Protocols = NonNullable<ClusterSpec["ingress"]>[number]["protocols"];

const ACTIONS = { Allow: "Accept", Deny: "Deny", Pass: "Pass" } as const;
const FIELDS = { TCP: "tcp", UDP: "udp", SCTP: "sctp" } as const;

export function policyOfAdminNetworkPolicy(resource: Resource<"AdminNetworkPolicy">): PolicyModel {
  const errors = validateAdminNetworkPolicy(resource);
  const { spec } = resource;
  const written = errors.length === 0 ? rulesOf(spec) : {};
  const common = { tier: "Admin", priority: spec?.priority, subject: spec?.subject } as const;
  return policyOfClusterSpec(keyOf("AdminNetworkPolicy", resource), { ...common, ...written }, errors);
}

export function policyOfBaselineAdminNetworkPolicy(resource: Resource<"BaselineAdminNetworkPolicy">): PolicyModel {
  const errors = validateBaselineAdminNetworkPolicy(resource);
  const { spec } = resource;
  const written = errors.length === 0 ? rulesOf(spec) : {};
  const common = { tier: "Baseline", subject: spec?.subject } as const;
  return policyOfClusterSpec(keyOf("BaselineAdminNetworkPolicy", resource), { ...common, ...written }, errors);
}

function rulesOf({ ingress = [], egress = [] }: Rules): Pick<ClusterSpec, "ingress" | "egress"> {
  return {
    ingress: ingress.map(({ name, action, from, ports }) => ({
      ...nameOf(name),
      action: ACTIONS[action],
      from,
      ...protocolsOf(ports),
    })),
    egress: egress.map(({ name, action, to, ports }) => ({
      ...nameOf(name),
      action: ACTIONS[action],
      to,
      ...protocolsOf(ports),
    })),
  };
}

function nameOf(name: string | undefined): { readonly name?: string } {
  return name === undefined ? {} : { name };
}

/** No ports are every port. */
function protocolsOf(ports: Ports = []): { readonly protocols?: NonNullable<Protocols> } {
  if (ports.length === 0) return {};
  return {
    protocols: ports.map(({ portNumber, portRange, namedPort }) => {
      if (namedPort !== undefined) return { destinationNamedPort: namedPort };
      const destinationPort =
        portRange === undefined
          ? { number: portNumber?.port ?? 0 }
          : { range: { start: portRange.start, end: portRange.end } };
      return { [FIELDS[(portRange ?? portNumber)?.protocol ?? "TCP"]]: { destinationPort } };
    }),
  };
}
