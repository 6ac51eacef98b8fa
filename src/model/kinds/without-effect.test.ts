import { expect, test } from "bun:test";
import type { Kind } from "../kind.ts";
import { FELIX_PROPERTIES } from "./felix-configuration.ts";
import { formatWithoutEffect, settingsWithoutEffect, WITHOUT_EFFECT } from "./without-effect.ts";

const annotated = (name: string, value = "x") => ({
  metadata: { annotations: { [name]: value, "example.org/other": "y" } },
});
const specified = (spec: object) => ({ metadata: {}, spec });

/** For each row of the table an object with the setting, and where possible one that sets it to a value without a warning. */
/** Fields that nodes act on. */
const FELIX_IMPLEMENTED = [
  "nodeSelector",
  "failsafeInboundHostPorts",
  "failsafeOutboundHostPorts",
  "defaultEndpointToHostAction",
  "logPrefix",
  "interfacePrefix",
  "bpfEnabled",
  "bpfRedirectToPeer",
  "nftablesMode",
  "iptablesBackend",
  "nftablesFlowTableOffload",
  "workloadSourceSpoofing",
];

const CASES: readonly (readonly [Kind, string, object, object | undefined])[] = [
  ...(
    [
      ["NetworkPolicy", "types"],
      ["GlobalNetworkPolicy", "types"],
      ["StagedNetworkPolicy", "types"],
      ["StagedGlobalNetworkPolicy", "types"],
      ["StagedKubernetesNetworkPolicy", "policyTypes"],
      ["KubernetesNetworkPolicy", "policyTypes"],
    ] as const
  ).flatMap(([kind, types]) =>
    ["Ingress", "Egress"].map((word) => {
      const rules = { [word.toLowerCase()]: [{}] };
      const other = word === "Ingress" ? "Egress" : "Ingress";
      return [
        kind,
        `spec.${word.toLowerCase()}`,
        specified({ ...rules, [types]: [other] }),
        specified({ ...rules, [other.toLowerCase()]: [], [types]: [word] }),
      ] as const;
    }),
  ),
  ["IPPool", "spec.ipipMode", specified({ ipipMode: "CrossSubnet" }), specified({ ipipMode: "Never" })],
  ["IPPool", "spec.vxlanMode", specified({ vxlanMode: "Always" }), specified({ vxlanMode: "Never" })],
  ["IPPool", "spec.natOutgoing", specified({ natOutgoing: true }), specified({ natOutgoing: false })],
  [
    "IPPool",
    "spec.allowedUses",
    specified({ allowedUses: ["Tunnel"] }),
    specified({ allowedUses: ["Workload", "Tunnel"] }),
  ],
  [
    "IPPool",
    "spec.allowedUses",
    specified({ allowedUses: ["LoadBalancer"] }),
    specified({ allowedUses: ["Workload"] }),
  ],
  [
    "IPAMConfiguration",
    "spec.ipCooldownSeconds",
    specified({ ipCooldownSeconds: 5 }),
    specified({ ipCooldownSeconds: 0 }),
  ],
  [
    "IPAMConfiguration",
    "spec.kubeVirtVMAddressPersistence",
    specified({ kubeVirtVMAddressPersistence: "Enabled" }),
    specified({ kubeVirtVMAddressPersistence: "Disabled" }),
  ],
  ...["loadBalancer", "migration", "namespace", "node", "policy", "serviceAccount", "workloadEndpoint"].map(
    (name) =>
      [
        "KubeControllersConfiguration",
        `spec.controllers.${name}`,
        specified({ controllers: { [name]: {} } }),
        specified({ controllers: {} }),
      ] as const,
  ),
  [
    "KubeControllersConfiguration",
    "spec.debugProfilePort",
    specified({ debugProfilePort: 1 }),
    specified({ debugProfilePort: 0 }),
  ],
  [
    "KubeControllersConfiguration",
    "spec.etcdV3CompactionPeriod",
    specified({ etcdV3CompactionPeriod: "10m" }),
    specified({ healthChecks: "Enabled" }),
  ],
  ["KubeControllersConfiguration", "spec.logSeverityScreen", specified({ logSeverityScreen: "Info" }), specified({})],
  [
    "KubeControllersConfiguration",
    "spec.prometheusMetricsPort",
    specified({ prometheusMetricsPort: 9094 }),
    specified({ prometheusMetricsPort: 0 }),
  ],
  ...(
    [
      ["ipNATs", [{}]],
      ["qosControls", { ingressBandwidth: 1000 }],
    ] as const
  ).map(
    ([name, value]) =>
      [
        "WorkloadEndpoint",
        `spec.${name}`,
        specified({ [name]: value, ipNetworks: ["10.0.0.1"] }),
        specified({ ipNetworks: ["10.0.0.1"] }),
      ] as const,
  ),
  ...[
    "ASNumber",
    "RouteReflectorClusterID",
    "IPv4IPIPTunnelAddr",
    "IPv4VXLANTunnelAddr",
    "IPv6VXLANTunnelAddr",
    "VXLANTunnelMACAddr",
    "VXLANTunnelMACAddrV6",
    "IPv4WireguardInterfaceAddr",
    "IPv6WireguardInterfaceAddr",
    "WireguardPublicKey",
    "WireguardPublicKeyV6",
    "Interfaces",
  ].map(
    (name) =>
      [
        "Node",
        `metadata.annotations[projectcalico.org/${name}]`,
        annotated(`projectcalico.org/${name}`),
        annotated("projectcalico.org/IPv4Address", "10.0.0.1/24"),
      ] as const,
  ),
  [
    "FelixConfiguration",
    "spec.iptablesBackend",
    specified({ iptablesBackend: "NFT", nftablesMode: "Auto" }),
    specified({ iptablesBackend: "NFT", nftablesMode: "Disabled" }),
  ],
  [
    "FelixConfiguration",
    "spec.nftablesFlowTableOffload",
    specified({ nftablesFlowTableOffload: "All", nftablesMode: "Disabled" }),
    specified({ nftablesFlowTableOffload: "All", nftablesMode: "Auto" }),
  ],
  [
    "FelixConfiguration",
    "spec.nftablesFlowTableOffload",
    specified({ nftablesFlowTableOffload: "All", bpfEnabled: true }),
    specified({ nftablesFlowTableOffload: "Disabled", bpfEnabled: true }),
  ],
  ...Object.keys(FELIX_PROPERTIES)
    .filter((name) => !FELIX_IMPLEMENTED.includes(name))
    .map(
      (name) =>
        [
          "FelixConfiguration",
          `spec.${name}`,
          specified({ [name]: "any value", nodeSelector: "all()" }),
          specified({ nodeSelector: "all()" }),
        ] as const,
    ),
];

test.each(CASES)("%s: %s", (kind, field, asking, silent) => {
  const found = settingsWithoutEffect(kind, asking as never);
  expect(found.map((each) => each.field)).toEqual([field]);
  expect(formatWithoutEffect(found[0] as never)).toMatch(/ has no effect: \S/);
  if (silent !== undefined) expect(settingsWithoutEffect(kind, silent as never)).toEqual([]);
});

test("every row of the table has its case, and no case is for another kind", () => {
  const asked = new Set(
    CASES.flatMap(([kind, , asking]) =>
      settingsWithoutEffect(kind, asking as never).map(({ field, instead }) => `${kind} ${field} ${instead}`),
    ),
  );
  const rows = WITHOUT_EFFECT.map(
    (row) =>
      `${row.kind} ${row.spec === undefined ? `metadata.annotations[${row.annotation}]` : `spec.${row.spec.join(".")}`} ${row.instead}`,
  );
  expect([...asked].sort()).toEqual(rows.toSorted());
  expect(settingsWithoutEffect("Namespace", annotated("projectcalico.org/ASNumber"))).toEqual([]);
});

test("upstream's default pool has two of them", () => {
  const pool = specified({
    cidr: "192.168.0.0/16",
    ipipMode: "Always",
    vxlanMode: "Never",
    natOutgoing: true,
    nodeSelector: "all()",
    blockSize: 26,
    allowedUses: ["Workload", "Tunnel"],
    assignmentMode: "Automatic",
    disableBGPExport: false,
  });
  expect(settingsWithoutEffect("IPPool", pool).map(formatWithoutEffect)).toEqual([
    'spec.ipipMode: "Always" has no effect: packets to pods of other nodes are not encapsulated: the network between the nodes must route them, or the nodes share one subnet',
    "spec.natOutgoing: true has no effect: packets that leave the pool keep the pod's address: the network must route it",
  ]);
});
