/**
 * A node that boots: pods that start before, while and after the node daemon does receive and send nothing that policy denies.
 *
 * The kernel of each pod counts every datagram that reached it since its network namespace was made.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { inNetns } from "./cluster/layout.ts";
import { waitFor } from "./cluster/run.ts";
import { addressesOf, awaitReady, isReady, namespace, pod, type Pod, removeNamespace } from "./objects.ts";
import { powerOff } from "./power.ts";

const NS = "boot";
const CLOSED = ["10.65.200.5", "fd00:65::200:5"] as const;
const OPEN = ["10.65.200.6", "fd00:65::200:6"] as const;
const SENDER = new URL("./sender.ts", import.meta.url).pathname;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
  await cluster.apply({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace: NS, name: "closed" }, spec: { podSelector: { matchLabels: { app: "closed" } }, policyTypes: ["Ingress", "Egress"] } });
});

afterAll(async () => {
  if (cluster.daemons.pid("n1-calico") === undefined) cluster.startDaemon("n1", "calico");
  await removeNamespace(cluster, NS);
});

function fixedPod(name: string, addresses: readonly string[], command?: readonly string[]): object {
  return pod({ namespace: NS, name, labels: { app: name }, addresses, node: "n1", ...(command === undefined ? {} : { command }) });
}

/** Datagrams that reached a pod's stack since its birth, whether or not anyone listened. */
async function received(name: string): Promise<{ readonly ipv4: number; readonly ipv6: number }> {
  const { stdout } = await cluster.exec(NS, name, ["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
  const [, values] = [...stdout.matchAll(/^Udp: (.*)$/gm)].map((match) => match[1]?.split(" ").map(Number) ?? []);
  const six = (field: string): number => Number(new RegExp(`^${field}\\s+(\\d+)`, "m").exec(stdout)?.[1] ?? "NaN");
  return { ipv4: (values?.[0] ?? NaN) + (values?.[1] ?? NaN), ipv6: six("Udp6InDatagrams") + six("Udp6NoPorts") };
}

async function startSender(addresses: readonly string[]): Promise<{ stop(): Promise<void> }> {
  const child = Bun.spawn([...inNetns(cluster.node("n2").netns, [process.execPath, SENDER, ...addresses])], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  for await (const chunk of child.stdout) if (new TextDecoder().decode(chunk).includes("sending")) break;
  return {
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

async function events(name: string): Promise<string> {
  return await cluster.kubectl(["get", "events", "-n", NS, `--field-selector=involvedObject.name=${name},reason=FailedCreatePodSandBox`, "-o", "jsonpath={.items[*].message}"]);
}

describe("while calico node is down", () => {
  test("a new pod does not start, and its Event says why in our words", async () => {
    await cluster.stopDaemon("n1", "calico", "SIGKILL");
    await cluster.apply(pod({ namespace: NS, name: "waits", node: "n1" }));
    await waitFor("the Event", 60, async () => (await events("waits")).includes("cannot reach calico node"), () => events("waits"));
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
    // The first datagram of a file transfer that nobody answers: the image's nc knows no UDP.
    const speak = ["sh", "-c", `httpd -p 8080 -h /www; while :; do ${addressesOf(ear).map((address) => `timeout 1 tftp -g -l /dev/null -r x ${address} & `).join("")} sleep 1; done`];
    const sender = await startSender([...CLOSED, ...OPEN]);
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
    expect(await received("ear")).toEqual({ ipv4: 0, ipv6: 0 });
    // It did speak all the time: without the policy it is heard.
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
    await waitFor("the pod that was closed to be heard", 30, async () => {
      const { ipv4, ipv6 } = await received("ear");
      return ipv4 > 0 && ipv6 > 0;
    }, async () => JSON.stringify(await received("ear")));
  });

  /** The open pod shows that the sender is heard; the closed one must have nothing by then. */
  async function checkBirth(): Promise<void> {
    await waitFor("the open pod to hear the sender", 30, async () => {
      const { ipv4, ipv6 } = await received("open");
      return ipv4 > 100 && ipv6 > 100;
    }, async () => JSON.stringify(await received("open")));
    expect(await received("closed")).toEqual({ ipv4: 0, ipv6: 0 });
  }
});
