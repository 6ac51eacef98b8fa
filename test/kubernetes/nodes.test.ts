/** A node that leaves the cluster and comes back under its name: what the others do meanwhile, and what it finds of its own. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster, importImages, nodesReady, sessionsUp, startNode } from "./cluster/cluster.ts";
import { run, tryRun, waitFor } from "./cluster/run.ts";
import {
  addressesOf,
  allocations,
  awaitAddressesAgree,
  awaitAnswers,
  awaitReady,
  namespace,
  networkPolicy,
  pod,
  type Pod,
  pods,
  podsWith,
  podTemplate,
  removeNamespace,
} from "./objects.ts";
import { replaceMachine } from "./power.ts";

const NS = "nodes";
let cluster: Cluster;
let near: readonly [string, string];

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
  const labels = { app: "everywhere" };
  await cluster.apply(
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { namespace: NS, name: "everywhere" },
      spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec: podTemplate({}) } },
    },
    pod({ namespace: NS, name: "near", labels: { app: "near" }, node: "n1" }),
    pod({ namespace: NS, name: "asks", labels: { app: "asks" }, node: "n1" }),
    pod({ namespace: NS, name: "far", labels: { app: "far" }, node: "n2" }),
  );
  const [first, , third] = await awaitReady(cluster, NS, ["near", "asks", "far"]);
  if (first === undefined || third === undefined) throw new Error("not all pods are there");
  near = addressesOf(first);
  await awaitAnswers(cluster, true, NS, "near", addressesOf(third));
  await awaitAnswers(cluster, true, NS, "far", near);
});

afterAll(async () => {
  await removeNamespace(cluster, NS);
});

interface Affinity {
  readonly spec: { readonly node: string; readonly cidr: string };
}

async function blocksOf(node: string): Promise<readonly string[]> {
  const { items } = await cluster.get<{ items: readonly Affinity[] }>(["blockaffinities"]);
  return items
    .filter(({ spec }) => spec.node === node)
    .map(({ spec }) => spec.cidr)
    .sort();
}

/** Routes and BGP sessions that n1 has to n2. */
async function waysToN2(): Promise<string> {
  const { addresses } = cluster.node("n2");
  const { netns, birdSocket } = cluster.node("n1");
  const routes = await Promise.all(["-4", "-6"].map((family) => run(["ip", "-n", netns, family, "route", "show"])));
  const sessions = await run(["birdc", "-s", birdSocket, "show", "protocols"]);
  const lines = routes
    .join("\n")
    .split("\n")
    .filter((line) => addresses.some((address) => line.includes(`via ${address} `)));
  return [...lines, ...sessions.split("\n").filter((line) => /\bBGP\b/.test(line))].join("\n");
}

async function noWaysToN2(): Promise<void> {
  await waitFor("n1 to drop its routes and sessions to n2", 60, async () => (await waysToN2()) === "", waysToN2);
}

async function podsOnN2(): Promise<readonly Pod[]> {
  return (await cluster.get<{ items: readonly Pod[] }>(["pods", "-A", "--field-selector=spec.nodeName=n2"])).items;
}

/** A pod on n2 and one on n1 reach each other, and policy counts on n2 for both families. */
async function worksOnN2(name: string): Promise<readonly [string, string]> {
  await cluster.apply(pod({ namespace: NS, name, labels: { app: name }, node: "n2" }));
  const [made] = await awaitReady(cluster, NS, [name], 120);
  if (made === undefined) throw new Error(`pod ${name} is not there`);
  const addresses = addressesOf(made);
  await awaitAnswers(cluster, true, NS, "near", addresses);
  await awaitAnswers(cluster, true, NS, name, near);
  await cluster.apply(
    networkPolicy({
      namespace: NS,
      name,
      selects: { app: name },
      ingress: [{ from: [podsWith({ app: "near" })] }],
      egress: [{ to: [podsWith({ app: "asks" })] }],
    }),
  );
  await awaitAnswers(cluster, false, NS, "asks", addresses);
  await awaitAnswers(cluster, false, NS, name, near);
  await awaitAnswers(cluster, true, NS, "near", addresses);
  await cluster.kubectl(["delete", "networkpolicy", "-n", NS, name]);
  await awaitAnswers(cluster, true, NS, "asks", addresses);
  return addresses;
}

describe("a node that is drained, deleted and replaced by a new machine of the same name", () => {
  let blocks: readonly string[];
  let left: readonly string[];

  test("gives back the addresses of the pods that are driven away", async () => {
    blocks = await blocksOf("n2");
    expect(blocks.length).toBeGreaterThanOrEqual(2);
    await cluster.kubectl([
      "drain",
      "n2",
      "--force",
      "--ignore-daemonsets",
      "--delete-emptydir-data",
      "--timeout=120s",
    ]);
    await waitFor(
      "the addresses of the pod that was driven away",
      60,
      async () =>
        !(await allocations(cluster)).some(({ pod: holder }) => holder?.namespace === NS && holder.name === "far"),
    );
    const [daemon] = (await pods(cluster, NS, "app=everywhere")).filter(({ spec }) => spec.nodeName === "n2");
    left = daemon === undefined ? [] : addressesOf(daemon);
    expect(left.length).toBe(2);
  });

  test("is forgotten by the other node when it is deleted, which works on", async () => {
    await replaceMachine(cluster, cluster.node("n2"));
    await cluster.kubectl(["delete", "node", "n2"]);
    await noWaysToN2();
    await waitFor(
      "the API to have no pod of n2",
      180,
      async () => (await podsOnN2()).length === 0,
      async () => (await podsOnN2()).map(({ metadata }) => metadata.name).join(" "),
    );
    await cluster.apply(networkPolicy({ namespace: NS, name: "near", selects: { app: "near" }, ingress: [] }));
    await awaitAnswers(cluster, false, NS, "asks", near);
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "near"]);
    await awaitAnswers(cluster, true, NS, "asks", near);
    // Nobody else may have the addresses of a machine that is only believed to be gone.
    expect(await blocksOf("n2")).toEqual(blocks);
    expect((await allocations(cluster)).filter(({ node }) => node === "n2").map(({ addr }) => addr)).toEqual(
      expect.arrayContaining([...left]),
    );
  });

  test("finds its blocks again: pods run, are routed to and obey policy", async () => {
    const node = cluster.node("n2");
    cluster.startDaemon("n2", "containerd");
    await importImages(cluster, node);
    await startNode(cluster, "n2");
    await nodesReady(cluster);
    await sessionsUp(cluster);
    await worksOnN2("anew");
    expect(await blocksOf("n2")).toEqual(blocks);
  });

  test("keeps no address of the old machine, and loses none of the new one", async () => {
    const [anew] = await awaitReady(cluster, NS, ["anew"]);
    // Two looks for leaks, and what a busy machine needs.
    await awaitAddressesAgree(cluster, 180);
    const now = await cluster.get<Pod>(["pod", "-n", NS, "anew"]);
    expect(addressesOf(now)).toEqual(anew === undefined ? ["", ""] : addressesOf(anew));
    await awaitAnswers(cluster, true, NS, "asks", addressesOf(now));
    await awaitAnswers(cluster, true, NS, "anew", near);
  });
});

describe("a node that is deleted and made again while its daemons run on", () => {
  test("keeps its pods and addresses, and has its routes again", async () => {
    const [before] = await awaitReady(cluster, NS, ["anew"]);
    if (before === undefined) throw new Error("the pod of n2 is not there");
    const blocks = await blocksOf("n2");
    const daemons = cluster.layout.nodes.map(({ name }) => cluster.daemons.pid(`${name}-calico`));
    const { apiVersion, kind, metadata, spec } = await cluster.get<{
      apiVersion: string;
      kind: string;
      metadata: { name: string; labels: object; annotations: object };
      spec: object;
    }>(["node", "n2"]);
    await cluster.kubectl(["delete", "node", "n2"]);
    await noWaysToN2();
    const made = {
      apiVersion,
      kind,
      metadata: { name: metadata.name, labels: metadata.labels, annotations: metadata.annotations },
      spec,
    };
    await cluster.kubectl(["create", "-f", "-"], JSON.stringify(made));
    await nodesReady(cluster);
    await sessionsUp(cluster);
    await awaitAnswers(cluster, true, NS, "asks", addressesOf(before));
    await worksOnN2("later");
    const after = await cluster.get<Pod>(["pod", "-n", NS, "anew"]);
    expect([after.metadata.uid, addressesOf(after), after.status.containerStatuses?.[0]?.restartCount]).toEqual([
      before.metadata.uid,
      addressesOf(before),
      0,
    ]);
    expect(await blocksOf("n2")).toEqual(blocks);
    expect(cluster.layout.nodes.map(({ name }) => cluster.daemons.pid(`${name}-calico`))).toEqual(daemons);
    await awaitAddressesAgree(cluster, 180);
    expect(
      (await tryRun(["ip", "-n", cluster.node("n2").netns, "route", "show", "type", "blackhole"])).stdout,
    ).toContain("10.65.");
  });
});
