/** Services through kube-proxy beside our tables: policy sees pods, never the service's address. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { kubeProxy } from "./cluster/node.ts";
import { run, waitFor } from "./cluster/run.ts";
import { inNetns } from "./cluster/layout.ts";
import { answers, awaitReady, namespace, pod, removeNamespace, urlOf } from "./objects.ts";

const NS = "services";
let cluster: Cluster;
let addresses: readonly string[];

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
  await cluster.apply(
    { apiVersion: "v1", kind: "Service", metadata: { namespace: NS, name: "web" }, spec: { selector: { app: "web" }, ipFamilyPolicy: "RequireDualStack", ports: [{ port: 80, targetPort: "http" }] } },
    pod({ namespace: NS, name: "web", labels: { app: "web" }, node: "n1" }),
    pod({ namespace: NS, name: "far", labels: { app: "far" }, node: "n2" }),
    pod({ namespace: NS, name: "near", labels: { app: "near" }, node: "n1" }),
  );
  await awaitReady(cluster, NS, ["web", "far", "near"]);
  addresses = (await cluster.get<{ spec: { clusterIPs: readonly string[] } }>(["service", "-n", NS, "web"])).spec.clusterIPs;
});

afterAll(async () => {
  await removeNamespace(cluster, NS);
});

async function becomes(expected: boolean, from: string): Promise<void> {
  for (const address of addresses) {
    await waitFor(`${from} to ${expected ? "reach" : "be kept from"} the service at ${address}`, 30, async () => (await answers(cluster, NS, from, urlOf(address, 80))) === expected);
  }
}

async function checkPolicy(): Promise<void> {
  await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "--all"]);
  for (const from of ["far", "near"]) await becomes(true, from);
  // Ingress by the client's own labels and the pod's own port; egress by the server's: neither holds for a translated address.
  await cluster.apply({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace: NS, name: "web" }, spec: { podSelector: { matchLabels: { app: "web" } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: "far" } } }], ports: [{ port: 8080 }] }] } });
  await becomes(true, "far");
  await becomes(false, "near");
  await cluster.apply({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace: NS, name: "far" }, spec: { podSelector: { matchLabels: { app: "far" } }, policyTypes: ["Egress"], egress: [{ to: [{ podSelector: { matchLabels: { app: "web" } } }], ports: [{ port: 8080 }] }] } });
  await becomes(true, "far");
  await cluster.apply({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace: NS, name: "far" }, spec: { podSelector: { matchLabels: { app: "far" } }, policyTypes: ["Egress"], egress: [{ to: [{ podSelector: { matchLabels: { app: "web" } } }], ports: [{ port: 80 }] }] } });
  await becomes(false, "far");
}

async function startProxies(mode: "nftables" | "iptables"): Promise<void> {
  for (const node of cluster.layout.nodes) {
    await cluster.stopDaemon(node.name, "kube-proxy");
    await run(inNetns(node.netns, [cluster.binaries.proxy, "--cleanup"]));
    cluster.daemons.start(kubeProxy(cluster.layout, node, cluster.binaries, mode));
  }
}

describe("ClusterIP", () => {
  test("has an address of each family", () => {
    expect(addresses.length).toBe(2);
  });

  test("with kube-proxy in nftables mode policy sees address and port of the pod", async () => {
    await checkPolicy();
  });

  test("our tables may come after kube-proxy's", async () => {
    for (const { name } of cluster.layout.nodes) await cluster.stopDaemon(name, "calico");
    for (const { name, netns } of cluster.layout.nodes) {
      const tables = (await run(inNetns(netns, ["nft", "list", "tables"]))).split("\n").filter((line) => line.includes("calico"));
      expect(tables.length).toBeGreaterThan(0);
      for (const table of tables) await run(inNetns(netns, ["nft", "delete", ...table.split(" ")]));
      cluster.startDaemon(name, "calico");
    }
    for (const { name } of cluster.layout.nodes) await waitFor(`calico node of ${name}`, 30, () => cluster.calicoReady(name));
    await checkPolicy();
  });

  test("with kube-proxy in iptables mode as well", async () => {
    await startProxies("iptables");
    await checkPolicy();
    await startProxies("nftables");
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "--all"]);
    for (const from of ["far", "near"]) await becomes(true, from);
  });
});
