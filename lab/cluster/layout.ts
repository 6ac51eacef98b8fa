/** layout: a lab's paths, and the names of everything it creates. Two labs differ only in their name. */
import { createHash } from "node:crypto";
import { unwrap } from "../../src/lib/result.ts";
import { addrFromInteger } from "../../src/net/addr.ts";
import { parsePrefix, prefixFamily, prefixRange } from "../../src/net/prefix.ts";

export interface LabConfig {
  readonly name: string;
  readonly nodes: number;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly pools: readonly string[];
  /** Ours, or Kubernetes' own programs from PATH. */
  readonly api: "embedded" | "kubernetes";
  /** The lab has no Kubernetes. */
  readonly datastore?: "etcd";
}

export const STATE_ROOT = "/run/calico-lab";
/** The fabric: one layer-2 network; the API has the first address, node i the address 10 + i. */
export const SUBNET4 = "172.30.0.0/24";
export const SUBNET6 = "fd00:30::/64";
export const API_PORT = 6443;
export const BRIDGE = "fabric";
export const NODE_INTERFACE = "eth0";
export const DEFAULT_POOL4 = "10.65.0.0/16";
export const DEFAULT_POOL6 = "fd00:65::/48";

/** A machine of a lab without Kubernetes, as a hypervisor makes it: a network namespace behind an interface of its host. */
export interface Machine {
  /** `vm1`. */
  readonly name: string;
  readonly netns: string;
  readonly netnsPath: string;
  /** Of the host; within it is `eth0`. */
  readonly interface: string;
  readonly addresses: readonly string[];
}

export interface NodeLayout {
  readonly name: string;
  readonly netns: string;
  readonly netnsPath: string;
  /** Without prefix length. */
  readonly addresses: readonly string[];
  readonly root: string;
  readonly cniBinDir: string;
  readonly cniConfDir: string;
  readonly birdConfiguration: string;
  readonly birdSocket: string;
  /** Where the lab has no Kubernetes. */
  readonly machine: Machine | undefined;
}

export interface Layout {
  readonly config: LabConfig;
  readonly directory: string;
  readonly kubeconfig: string;
  /** As the nodes reach it. */
  readonly nodeKubeconfig: string;
  readonly apiDirectory: string;
  /** Where the nodes reach it: the address, and with the port, as in a URL. */
  readonly apiHost: string;
  readonly apiAddress: string;
  readonly fabricNetns: string;
  readonly podsDirectory: string;
  readonly logs: string;
  readonly pids: string;
  readonly cgroup: string;
  readonly nodes: readonly NodeLayout[];
  /** Addresses of etcd's members; none in a lab of Kubernetes. */
  readonly etcdHosts: readonly string[];
}

export const NAME_PATTERN = /^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$/;

export function labDirectory(name: string): string {
  return `${STATE_ROOT}/${name}`;
}

export function netnsPath(name: string): string {
  return `/run/netns/${name}`;
}

/** The command run in a network namespace. */
export function inNetns(path: string, command: readonly string[]): readonly string[] {
  return ["nsenter", `--net=${path}`, "--", ...command];
}

/** The prefix of every namespace of the lab; `down` removes all that have it. */
export function netnsPrefix(name: string): string {
  return `calico-lab.${name}.`;
}

export function podNetns(config: LabConfig, namespace: string, pod: string, uid: string): string {
  const digest = createHash("sha256").update(`${namespace}/${pod}/${uid}`).digest("hex").slice(0, 16);
  return `${netnsPrefix(config.name)}pod-${digest}`;
}

export function layoutOf(config: LabConfig): Layout {
  const directory = labDirectory(config.name);
  const nodes = Array.from({ length: config.nodes }, (_, i) => nodeLayout(config, directory, i + 1));
  const apiHost = config.ipv4 ? "172.30.0.1" : "fd00:30::1";
  return {
    config,
    directory,
    kubeconfig: `${directory}/kubeconfig`,
    nodeKubeconfig: `${directory}/node-kubeconfig`,
    apiDirectory: `${directory}/api`,
    apiHost,
    apiAddress: `${config.ipv4 ? apiHost : `[${apiHost}]`}:${API_PORT}`,
    fabricNetns: `${netnsPrefix(config.name)}fabric`,
    podsDirectory: `${directory}/pods`,
    logs: `${directory}/logs`,
    pids: `${directory}/pids`,
    cgroup: `calico-lab-${config.name}`,
    nodes,
    etcdHosts:
      config.datastore === undefined ? [] : [1, 2, 3].map((i) => (config.ipv4 ? `172.30.0.${i}` : `fd00:30::${i}`)),
  };
}

function nodeLayout(config: LabConfig, directory: string, number: number): NodeLayout {
  const name = `n${number}`;
  const root = `${directory}/nodes/${name}`;
  const netns = `${netnsPrefix(config.name)}${name}`;
  const addresses = [
    ...(config.ipv4 ? [`172.30.0.${10 + number}`] : []),
    ...(config.ipv6 ? [`fd00:30::${(0x10 + number).toString(16)}`] : []),
  ];
  return {
    name,
    netns,
    netnsPath: netnsPath(netns),
    addresses,
    root,
    cniBinDir: `${root}/opt/cni/bin`,
    cniConfDir: `${root}/etc/cni/net.d`,
    birdConfiguration: `${root}/etc/calico/bird.conf`,
    birdSocket: `${root}/var/run/calico/bird2.ctl`,
    machine: config.datastore === undefined ? undefined : machineOf(config, number),
  };
}

/** Its addresses are in the pools: each the eleventh and following. */
function machineOf(config: LabConfig, number: number): Machine {
  const name = `vm${number}`;
  const netns = `${netnsPrefix(config.name)}${name}`;
  const addresses = config.pools.map((cidr) => {
    const pool = unwrap(parsePrefix(cidr));
    const first = prefixRange(pool).first;
    return addrFromInteger(prefixFamily(pool), first + BigInt(10 + number));
  });
  return { name, netns, netnsPath: netnsPath(netns), interface: "tap0", addresses };
}
