/**
 * A node that boots: pods that start before, while and after the node daemon does receive and send nothing that policy denies.
 *
 * The kernel of each pod counts every datagram that reached it since its network namespace was made.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { waitFor } from "./cluster/run.ts";
import { NONE, received, speaking, startSender } from "./datagrams.ts";
import { addressesOf, awaitReady, isReady, namespace, pod, type Pod, removeNamespace } from "./objects.ts";
import { powerOff } from "./power.ts";

const NS = "boot";
const CLOSED = ["10.65.200.5", "fd00:65::200:5"] as const;
const OPEN = ["10.65.200.6", "fd00:65::200:6"] as const;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
  await cluster.apply({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: NS, name: "closed" },
    spec: { podSelector: { matchLabels: { app: "closed" } }, policyTypes: ["Ingress", "Egress"] },
  });
});

afterAll(async () => {
  if (cluster.daemons.pid("n1-calico") === undefined) cluster.startDaemon("n1", "calico");
  await removeNamespace(cluster, NS);
});

function fixedPod(name: string, addresses: readonly string[], command?: readonly string[]): object {
  return pod({
    namespace: NS,
    name,
    labels: { app: name },
    addresses,
    node: "n1",
    ...(command === undefined ? {} : { command }),
  });
}

async function events(name: string): Promise<string> {
  return await cluster.kubectl([
    "get",
    "events",
    "-n",
    NS,
    `--field-selector=involvedObject.name=${name},reason=FailedCreatePodSandBox`,
    "-o",
    "jsonpath={.items[*].message}",
  ]);
}

describe("while calico node is down", () => {
  test("a new pod does not start, and its Event has our reason", async () => {
    await cluster.stopDaemon("n1", "calico", "SIGKILL");
    await cluster.apply(pod({ namespace: NS, name: "waits", node: "n1" }));
    await waitFor(
      "the Event",
      60,
      async () => (await events("waits")).includes("cannot reach calico node"),
      () => events("waits"),
    );
    expect(await events("waits")).toContain("is it running on this node?");
    expect(isReady(await cluster.get<Pod>(["pod", "-n", NS, "waits"]))).toBe(false);
  });

  test("it becomes Ready once calico node runs", async () => {
    cluster.startDaemon("n1", "calico");
    await awaitReady(cluster, NS, ["waits"], 120);
  });
});

describe("closed from birth", () => {
  test("not one datagram reaches or leaves a pod that policy closes, from before its ADD and through a boot", async () => {
    await cluster.apply(pod({ namespace: NS, name: "ear", labels: { app: "ear" }, node: "n2" }));
    const [ear] = await awaitReady(cluster, NS, ["ear"]);
    if (ear === undefined) throw new Error("the listener is not there");
    const speak = speaking(addressesOf(ear));
    const sender = await startSender(cluster, "n2", [...CLOSED, ...OPEN]);
    try {
      await cluster.stopDaemon("n1", "calico", "SIGKILL");
      await cluster.apply(fixedPod("closed", CLOSED, speak), fixedPod("open", OPEN));
      await waitFor("the first failed attempt", 60, async () => (await events("closed")) !== "");
      cluster.startDaemon("n1", "calico");
      await awaitReady(cluster, NS, ["closed", "open"], 120);
      await checkBirth();
      await powerOff(cluster, cluster.node("n1"));
      cluster.startDaemon("n1", "kubelet");
      cluster.startDaemon("n1", "calico");
      await waitFor("the pods to start again", 180, async () => {
        const found = await Promise.all(["closed", "open"].map((name) => cluster.get<Pod>(["pod", "-n", NS, name])));
        return found.every((item) => isReady(item) && (item.status.containerStatuses?.[0]?.restartCount ?? 0) > 0);
      });
      await checkBirth();
    } finally {
      await sender.stop();
    }
    expect(await received(cluster, NS, "ear")).toEqual(NONE);
    // It did speak all the time: without the policy it is heard.
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
    await waitFor(
      "the pod that was closed to be heard",
      30,
      async () => {
        const { ipv4, ipv6 } = await received(cluster, NS, "ear");
        return ipv4 > 0 && ipv6 > 0;
      },
      async () => JSON.stringify(await received(cluster, NS, "ear")),
    );
  });

  /** The open pod shows that the sender is heard; the closed one must have nothing by then. */
  async function checkBirth(): Promise<void> {
    await waitFor(
      "the open pod to hear the sender",
      30,
      async () => {
        const { ipv4, ipv6 } = await received(cluster, NS, "open");
        return ipv4 > 100 && ipv6 > 100;
      },
      async () => JSON.stringify(await received(cluster, NS, "open")),
    );
    expect(await received(cluster, NS, "closed")).toEqual(NONE);
  }
});
