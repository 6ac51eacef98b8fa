/**
 * layout: names, addresses and folders of one cluster; two clusters at a time share nothing but the cache of programs.
 *
 * Everything of a cluster begins with its id: network namespaces, cgroups, the folder below `/run`.
 */
import { type Dataplane, givenDataplane } from "../../dataplane.ts";

export const STATE_ROOT = "/run/calico-test-kubernetes";
/** Names of namespaces and cgroups begin so. */
export const PREFIX = "calico-kt-";

export const API_ADDRESS = "172.30.0.1";
export const API_ADDRESS6 = "fd00:30::1";
export const API_PORT = 6443;
export const SERVICE_RANGES = ["10.96.0.0/16", "fd00:96::/112"] as const;
export const POOLS = [
  { name: "default-ipv4-ippool", cidr: "10.65.0.0/16" },
  { name: "default-ipv6-ippool", cidr: "fd00:65::/48" },
] as const;

export interface NodeLayout {
  readonly name: string;
  readonly netns: string;
  /** Of the node, IPv4 then IPv6, without prefix length. */
  readonly addresses: readonly [string, string];
  /** Below it lie all files of `calico node` and BIRD. */
  readonly root: string;
  readonly cniBinDir: string;
  readonly cniConfDir: string;
  readonly birdConfiguration: string;
  readonly birdSocket: string;
  /** Odd nodes run containerd 1, even ones containerd 2. */
  readonly containerdMajor: 1 | 2;
  /** The highest that the node's containerd takes. */
  readonly cniVersion: "1.0.0" | "1.1.0";
  readonly containerdRoot: string;
  readonly containerdState: string;
  readonly containerdSocket: string;
  readonly runcRoot: string;
  readonly kubeletRoot: string;
  /** As the kubelet's `cgroupRoot`. */
  readonly cgroupRoot: string;
  readonly healthPort: number;
  readonly dataplane: Dataplane;
}

export interface Layout {
  readonly id: string;
  readonly directory: string;
  readonly pki: string;
  readonly logs: string;
  readonly pids: string;
  readonly fabric: string;
  readonly cgroup: string;
  /** For the whole cluster: what kubectl uses. */
  readonly adminKubeconfig: string;
  /** The least that `calico node` needs. */
  readonly calicoKubeconfig: string;
  readonly calicoToken: string;
  /** Every request of `calico node` and `calico controllers` to the API server, one JSON object a line. */
  readonly auditLog: string;
  /** Address of the cluster's name server, if it has one; containers find it in their resolv.conf. */
  readonly nameServer: string | undefined;
  readonly nodes: readonly NodeLayout[];
}

/** What a cluster may have otherwise. */
export interface Wishes {
  /**
   * Of all nodes. Without it the first node has nftables, the others what `CALICO_TEST_DATAPLANE` says, or iptables: each must work beside
   * the other.
   */
  readonly dataplane?: Dataplane;
  readonly nameServer?: string;
}

const NODES = 2;

export function netnsPath(name: string): string {
  return `/run/netns/${name}`;
}

/** `nsenter`, because `ip netns exec` makes a private mount namespace, where the runtime's pod namespaces are invisible. */
export function inNetns(name: string, command: readonly string[]): readonly string[] {
  return ["nsenter", `--net=${netnsPath(name)}`, "--", ...command];
}

export function layoutOf(id: string, { dataplane, nameServer }: Wishes = {}): Layout {
  const directory = `${STATE_ROOT}/${id}`;
  return {
    id,
    directory,
    pki: `${directory}/pki`,
    logs: `${directory}/logs`,
    pids: `${directory}/pids`,
    fabric: `${id}-fabric`,
    cgroup: id,
    adminKubeconfig: `${directory}/admin.kubeconfig`,
    calicoKubeconfig: `${directory}/calico-node.kubeconfig`,
    calicoToken: `${directory}/calico-node.token`,
    auditLog: `${directory}/logs/audit.jsonl`,
    nameServer,
    nodes: Array.from({ length: NODES }, (_, index) => nodeLayout(id, directory, index + 1, dataplane)),
  };
}

function nodeLayout(id: string, directory: string, number: number, dataplane: Dataplane | undefined): NodeLayout {
  const name = `n${number}`;
  const root = `${directory}/${name}`;
  return {
    name,
    netns: `${id}-${name}`,
    addresses: [`172.30.0.${10 + number}`, `fd00:30::${10 + number}`],
    root,
    cniBinDir: `${root}/opt/cni/bin`,
    cniConfDir: `${root}/etc/cni/net.d`,
    birdConfiguration: `${root}/etc/calico/bird.conf`,
    birdSocket: `${root}/var/run/calico/bird2.ctl`,
    containerdMajor: number % 2 === 1 ? 1 : 2,
    cniVersion: number % 2 === 1 ? "1.0.0" : "1.1.0",
    containerdRoot: `${root}/containerd/root`,
    containerdState: `${root}/containerd/state`,
    containerdSocket: `${root}/containerd/containerd.sock`,
    runcRoot: `${root}/containerd/runc`,
    kubeletRoot: `${root}/kubelet`,
    cgroupRoot: `/${id}/${name}`,
    healthPort: 9099,
    dataplane: dataplane ?? (number === 1 ? "nftables" : (givenDataplane() ?? "iptables-nft")),
  };
}
