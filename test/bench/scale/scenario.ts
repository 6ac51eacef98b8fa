/**
 * scenario: the cluster of the scale bench as data: so many policies and remote pods, 500 nodes with their blocks, 200 local pods.
 *
 * All names are deterministic. Policy k selects app=a(k mod 1000) in one namespace, where the local pods are, and allows TCP 8080 and
 * 9090 from the pods of one app in all namespaces. So 200 of 1,000 policies, and of their peers' apps, concern this node.
 */
export interface Size {
  /** As options and rows name it. */
  readonly name: string;
  readonly policies: number;
  readonly pods: number;
}

export const SIZES: readonly Size[] = [
  { name: "10/1k", policies: 10, pods: 1_000 },
  { name: "1k/10k", policies: 1_000, pods: 10_000 },
  { name: "2k/20k", policies: 2_000, pods: 20_000 },
  { name: "10k/100k", policies: 10_000, pods: 100_000 },
];

/** Lean: what policy and routes need, 0.8 KB. Fat: a pod as kubelet and controllers leave it, 5.2 KB. */
export type PodWeight = "lean" | "fat";

/** The kinds that the policies are of. */
export type PolicyKinds = "kubernetes" | "calico";

export const REMOTE_NODES = 500;
export const LOCAL_PODS = 200;
export const LOCAL_NODE = "local";
export const LOCAL_NODE_ADDRESS = "172.30.0.2";
/** Of the policies and the local pods. */
export const POLICY_NAMESPACE = "scale";
export const APPS = 1_000;
const NAMESPACES = 100;
const BLOCK_SIZE = 64;
/** 10.64.0.0/10 as an integer; the remote nodes' blocks lie from 10.65.0.0 on, what comes before is left to the local node. */
const POOL_FIRST = 0x0a400000;
const REMOTE_FIRST = 0x0a410000;

export interface Labelled {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The peers' app of policy k. */
export function peerOf(k: number): number {
  return ((k % APPS) * 7 + Math.floor(k / APPS) * 131 + 13) % APPS;
}

/** Apps that some local pod's policy names as peers: pods with these are members of sets on the local node. */
export function activePeers({ policies }: Size): ReadonlySet<number> {
  const found = new Set<number>();
  for (let k = 0; k < policies; k++) if (k % APPS < LOCAL_PODS) found.add(peerOf(k));
  return found;
}

export function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");
}

export function policyOf(k: number): object {
  const app = (index: number): object => ({ matchLabels: { app: `a${index}` } });
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: POLICY_NAMESPACE, name: `policy-${k}`, uid: uidOf(1, k) },
    spec: {
      podSelector: app(k % APPS),
      policyTypes: ["Ingress"],
      ingress: [
        {
          ports: [8080, 9090].map((port) => ({ protocol: "TCP", port })),
          from: [{ namespaceSelector: {}, podSelector: app(peerOf(k)) }],
        },
      ],
    },
  };
}

export function namespacesOf(): readonly object[] {
  return [POLICY_NAMESPACE, ...Array.from({ length: NAMESPACES }, (_, i) => `ns-${i}`)].map((name, i) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, uid: uidOf(2, i), labels: { "kubernetes.io/metadata.name": name, team: `team-${i % 10}` } },
  }));
}

export function serviceAccountsOf(): readonly object[] {
  return [POLICY_NAMESPACE, ...Array.from({ length: NAMESPACES }, (_, i) => `ns-${i}`)].map((namespace, i) => ({
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { namespace, name: "default", uid: uidOf(3, i), labels: { tier: "default" } },
  }));
}

export function nodeName(index: number): string {
  return `remote-${index}`;
}

function nodeObject(name: string, address: string, index: number): object {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name,
      uid: uidOf(4, index),
      labels: { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
      annotations: { "projectcalico.org/IPv4Address": `${address}/16` },
    },
    status: {
      addresses: [
        { type: "InternalIP", address },
        { type: "Hostname", address: name },
      ],
      conditions: [{ type: "Ready", status: "True", lastHeartbeatTime: "2026-01-01T00:00:00Z" }],
    },
  };
}

export function nodesOf(): readonly object[] {
  const remote = Array.from({ length: REMOTE_NODES }, (_, i) =>
    nodeObject(nodeName(i), dotted(0xac1e0000 + 256 + i), i + 1),
  );
  return [nodeObject(LOCAL_NODE, LOCAL_NODE_ADDRESS, 0), ...remote];
}

export function poolOf(): object {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "default-ipv4-ippool", uid: uidOf(5, 0) },
    spec: { cidr: `${dotted(POOL_FIRST)}/10`, blockSize: 26, nodeSelector: "all()" },
  };
}

export function podsPerNode({ pods }: Size): number {
  return Math.ceil(pods / REMOTE_NODES);
}

export function blocksPerNode(size: Size): number {
  return Math.ceil(podsPerNode(size) / BLOCK_SIZE);
}

/** The node that remote pod i runs on. */
export function nodeOfPod(size: Size, i: number): number {
  return Math.floor(i / podsPerNode(size));
}

/** First address of a node's `index`th block. */
export function blockFirst(size: Size, node: number, index: number): number {
  return REMOTE_FIRST + (node * blocksPerNode(size) + index) * BLOCK_SIZE;
}

/** The address that remote pod i has at first. */
export function addressOfPod(size: Size, i: number): number {
  const node = nodeOfPod(size, i);
  return blockFirst(size, node, 0) + (i - node * podsPerNode(size));
}

export function remotePod(i: number): Labelled {
  return {
    namespace: `ns-${i % NAMESPACES}`,
    name: `remote-${i}`,
    labels: { app: `a${i % APPS}`, tier: `t${i % 3}`, env: ["dev", "test", "prod"][Math.floor(i / 7) % 3] ?? "" },
  };
}

export function localPod(i: number): Labelled {
  return {
    namespace: POLICY_NAMESPACE,
    name: `local-${i}`,
    labels: { app: `a${i % APPS}`, tier: `t${i % 3}`, env: "prod", local: "yes" },
  };
}

/** The addresses of a block as the node's pods hold them: `held` maps an address to the pod's index. */
export function blockObject(
  size: Size,
  node: number,
  index: number,
  held: ReadonlyMap<number, number>,
  sequence: number,
): object {
  const first = blockFirst(size, node, index);
  const attributes: object[] = [];
  const allocations: (number | null)[] = [];
  const unallocated: number[] = [];
  const sequences: Record<string, number> = {};
  for (let ordinal = 0; ordinal < BLOCK_SIZE; ordinal++) {
    const pod = held.get(first + ordinal);
    allocations.push(pod === undefined ? null : attributes.length);
    if (pod === undefined) unallocated.push(ordinal);
    else {
      const { namespace, name } = remotePod(pod);
      sequences[ordinal] = sequence;
      const secondary = { namespace, pod: name, node: nodeName(node), timestamp: "2026-01-01 00:00:00 +0000 UTC" };
      attributes.push({ handle_id: `k8s-pod-network.${uidOf(7, pod).replaceAll("-", "")}`, secondary });
    }
  }
  const cidr = `${dotted(first)}/26`;
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMBlock",
    metadata: { name: cidr.replace(/[./]/g, "-"), uid: uidOf(6, (first - REMOTE_FIRST) / BLOCK_SIZE) },
    spec: {
      cidr,
      affinity: `host:${nodeName(node)}`,
      allocations,
      unallocated,
      attributes,
      sequenceNumber: sequence,
      sequenceNumberForAllocation: sequences,
      strictAffinity: false,
      deleted: false,
    },
  };
}

/** A block's place among all. */
export function blockOfAddress(size: Size, address: number): { readonly node: number; readonly index: number } {
  const at = Math.floor((address - REMOTE_FIRST) / BLOCK_SIZE);
  return { node: Math.floor(at / blocksPerNode(size)), index: at % blocksPerNode(size) };
}

/** The addresses of all of a node's blocks. */
export function addressesOfNode(size: Size, node: number): readonly number[] {
  const first = blockFirst(size, node, 0);
  return Array.from({ length: blocksPerNode(size) * BLOCK_SIZE }, (_, i) => first + i);
}

export function uidOf(kind: number, index: number): string {
  return `${kind.toString(16).padStart(8, "0")}-0000-4000-8000-${index.toString(16).padStart(12, "0")}`;
}
