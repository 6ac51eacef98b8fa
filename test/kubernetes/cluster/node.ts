/** node: what runs on each node: containerd, kubelet, kube-proxy, BIRD and `calico node`, and the files that they read. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import type { Binaries } from "../build/binaries.ts";
import { certificateKubeconfig, issued } from "./certificates.ts";
import type { DaemonSpec } from "./daemons.ts";
import { PAUSE_IMAGE } from "./image.ts";
import { inNetns, type Layout, netnsPath, type NodeLayout, POOLS } from "./layout.ts";
import { run } from "./run.ts";

/** The product, as a user installs it. */
export const CALICO = new URL("../../../bin/calico", import.meta.url).pathname;

function runtimePath(binaries: Binaries): Readonly<Record<string, string>> {
  return { PATH: `${binaries.debian}/usr/bin:${process.env["PATH"] ?? ""}` };
}

export function containerd(node: NodeLayout, binaries: Binaries): DaemonSpec {
  mkdirSync(node.containerdState, { recursive: true });
  const config = `${node.root}/containerd/config.toml`;
  const quote = JSON.stringify;
  writeFileSync(
    config,
    [
      "version = 2",
      `root = ${quote(node.containerdRoot)}`,
      `state = ${quote(node.containerdState)}`,
      'disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]',
      "[grpc]",
      `address = ${quote(node.containerdSocket)}`,
      "[ttrpc]",
      `address = ${quote(`${node.containerdSocket}.ttrpc`)}`,
      '[plugins."io.containerd.grpc.v1.cri"]',
      `sandbox_image = ${quote(PAUSE_IMAGE)}`,
      // Without CAP_SYS_RESOURCE a container cannot have a lower score than the runtime.
      "restrict_oom_score_adj = true",
      "disable_apparmor = true",
      // Below the cluster's folder, so that nothing of it lies elsewhere.
      "netns_mounts_under_state_dir = true",
      '[plugins."io.containerd.grpc.v1.cri".cni]',
      `bin_dir = ${quote(node.cniBinDir)}`,
      `conf_dir = ${quote(node.cniConfDir)}`,
      '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]',
      'runtime_type = "io.containerd.runc.v2"',
      '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]',
      `BinaryName = ${quote(`${binaries.debian}/usr/bin/runc`)}`,
      "SystemdCgroup = false",
      "",
    ].join("\n"),
  );
  return { name: `${node.name}-containerd`, command: inNetns(node.netns, [`${binaries.debian}/usr/bin/containerd`, "-c", config]), environment: runtimePath(binaries) };
}

/** Asks containerd, with its own client. */
export function ctr(node: NodeLayout, binaries: Binaries, ...args: readonly string[]): readonly string[] {
  return [`${binaries.debian}/usr/bin/ctr`, "-a", node.containerdSocket, "-n", "k8s.io", ...args];
}

export function kubelet(layout: Layout, node: NodeLayout, binaries: Binaries): DaemonSpec {
  mkdirSync(`${node.root}/manifests`, { recursive: true });
  const serving = issued(layout, `serving-${node.name}`);
  const path = `${node.root}/kubelet.yaml`;
  const config = {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: "0.0.0.0",
    authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: issued(layout, "ca").certificate } },
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
  const options = [`--config=${path}`, `--kubeconfig=${kubeconfig}`, `--root-dir=${node.kubeletRoot}`, `--cert-dir=${node.kubeletRoot}/pki`, `--hostname-override=${node.name}`, `--node-ip=${node.addresses.join(",")}`];
  return { name: `${node.name}-kubelet`, command: inNetns(node.netns, [binaries.kubelet, ...options]) };
}

export function kubeProxy(layout: Layout, node: NodeLayout, binaries: Binaries, mode: "nftables" | "iptables" = "nftables"): DaemonSpec {
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
export function calicoNode(layout: Layout, node: NodeLayout): DaemonSpec {
  return { name: `${node.name}-calico`, command: inNetns(node.netns, [CALICO, "node", "--node-name", node.name, "--root", node.root, "--kubeconfig", layout.calicoKubeconfig, "--health-port", String(node.healthPort)]) };
}

export function bird(node: NodeLayout): DaemonSpec {
  return { name: `${node.name}-bird`, command: inNetns(node.netns, ["bird", "-f", "-c", node.birdConfiguration, "-s", node.birdSocket, "-P", `${node.root}/var/run/calico/bird.pid`]) };
}

/** Puts plugins and configuration in place, as a user does; `loopback`, which containerd calls for every pod, comes with a node. */
export async function installPlugins(node: NodeLayout, binaries: Binaries): Promise<void> {
  mkdirSync(node.cniBinDir, { recursive: true });
  copyFileSync(`${binaries.debian}/usr/lib/cni/loopback`, `${node.cniBinDir}/loopback`);
  await run([CALICO, "cni", "install", "--root", node.root, "--bin-dir", node.cniBinDir, "--conf-dir", node.cniConfDir, "--ipv6"]);
}

/** The answer of `calico node`'s health server. */
export async function calicoReady(node: NodeLayout): Promise<boolean> {
  const child = Bun.spawn(["nsenter", `--net=${netnsPath(node.netns)}`, "--", "wget", "-q", "-T", "2", "-t", "1", "-O", "/dev/null", `http://127.0.0.1:${node.healthPort}/readiness`], { stdout: "ignore", stderr: "ignore" });
  return (await child.exited) === 0;
}
