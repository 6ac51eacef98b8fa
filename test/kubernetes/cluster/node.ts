/** node: what runs on each node beside the container runtime: kubelet, kube-proxy, BIRD and `calico node`, and the files that they read. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { type Dataplane, dataplaneEnvironment } from "../../dataplane.ts";
import type { Binaries } from "../build/binaries.ts";
import { certificateKubeconfig, issued } from "./certificates.ts";
import { containerdIn, ctrOf } from "./containerd.ts";
import type { DaemonSpec } from "./daemons.ts";
import { inNetns, type Layout, netnsPath, type NodeLayout, POOLS } from "./layout.ts";
import { run } from "./run.ts";

/** The product, as a user installs it. */
export const CALICO = new URL("../../../bin/calico", import.meta.url).pathname;

export function containerd(node: NodeLayout, binaries: Binaries): DaemonSpec {
  return { name: `${node.name}-containerd`, ...containerdIn(node.netns, node.containerdMajor, node, binaries) };
}

/** Asks the node's containerd, with its own client. */
export function ctr(node: NodeLayout, binaries: Binaries, ...args: readonly string[]): readonly string[] {
  return ctrOf(node.containerdMajor, node, binaries, ...args);
}

export function kubelet(layout: Layout, node: NodeLayout, binaries: Binaries): DaemonSpec {
  mkdirSync(`${node.root}/manifests`, { recursive: true });
  const serving = issued(layout, `serving-${node.name}`);
  const path = `${node.root}/kubelet.yaml`;
  const config = {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: "0.0.0.0",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: issued(layout, "ca").certificate },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: serving.certificate,
    tlsPrivateKeyFile: serving.key,
    containerRuntimeEndpoint: `unix://${node.containerdSocket}`,
    staticPodPath: `${node.root}/manifests`,
    podLogsDir: `${node.root}/pod-logs`,
    cgroupDriver: "cgroupfs",
    cgroupRoot: node.cgroupRoot,
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    oomScoreAdj: 0,
    evictionHard: {},
    localStorageCapacityIsolation: false,
    makeIPTablesUtilChains: false,
    resolvConf: "",
    ...(layout.nameServer === undefined ? {} : { clusterDNS: [layout.nameServer], clusterDomain: "cluster.local" }),
    readOnlyPort: 0,
    healthzPort: 0,
    maxPods: 200,
    // rlimit and oom_score_adj need capabilities that a test machine may not give.
    featureGates: { KubeletInUserNamespace: true },
    nodeStatusUpdateFrequency: "2s",
    registryPullQPS: 0,
    imageMinimumGCAge: "24h",
    imageGCHighThresholdPercent: 100,
    shutdownGracePeriod: "0s",
  };
  writeFileSync(path, JSON.stringify(config));
  const kubeconfig = certificateKubeconfig(layout, `kubelet-${node.name}`);
  const options = [
    `--config=${path}`,
    `--kubeconfig=${kubeconfig}`,
    `--root-dir=${node.kubeletRoot}`,
    `--cert-dir=${node.kubeletRoot}/pki`,
    `--hostname-override=${node.name}`,
    `--node-ip=${node.addresses.join(",")}`,
  ];
  return { name: `${node.name}-kubelet`, command: inNetns(node.netns, [binaries.kubelet, ...options]) };
}

export function kubeProxy(
  layout: Layout,
  node: NodeLayout,
  binaries: Binaries,
  mode: "nftables" | "iptables" = "nftables",
): DaemonSpec {
  const path = `${node.root}/kube-proxy.yaml`;
  const config = {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode,
    clientConnection: { kubeconfig: layout.adminKubeconfig },
    hostnameOverride: node.name,
    clusterCIDR: POOLS.map((pool) => pool.cidr).join(","),
    conntrack: { maxPerCore: 0, min: 0 },
  };
  writeFileSync(path, JSON.stringify(config));
  return { name: `${node.name}-kube-proxy`, command: inNetns(node.netns, [binaries.proxy, `--config=${path}`]) };
}

/** The node daemon with the kubeconfig of its own role. */
export function calicoNode(layout: Layout, node: NodeLayout, dataplane: Dataplane = node.dataplane): DaemonSpec {
  return {
    name: `${node.name}-calico`,
    environment: dataplaneEnvironment(dataplane),
    command: inNetns(node.netns, [
      CALICO,
      "node",
      "--node-name",
      node.name,
      "--root",
      node.root,
      "--kubeconfig",
      layout.calicoKubeconfig,
      "--health-port",
      String(node.healthPort),
    ]),
  };
}

export function bird(node: NodeLayout): DaemonSpec {
  return {
    name: `${node.name}-bird`,
    command: inNetns(node.netns, [
      "bird",
      "-f",
      "-c",
      node.birdConfiguration,
      "-s",
      node.birdSocket,
      "-P",
      `${node.root}/var/run/calico/bird.pid`,
    ]),
  };
}

/**
 * Puts plugins and configuration in place, as a user does; a node with containerd 1 has Debian's reference plugins, the others get our
 * `loopback` and a newer `portmap`.
 */
export async function installPlugins(node: NodeLayout, binaries: Binaries): Promise<void> {
  mkdirSync(node.cniBinDir, { recursive: true });
  if (node.containerdMajor === 1) copyFileSync(`${binaries.debian}/usr/lib/cni/loopback`, `${node.cniBinDir}/loopback`);
  const reference = node.containerdMajor === 1 ? `${binaries.debian}/usr/lib/cni` : binaries.plugins;
  await run([
    CALICO,
    "cni",
    "install",
    "--root",
    node.root,
    "--cni-version",
    node.cniVersion,
    "--plugins-from",
    reference,
    "--ipv6",
  ]);
}

/** The answer of `calico node`'s health server. */
export async function calicoReady(node: NodeLayout): Promise<boolean> {
  const child = Bun.spawn(
    [
      "nsenter",
      `--net=${netnsPath(node.netns)}`,
      "--",
      "wget",
      "-q",
      "-T",
      "2",
      "-t",
      "1",
      "-O",
      "/dev/null",
      `http://127.0.0.1:${node.healthPort}/readiness`,
    ],
    { stdout: "ignore", stderr: "ignore" },
  );
  return (await child.exited) === 0;
}
