/** calicoctl samples: an object of each kind that `calicoctl` writes, a change of it, the row that `get -o wide` prints; and garbage. */
export const API = "projectcalico.org/v3";

export interface Sample {
  readonly kind: string;
  readonly word: string;
  /** As kubectl names the resource. */
  readonly resource: string;
  readonly apiVersion?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly spec: object;
  /** A field of the spec and another value for it. */
  readonly change: object;
  /** The row of `-o wide`. */
  readonly wide: string;
}

const RULES = [
  { action: "Allow", protocol: "TCP", source: { selector: "a == 'b'" }, destination: { ports: [80, "90:91"] } },
];
export const SAMPLES: readonly Sample[] = [
  {
    kind: "NetworkPolicy",
    word: "np",
    resource: "networkpolicies.projectcalico.org",
    namespace: "shop",
    spec: { order: 10, selector: "app == 'web'", ingress: RULES },
    change: { order: 1000000 },
    wide: "NAMESPACE   NAME     TIER      ORDER   SELECTOR       |shop        sample   default   10      app == 'web'   ",
  },
  {
    kind: "GlobalNetworkPolicy",
    word: "GNPs",
    resource: "globalnetworkpolicies.projectcalico.org",
    spec: { selector: "all()", egress: [{ action: "Deny" }] },
    change: { order: 7.5 },
    wide: "NAME     TIER      ORDER   SELECTOR   |sample   default   <nil>   all()      ",
  },
  {
    kind: "StagedNetworkPolicy",
    word: "stagedpolicy",
    resource: "stagednetworkpolicies.projectcalico.org",
    namespace: "shop",
    spec: { stagedAction: "Set", selector: "all()" },
    change: { order: 3 },
    wide: "NAMESPACE   NAME     TIER      ORDER   SELECTOR   |shop        sample   default   <nil>   all()      ",
  },
  {
    kind: "StagedGlobalNetworkPolicy",
    word: "sgnp",
    resource: "stagedglobalnetworkpolicies.projectcalico.org",
    spec: { stagedAction: "Delete" },
    change: { stagedAction: "Set" },
    wide: "NAME     TIER      ORDER   SELECTOR   |sample   default   <nil>              ",
  },
  {
    kind: "StagedKubernetesNetworkPolicy",
    word: "sknp",
    resource: "stagedkubernetesnetworkpolicies.projectcalico.org",
    namespace: "shop",
    spec: { podSelector: { matchLabels: { app: "web" } }, ingress: [] },
    change: { stagedAction: "Ignore" },
    wide: "NAMESPACE   NAME     PODSELECTOR   |shop        sample   app=web       ",
  },
  {
    kind: "NetworkPolicy",
    word: "knp",
    resource: "networkpolicies.networking.k8s.io",
    apiVersion: "networking.k8s.io/v1",
    namespace: "shop",
    spec: { podSelector: {}, policyTypes: ["Ingress"] },
    change: { policyTypes: ["Egress"] },
    wide: "NAMESPACE   NAME     PODSELECTOR   |shop        sample                 ",
  },
  {
    kind: "ClusterNetworkPolicy",
    word: "clusternetworkpolicy",
    resource: "clusternetworkpolicies.policy.networking.k8s.io",
    apiVersion: "policy.networking.k8s.io/v1alpha2",
    spec: {
      tier: "Admin",
      priority: 5,
      subject: { namespaces: {} },
      ingress: [{ action: "Deny", from: [{ namespaces: {} }] }],
    },
    change: { priority: 6 },
    wide: "NAME     TIER    PRIORITY   |sample   Admin   5          ",
  },
  {
    kind: "Tier",
    word: "tiers",
    resource: "tiers.projectcalico.org",
    spec: { order: 100 },
    change: { defaultAction: "Pass" },
    wide: "NAME     ORDER   |sample   100     ",
  },
  {
    kind: "NetworkSet",
    word: "netsets",
    resource: "networksets.projectcalico.org",
    namespace: "shop",
    spec: { nets: ["10.0.0.0/8", "fd00::/8"] },
    change: { nets: ["10.1.0.0/16"] },
    wide: "NAMESPACE   NAME     NETS                  |shop        sample   10.0.0.0/8,fd00::/8   ",
  },
  {
    kind: "GlobalNetworkSet",
    word: "gnetsets",
    resource: "globalnetworksets.projectcalico.org",
    spec: { nets: ["10.0.0.0/8"] },
    change: { nets: [] },
    wide: "NAME     NETS         |sample   10.0.0.0/8   ",
  },
  {
    kind: "HostEndpoint",
    word: "hep",
    resource: "hostendpoints.projectcalico.org",
    spec: { node: "n1", interfaceName: "eth0", expectedIPs: ["192.0.2.1", "fd00::1"], profiles: ["p"] },
    change: { interfaceName: "*" },
    wide: "NAME     NODE   INTERFACE   IPS                 PROFILES   |sample   n1     eth0        192.0.2.1,fd00::1   p          ",
  },
  {
    kind: "FelixConfiguration",
    word: "felixconfig",
    resource: "felixconfigurations.projectcalico.org",
    spec: { defaultEndpointToHostAction: "Accept" },
    change: { defaultEndpointToHostAction: "Drop" },
    wide: "NAME     |sample   ",
  },
  {
    kind: "IPPool",
    word: "pool",
    resource: "ippools.projectcalico.org",
    spec: { cidr: "10.65.0.0/16", nodeSelector: "all()", blockSize: 26 },
    change: { disabled: true },
    wide: "NAME     CIDR           NAT     IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE   |sample   10.65.0.0/16   false   Never      Never       false      false              all()      Automatic        ",
  },
  {
    kind: "IPReservation",
    word: "reservation",
    resource: "ipreservations.projectcalico.org",
    spec: { reservedCIDRs: ["10.65.0.0/24"] },
    change: { reservedCIDRs: ["10.65.1.0/24"] },
    wide: "NAME     CIDRS          |sample   10.65.0.0/24   ",
  },
  {
    kind: "IPAMConfiguration",
    word: "ipamconfig",
    resource: "ipamconfigurations.projectcalico.org",
    name: "default",
    spec: { strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 4 },
    change: { maxBlocksPerHost: 5 },
    wide: "NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS   MAXBLOCKSPERHOST   |default   true             true                 4                  ",
  },
  {
    kind: "KubeControllersConfiguration",
    word: "kubecontrollersconfig",
    resource: "kubecontrollersconfigurations.projectcalico.org",
    name: "default",
    spec: { controllers: {} },
    change: { logSeverityScreen: "Debug" },
    wide: "NAME      |default   ",
  },
];

const random = new Uint8Array(4096).map((_, index) => (index * 7919) % 256);

/** Files that hold no valid object. */
export const GARBAGE: readonly (string | Uint8Array)[] = [
  "",
  "\u0000",
  "a: [",
  "{",
  "[]",
  "[1]",
  "null",
  "1",
  "---\n---\n",
  random,
  "a: &a [*a]",
  '{"a": 1, "a": 2}',
  "- - -",
  "{apiVersion: [], kind: {}}",
  `{apiVersion: ${API}, kind: Tier}`,
  `{apiVersion: ${API}, kind: Tier, metadata: [], spec: 1}`,
  `{apiVersion: ${API}, kind: Tier, metadata: {name: {}}, spec: {}}`,
  `{apiVersion: ${API}, kind: TierList, items: 1}`,
  `{apiVersion: ${API}, kind: TierList, items: [null]}`,
  `{apiVersion: ${API}, kind: NetworkPolicy, metadata: {name: a, labels: 1}, spec: {ingress: [null]}}`,
  "{{ template }}",
];
