/** Settings: the defaults for a node. Upstream: FelixConfiguration's defaults, and `Accept` for pods that call their node, as its manifests set. */
import { type Protocol, TCP, UDP } from "../net/protocol.ts";
import { WORKLOAD_PREFIX } from "./path.ts";
import type { FailsafePort, Settings } from "./program.ts";

/** Upstream: failsafeInboundHostPorts: ssh, DHCP, BGP, etcd, Typha, the API server, and etcd of OpenShift. */
const INBOUND: readonly (readonly [Protocol, number])[] = [
  [TCP, 22],
  [UDP, 68],
  [TCP, 179],
  [TCP, 2379],
  [TCP, 2380],
  [TCP, 5473],
  [TCP, 6443],
  [TCP, 6666],
  [TCP, 6667],
];
/** Upstream: failsafeOutboundHostPorts: DNS, DHCP, and what is above. */
const OUTBOUND: readonly (readonly [Protocol, number])[] = [
  [UDP, 53],
  [UDP, 67],
  [TCP, 179],
  [TCP, 2379],
  [TCP, 2380],
  [TCP, 5473],
  [TCP, 6443],
  [TCP, 6666],
  [TCP, 6667],
];

function ports(list: readonly (readonly [Protocol, number])[]): FailsafePort[] {
  return list.map(([protocol, port]) => ({ protocol, port }));
}

export const DEFAULT_SETTINGS: Settings = {
  failsafes: { ingress: ports(INBOUND), egress: ports(OUTBOUND) },
  endpointToHost: "accept",
  logPrefix: "calico-packet",
  dataplane: "nftables",
  offloadsFlows: false,
  goesPastStack: true,
  workloadPrefixes: [WORKLOAD_PREFIX],
  allowsSourcePrefixes: false,
};
