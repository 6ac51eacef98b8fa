/** Cluster network policies: random ClusterNetworkPolicies of policy.networking.k8s.io: every field, valid most of the time. */
import type { ClusterNetworkPolicySpec } from "../../src/model/kinds/cluster-network-policy.ts";
import type { Resource } from "../../src/model/resource.ts";
import { namespaceSelector, randomSelector } from "./policies.ts";
import type { Random } from "./random.ts";

type Egress = NonNullable<ClusterNetworkPolicySpec["egress"]>[number];
type Peer = Egress["to"][number];
type Protocol = NonNullable<Egress["protocols"]>[number];
type LabelSelector = NonNullable<Peer["namespaces"]>;

export function clusterNetworkPolicy(random: Random): Resource<"ClusterNetworkPolicy"> {
  const spec: ClusterNetworkPolicySpec = {
    tier: random.pick(["Admin", "Admin", "Baseline"]),
    priority: random.pick([0, 5, 5, 1000]),
    subject: podsPeer(random),
    ...(random.chance(75) ? { ingress: random.some(0, 4, () => ingressRule(random)) } : {}),
    ...(random.chance(65) ? { egress: random.some(0, 4, () => egressRule(random)) } : {}),
  };
  const wrong = random.below(25);
  return {
    apiVersion: "policy.networking.k8s.io/v1alpha2",
    kind: "ClusterNetworkPolicy",
    metadata: { name: random.pick(["a", "a-b", "b", "z"]) },
    spec:
      wrong === 0
        ? { ...spec, ingress: [{ action: "Accept", from: [] }] }
        : wrong === 1
          ? { ...spec, subject: { namespaces: { matchLabels: { "not a key": "x" } } } }
          : spec,
  };
}

type Ports = NonNullable<NonNullable<Resource<"AdminNetworkPolicy">["spec"]["egress"]>[number]["ports"]>;
type OldRule = NonNullable<Resource<"BaselineAdminNetworkPolicy">["spec"]["egress"]>[number];

export function adminNetworkPolicy(random: Random): Resource<"AdminNetworkPolicy"> {
  const subject = random.below(25) === 0 ? {} : podsPeer(random);
  const spec = {
    priority: random.pick([0, 5, 5, 1000]),
    subject,
    ...oldRules(random, ["Allow", "Allow", "Deny", "Pass"]),
  };
  const metadata = { name: random.pick(["a", "b"]) };
  return { apiVersion: "policy.networking.k8s.io/v1alpha1", kind: "AdminNetworkPolicy", metadata, spec };
}

export function baselineAdminNetworkPolicy(random: Random): Resource<"BaselineAdminNetworkPolicy"> {
  const metadata = { name: random.chance(90) ? "default" : "other" };
  const spec = { subject: podsPeer(random), ...oldRules(random, ["Allow", "Deny"]) };
  return { apiVersion: "policy.networking.k8s.io/v1alpha1", kind: "BaselineAdminNetworkPolicy", metadata, spec };
}

function oldRules<A extends string>(random: Random, actions: readonly A[]) {
  const egress = (): Omit<OldRule, "action"> & { action: A } => {
    const { to } = egressRule(random);
    const mayName = to.every(({ namespaces, pods }) => (namespaces ?? pods) !== undefined);
    return { action: random.pick(actions), to, ...oldPorts(random, mayName) };
  };
  const ingress = () => ({
    action: random.pick(actions),
    from: random.some(1, 3, () => podsPeer(random)),
    ...oldPorts(random, true),
  });
  return {
    ...(random.chance(75) ? { ingress: random.some(0, 3, ingress) } : {}),
    ...(random.chance(65) ? { egress: random.some(0, 3, egress) } : {}),
  };
}

function oldPorts(random: Random, mayName: boolean): { readonly ports?: Ports } {
  if (random.chance(40)) return {};
  return {
    ports: random.some(0, 3, (): Ports[number] => {
      if (mayName && random.chance(30)) return { namedPort: random.pick(["http", "dns", "nobody-has-it"]) };
      const protocol = random.pick(["TCP", "UDP", "SCTP"] as const);
      if (random.chance(60)) return { portNumber: { protocol, port: random.pick([53, 80]) } };
      return {
        portRange: {
          protocol,
          ...random.pick([
            { start: 80, end: 81 },
            { start: 1, end: 65535 },
          ]),
        },
      };
    }),
  };
}

/** The types of generated objects say null nowhere, those of Kubernetes' do. */
function selector(made: unknown): LabelSelector {
  return made as LabelSelector;
}

function podsPeer(random: Random): Pick<Peer, "namespaces" | "pods"> {
  if (random.chance(50)) return { namespaces: selector(namespaceSelector(random)) };
  return {
    pods: {
      ...(random.chance(70) ? { namespaceSelector: selector(namespaceSelector(random)) } : {}),
      podSelector: selector(randomSelector(random)),
    },
  };
}

function action(random: Random): Egress["action"] {
  return random.pick(["Accept", "Accept", "Deny", "Pass"]);
}

function ingressRule(random: Random): NonNullable<ClusterNetworkPolicySpec["ingress"]>[number] {
  const from = random.some(1, 3, () => podsPeer(random));
  return { action: action(random), from, ...protocols(random, true) };
}

const NETWORKS = [
  "10.65.0.0/24",
  "10.65.0.0/28",
  "10.65.0.9/29",
  "0.0.0.0/0",
  "fd00:65::/124",
  "fd00:65::5/128",
  "::/1",
];

function egressRule(random: Random): Egress {
  const to = random.some(1, 3, (): Peer => {
    switch (random.below(8)) {
      case 0:
      case 1:
        return { networks: random.shuffle(NETWORKS).slice(0, 1 + random.below(2)) };
      case 2:
        return random.pick([{ nodes: { matchLabels: { zone: "a" } } }, { domainNames: ["example.com"] }]);
      default:
        return podsPeer(random);
    }
  });
  const mayName = to.every(({ namespaces, pods }) => (namespaces ?? pods) !== undefined);
  return { action: action(random), to, ...protocols(random, mayName) };
}

function protocols(random: Random, mayName: boolean): { readonly protocols?: Protocol[] } {
  if (random.chance(40)) return {};
  const port = random.pick([
    { number: 80 },
    { number: 53 },
    { range: { start: 80, end: 81 } },
    { range: { start: 1, end: 65535 } },
  ]);
  const of = (): Protocol => {
    if (mayName && random.chance(30)) return { destinationNamedPort: random.pick(["http", "dns", "nobody-has-it"]) };
    return { [random.pick(["tcp", "udp", "sctp"])]: { destinationPort: port } };
  };
  return { protocols: random.some(1, 3, of) };
}
