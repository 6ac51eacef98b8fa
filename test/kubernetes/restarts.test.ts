/** What a node and a cluster go through: every part ended and started again, while pods keep their network and policy its word. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { attachCluster, type Cluster, nodesReady } from "./cluster/cluster.ts";
import { API_ADDRESS, API_PORT, inNetns } from "./cluster/layout.ts";
import { tryRun, waitFor } from "./cluster/run.ts";
import { addressesOf, answers, awaitReady, namespace, pod, type Pod, removeNamespace, urlOf } from "./objects.ts";

const NS = "restarts";
let cluster: Cluster;
let server: Pod;
let client: Pod;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
  await cluster.apply(
    pod({ namespace: NS, name: "server", labels: { app: "server" }, node: "n1" }),
    pod({ namespace: NS, name: "client", node: "n2" }),
  );
  const [first, second] = await awaitReady(cluster, NS, ["server", "client"]);
  if (first === undefined || second === undefined) throw new Error("not both pods are there");
  [server, client] = [first, second];
  await serverAnswers(true);
});

afterAll(async () => {
  await removeNamespace(cluster, NS);
});

async function serverAnswers(expected: boolean): Promise<void> {
  for (const address of addressesOf(server)) {
    await waitFor(
      `the server to be ${expected ? "open" : "closed"} at ${address}`,
      60,
      async () => (await answers(cluster, NS, "client", urlOf(address))) === expected,
    );
  }
}

/** New pods of the node get a network, old ones have kept theirs. */
async function worksAsBefore(name: string, node = "n1"): Promise<void> {
  for (const before of [server, client]) {
    const now = await cluster.get<Pod>(["pod", "-n", NS, before.metadata.name]);
    expect(addressesOf(now)).toEqual(addressesOf(before));
    expect(now.status.containerStatuses?.[0]?.restartCount).toBe(0);
  }
  await serverAnswers(true);
  await cluster.apply(pod({ namespace: NS, name, node }));
  const [made] = await awaitReady(cluster, NS, [name]);
  if (made === undefined) throw new Error(`pod ${name} is not there`);
  for (const address of addressesOf(made))
    await waitFor(`an answer of ${address}`, 20, () => answers(cluster, NS, "client", urlOf(address)));
  await cluster.kubectl(["delete", "pod", "-n", NS, name, "--timeout=60s"]);
}

const closed = {
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { namespace: NS, name: "closed" },
  spec: { podSelector: { matchLabels: { app: "server" } }, policyTypes: ["Ingress"] },
};

describe("ended and started again", () => {
  test("kubelet", async () => {
    await cluster.stopDaemon("n1", "kubelet", "SIGKILL");
    cluster.startDaemon("n1", "kubelet");
    await nodesReady(cluster);
    await worksAsBefore("after-kubelet");
  });

  for (const [node, runtime] of [
    ["n1", "containerd 1"],
    ["n2", "containerd 2"],
  ] as const) {
    test(runtime, async () => {
      await cluster.stopDaemon(node, "containerd", "SIGKILL");
      cluster.startDaemon(node, "containerd");
      await worksAsBefore(`after-containerd-${node}`, node);
    });
  }

  test("calico node, killed", async () => {
    await cluster.stopDaemon("n1", "calico", "SIGKILL");
    for (const address of addressesOf(server)) expect(await answers(cluster, NS, "client", urlOf(address))).toBe(true);
    cluster.startDaemon("n1", "calico");
    await waitFor("calico node to be ready", 60, () => cluster.calicoReady("n1"));
    await worksAsBefore("after-calico");
  });

  test("the API server, while a policy changes", async () => {
    for (const expected of [false, true]) {
      if (expected) await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
      else await cluster.apply(closed);
      await cluster.daemons.stop("kube-apiserver", "SIGKILL");
      cluster.startApiserver();
      await waitFor(
        "the API server to be ready",
        120,
        () => cluster.apiReady(),
        async () => cluster.daemons.tail("kube-apiserver"),
      );
      await serverAnswers(expected);
    }
    await worksAsBefore("after-apiserver");
  });

  test("policy holds while the API server is away", async () => {
    await cluster.apply(closed);
    await serverAnswers(false);
    await cluster.daemons.stop("kube-apiserver", "SIGKILL");
    const [ipv4] = addressesOf(server);
    const tried = await cluster.nodeExec("n2", ["wget", "-q", "-T", "1", "-t", "1", "-O", "-", urlOf(ipv4)]);
    expect(tried.exitCode).not.toBe(0);
    cluster.startApiserver();
    await waitFor("the API server to be ready", 120, () => cluster.apiReady());
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
    await serverAnswers(true);
  });

  test("a token that is replaced, the old one refused", async () => {
    const old = readFileSync(cluster.layout.calicoToken, "utf8");
    // Tokens are bound to the account's uid: they end with it, though the name is the same.
    await cluster.kubectl(["delete", "serviceaccount", "-n", "kube-system", "calico-node"]);
    await cluster.kubectl(["create", "serviceaccount", "-n", "kube-system", "calico-node"]);
    await cluster.rotateToken();
    await waitFor("the old token to be refused", 60, async () => {
      // No other credentials beside the token, which would win over it.
      const { stderr } = await tryRun(
        inNetns(cluster.layout.fabric, [
          "kubectl",
          `--server=https://${API_ADDRESS}:${API_PORT}`,
          `--certificate-authority=${cluster.layout.pki}/ca.crt`,
          `--token=${old}`,
          "--kubeconfig=/dev/null",
          "get",
          "pods",
        ]),
      );
      return stderr.includes("logged in") || stderr.includes("Unauthorized");
    });
    await worksAsBefore("after-token");
    await cluster.apply(closed);
    await serverAnswers(false);
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
    await serverAnswers(true);
    // Written with the new token: the pod's address in its annotation, before the kubelet's word.
    await cluster.apply(pod({ namespace: NS, name: "annotated", node: "n1" }));
    await waitFor(
      "the annotation",
      30,
      async () =>
        (await cluster.get<Pod>(["pod", "-n", NS, "annotated"])).metadata.annotations?.[
          "cni.projectcalico.org/podIPs"
        ] !== undefined,
    );
  });
});
