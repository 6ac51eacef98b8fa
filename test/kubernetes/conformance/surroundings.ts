/**
 * surroundings: what Kubernetes' suite wants of a cluster beyond `startCluster`: its images, CoreDNS, and an API server that reaches pods.
 */
import { existsSync } from "node:fs";
import type { SuiteBinaries } from "../build/conformance.ts";
import { type Cluster, importImages } from "../cluster/cluster.ts";
import { type Layout, netnsPath } from "../cluster/layout.ts";
import { ClusterError, tryRun } from "../cluster/run.ts";
import { COREDNS_IMAGE, makeSuiteImages } from "./images.ts";

export const NAME_SERVER = "10.96.0.10";
/** The longest that a run may take: the daemon's token is not replaced meanwhile. */
const TOKEN_SECONDS = 86_400;
/** Of our routes, as the kernel shows it. */
const PROTOCOL = "80";
const POLL_MS = 500;

const COREFILE = `.:53 {
  errors
  health
  ready
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 30
  }
  cache 30
  reload
}
`;

function coredns(): readonly object[] {
  const metadata = { name: "coredns", namespace: "kube-system" };
  const labels = { "k8s-app": "kube-dns" };
  const container = {
    name: "coredns",
    image: COREDNS_IMAGE,
    args: ["-conf", "/etc/coredns/Corefile"],
    volumeMounts: [{ name: "config", mountPath: "/etc/coredns" }],
    readinessProbe: { httpGet: { path: "/ready", port: 8181 }, periodSeconds: 1 },
  };
  const volumes = [{ name: "config", configMap: { name: "coredns" } }];
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "coredns" },
      rules: [
        { apiGroups: [""], resources: ["endpoints", "services", "pods", "namespaces"], verbs: ["list", "watch"] },
        { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "coredns" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "coredns" },
      subjects: [{ kind: "ServiceAccount", ...metadata }],
    },
    { apiVersion: "v1", kind: "ConfigMap", metadata, data: { Corefile: COREFILE } },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        replicas: 2,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: { serviceAccountName: "coredns", dnsPolicy: "Default", containers: [container], volumes },
        },
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "kube-dns", namespace: "kube-system", labels },
      spec: {
        selector: labels,
        clusterIP: NAME_SERVER,
        ports: [
          { name: "dns", port: 53, protocol: "UDP" },
          { name: "dns-tcp", port: 53, protocol: "TCP" },
        ],
      },
    },
  ];
}

/** The blocks of addresses that a node has, which its kernel knows as routes that end there. */
async function blocksOf(netns: string, family: "-4" | "-6"): Promise<readonly string[]> {
  const command = ["ip", family, "-n", netns, "route", "show", "proto", PROTOCOL, "type", "blackhole"];
  const { stdout } = await tryRun(command);
  return [...stdout.matchAll(/^blackhole (\S+\/\S+)/gm)].map(([, block = ""]) => block);
}

/**
 * Routes from the fabric's namespace, where the API server lives, to the pods: through the node that has the block, as a router would learn
 * it. Goes on until the cluster is removed.
 */
async function keepRoutes({ fabric, nodes }: Layout): Promise<void> {
  const known = new Map<string, string>();
  while (existsSync(netnsPath(fabric))) {
    for (const { netns, addresses } of nodes) {
      for (const [family, via] of [["-4", addresses[0]] as const, ["-6", addresses[1]] as const]) {
        for (const block of await blocksOf(netns, family)) {
          if (known.get(block) === via) continue;
          const { exitCode } = await tryRun(["ip", family, "-n", fabric, "route", "replace", block, "via", via]);
          if (exitCode === 0) known.set(block, via);
        }
      }
    }
    await Bun.sleep(POLL_MS);
  }
}

/** Another dataplane stands in for one that cannot run; then a run would tell of the wrong one. */
async function dataplanesRun(cluster: Cluster): Promise<void> {
  for (const { name, dataplane, healthPort } of cluster.layout.nodes) {
    const url = `http://127.0.0.1:${healthPort}/denied`;
    const { stdout } = await cluster.nodeExec(name, ["wget", "-q", "-T", "5", "-t", "1", "-O", "-", url]);
    const answer: unknown = stdout === "" ? undefined : JSON.parse(stdout);
    const runs = typeof answer === "object" && answer !== null && "dataplane" in answer ? answer.dataplane : "nothing";
    if (runs !== dataplane)
      throw new ClusterError(
        `${name} runs ${String(runs)}, not ${dataplane}: ${cluster.daemons.tail(`${name}-calico`)}`,
      );
  }
}

/** After `startCluster` with the name server; resolves when a test of the suite can begin. */
export async function prepareSurroundings(cluster: Cluster, binaries: SuiteBinaries): Promise<void> {
  await dataplanesRun(cluster);
  const archive = await makeSuiteImages(cluster.layout.directory, binaries);
  void keepRoutes(cluster.layout);
  await Promise.all([
    cluster.rotateToken(TOKEN_SECONDS),
    ...cluster.layout.nodes.map((node) => importImages(cluster, node, archive)),
  ]);
  await cluster.apply(...coredns());
  await cluster.kubectl(["rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=120s"]);
}
