/** `calico controllers` with its own role on a real API server: conditions of every kind of policy, and kubectl that waits for them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { writeKubeconfig } from "./cluster/certificates.ts";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { inNetns } from "./cluster/layout.ts";
import { CALICO } from "./cluster/node.ts";
import { waitFor } from "./cluster/run.ts";
import { awaitReady, namespace, pod, removeNamespace } from "./objects.ts";

const NAME = "calico-controllers";
const NS = "status";
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  const { layout } = cluster;
  const token = await cluster.kubectl(["create", "token", NAME, "-n", "kube-system"]);
  const kubeconfig = `${layout.directory}/${NAME}.kubeconfig`;
  writeFileSync(`${layout.directory}/${NAME}.token`, token.trim(), { mode: 0o600 });
  writeKubeconfig(layout, kubeconfig, { tokenFile: `${layout.directory}/${NAME}.token` });
  cluster.daemons.start({
    name: NAME,
    command: inNetns(layout.fabric, [CALICO, "controllers", "--kubeconfig", kubeconfig]),
  });
  await cluster.apply(
    namespace(NS),
    ...["n1", "n2"].map((node) => pod({ namespace: NS, name: `web-${node}`, labels: { app: "web" }, node })),
  );
  await awaitReady(cluster, NS, ["web-n1", "web-n2"]);
});

afterAll(async () => {
  await cluster.daemons.stop(NAME, "SIGTERM");
  const wide = "globalnetworkpolicies,stagedglobalnetworkpolicies,clusternetworkpolicies,adminnetworkpolicies";
  await cluster.kubectl(["delete", wide, NS]);
  await cluster.kubectl(["delete", "baselineadminnetworkpolicies", "default"]);
  await removeNamespace(cluster, NS);
});

const SUBJECT = { namespaces: { matchLabels: { "kubernetes.io/metadata.name": NS } } };
const SPEC = { selector: "app == 'web'", types: ["Ingress"], ingress: [{ action: "Allow" }] };
const KINDS = [
  ["networkpolicies.projectcalico.org", "NetworkPolicy", SPEC],
  ["globalnetworkpolicies", "GlobalNetworkPolicy", SPEC],
  ["stagednetworkpolicies", "StagedNetworkPolicy", SPEC],
  ["stagedglobalnetworkpolicies", "StagedGlobalNetworkPolicy", SPEC],
  ["stagedkubernetesnetworkpolicies", "StagedKubernetesNetworkPolicy", { podSelector: {}, policyTypes: ["Ingress"] }],
  [
    "clusternetworkpolicies",
    "ClusterNetworkPolicy",
    {
      tier: "Baseline",
      priority: 10,
      subject: SUBJECT,
      ingress: [{ action: "Accept", from: [{ namespaces: {} }] }],
    },
  ],
  [
    "adminnetworkpolicies",
    "AdminNetworkPolicy",
    { priority: 10, subject: SUBJECT, ingress: [{ action: "Allow", from: [{ namespaces: {} }] }] },
  ],
  [
    "baselineadminnetworkpolicies",
    "BaselineAdminNetworkPolicy",
    { subject: SUBJECT, ingress: [{ action: "Allow", from: [{ namespaces: {} }] }] },
  ],
] as const;

const GROUPS: Readonly<Record<string, string>> = {
  ClusterNetworkPolicy: "policy.networking.k8s.io/v1alpha2",
  AdminNetworkPolicy: "policy.networking.k8s.io/v1alpha1",
  BaselineAdminNetworkPolicy: "policy.networking.k8s.io/v1alpha1",
};

interface Policy {
  readonly metadata: { readonly generation: number };
  readonly status: {
    readonly conditions: readonly {
      readonly type: string;
      readonly message: string;
      readonly observedGeneration: number;
    }[];
  };
}

test.each(KINDS)("%s: kubectl waits for its conditions", async (resource, kind, spec) => {
  const apiVersion = GROUPS[kind] ?? "projectcalico.org/v3";
  const isClusterWide = kind in GROUPS || kind.includes("Global");
  // Of the baseline there is one.
  const name = kind === "BaselineAdminNetworkPolicy" ? "default" : NS;
  const metadata = isClusterWide ? { name } : { name, namespace: NS };
  await cluster.apply({ apiVersion, kind, metadata, spec });
  const types = kind.startsWith("Staged") ? ["Accepted"] : ["Accepted", "Programmed"];
  for (const type of types)
    await cluster.kubectl(["wait", "-n", NS, `--for=condition=${type}`, "--timeout=60s", `${resource}/${name}`]);
  const { metadata: stored, status } = await cluster.get<Policy>(["-n", NS, `${resource}/${name}`]);
  expect(status.conditions.map(({ type, observedGeneration }) => [type, observedGeneration])).toEqual(
    types.map((type) => [type, stored.generation]),
  );
  if (types.length > 1) expect(status.conditions[1]?.message).toBe("programmed on 2 of 2 nodes");
});

test("a change is programmed at its own generation", async () => {
  const [resource] = KINDS[0];
  await cluster.kubectl(["patch", "-n", NS, resource, NS, "--type=merge", "-p", '{"spec":{"order":7}}']);
  await cluster.kubectl(["wait", "-n", NS, "--for=condition=Programmed", "--timeout=60s", `${resource}/${NS}`]);
  const { metadata, status } = await cluster.get<Policy>(["-n", NS, `${resource}/${NS}`]);
  expect(status.conditions.map(({ observedGeneration }) => observedGeneration)).toEqual([2, 2]);
  expect(metadata.generation).toBe(2);
});

test("the status of a node goes with its Node", async () => {
  const node = "status-gone";
  await cluster.kubectl(
    ["create", "-f", "-"],
    JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: node } }),
  );
  const { metadata } = await cluster.get<{ metadata: { uid: string } }>(["node", node]);
  const { metadata: own } = await cluster.get<{ metadata: { ownerReferences: readonly { uid: string }[] } }>([
    "nodepolicystatus",
    "n1",
  ]);
  const { metadata: n1 } = await cluster.get<{ metadata: { uid: string } }>(["node", "n1"]);
  expect(own.ownerReferences[0]?.uid).toBe(n1.uid);
  await cluster.apply({
    apiVersion: "projectcalico.org/v3",
    kind: "NodePolicyStatus",
    metadata: { name: node, ownerReferences: [{ apiVersion: "v1", kind: "Node", name: node, uid: metadata.uid }] },
    spec: {},
  });
  await cluster.kubectl(["delete", "node", node]);
  await waitFor(
    "the garbage collector to delete the status",
    60,
    async () => (await cluster.tryKubectl(["get", "nodepolicystatus", node])).exitCode !== 0,
  );
});
