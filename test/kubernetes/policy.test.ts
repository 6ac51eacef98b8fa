/** Kubernetes NetworkPolicy between pods of real nodes, in both families. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { waitFor } from "./cluster/run.ts";
import { addressesOf, answers, awaitReady, namespace, pod, type Pod, removeNamespace, urlOf } from "./objects.ts";

const NS = "policy";
const OTHER = "policy-other";
let cluster: Cluster;
let server: Pod;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS), namespace(OTHER, { team: "other" }));
  const probe = { httpGet: { path: "/index.html", port: 8080 }, periodSeconds: 1, failureThreshold: 1 };
  await cluster.apply(
    pod({
      namespace: NS,
      name: "server",
      labels: { app: "server" },
      node: "n1",
      container: { readinessProbe: probe, livenessProbe: { ...probe, failureThreshold: 3 } },
    }),
    pod({ namespace: NS, name: "friend", labels: { app: "friend" }, node: "n2" }),
    pod({ namespace: NS, name: "stranger", labels: { app: "stranger" }, node: "n2" }),
    pod({ namespace: NS, name: "neighbour", labels: { app: "stranger" }, node: "n1" }),
    pod({ namespace: OTHER, name: "guest", labels: { app: "guest" }, node: "n2" }),
  );
  const [found] = await awaitReady(cluster, NS, ["server", "friend", "stranger", "neighbour"]);
  await awaitReady(cluster, OTHER, ["guest"]);
  if (found === undefined) throw new Error("the server is not there");
  server = found;
});

afterAll(async () => {
  await Promise.all([NS, OTHER].map((name) => removeNamespace(cluster, name)));
});

function ingress(name: string, rules: readonly object[]): object {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: NS, name },
    spec: { podSelector: { matchLabels: { app: "server" } }, policyTypes: ["Ingress"], ingress: rules },
  };
}

async function becomes(expected: boolean, inNamespace: string, from: string): Promise<void> {
  for (const address of addressesOf(server)) {
    await waitFor(
      `${from} to ${expected ? "reach" : "be kept from"} the server at ${address}`,
      20,
      async () => (await answers(cluster, inNamespace, from, urlOf(address))) === expected,
    );
  }
}

describe("ingress", () => {
  test("without policy everyone reaches the server", async () => {
    for (const from of ["friend", "stranger", "neighbour"]) await becomes(true, NS, from);
    await becomes(true, OTHER, "guest");
  });

  test("a policy without rules keeps everyone out, but not the kubelet of the pod's own node", async () => {
    await cluster.apply(ingress("closed", []));
    for (const from of ["friend", "stranger", "neighbour"]) await becomes(false, NS, from);
    await becomes(false, OTHER, "guest");
    // The probe asks every second and one failure is enough: a later status would say so.
    const fails = async (): Promise<string> =>
      (
        await cluster.kubectl([
          "get",
          "events",
          "-n",
          NS,
          "--field-selector=involvedObject.name=server,reason=Unhealthy",
          "-o",
          "name",
        ])
      ).trim();
    expect(await fails()).toBe("");
    for (const address of addressesOf(server)) {
      const own = await cluster.nodeExec("n1", ["wget", "-q", "-T", "2", "-t", "1", "-O", "-", urlOf(address)]);
      expect(own.stdout).toBe("hello\n");
      const foreign = await cluster.nodeExec("n2", ["wget", "-q", "-T", "1", "-t", "1", "-O", "-", urlOf(address)]);
      expect(foreign.exitCode).not.toBe(0);
    }
  });

  test("rules open for pods by label, by named port and by namespace", async () => {
    await cluster.apply(
      ingress("friends", [
        { from: [{ podSelector: { matchLabels: { app: "friend" } } }], ports: [{ port: "http" }] },
        { from: [{ namespaceSelector: { matchLabels: { team: "other" } } }], ports: [{ port: 8080 }] },
      ]),
    );
    await becomes(true, NS, "friend");
    await becomes(true, OTHER, "guest");
    await becomes(false, NS, "stranger");
    await becomes(false, NS, "neighbour");
  });

  test("a change of a pod's labels moves it in and out", async () => {
    await cluster.kubectl(["label", "pod", "-n", NS, "stranger", "app=friend", "--overwrite"]);
    await becomes(true, NS, "stranger");
    await cluster.kubectl(["label", "pod", "-n", NS, "stranger", "app=stranger", "--overwrite"]);
    await becomes(false, NS, "stranger");
  });

  test("without policies the server is open again", async () => {
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "--all"]);
    for (const from of ["friend", "stranger", "neighbour"]) await becomes(true, NS, from);
  });
});

describe("egress", () => {
  test("a pod that may not speak is not heard, and is heard when it may", async () => {
    const policy = (rules: readonly object[]): object => ({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { namespace: NS, name: "silent" },
      spec: { podSelector: { matchLabels: { app: "friend" } }, policyTypes: ["Egress"], egress: rules },
    });
    await cluster.apply(policy([]));
    await becomes(false, NS, "friend");
    await becomes(true, NS, "stranger");
    await cluster.apply(policy([{ to: [{ podSelector: { matchLabels: { app: "server" } } }] }]));
    await becomes(true, NS, "friend");
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "silent"]);
  });
});
