/** Many pods at once, and a node daemon that is killed among them, with every packet counted that policy denies. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { waitFor } from "./cluster/run.ts";
import { NONE, received, speaking, startSender, watchForwarding } from "./datagrams.ts";
import {
  addressesOf,
  allocations,
  answers,
  awaitReady,
  describeFailures,
  isReady,
  namespace,
  networkPolicy,
  pod,
  pods,
  podTemplate,
  removeNamespace,
  urlOf,
} from "./objects.ts";

const NS = "churn";
const MANY = 50;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
});

afterAll(async () => {
  await removeNamespace(cluster, NS);
});

/** Addresses that pods of this namespace hold. */
async function held(): Promise<number> {
  return (await allocations(cluster)).filter(({ pod: holder }) => holder?.namespace === NS).length;
}

function deployment(replicas: number): object {
  const labels = { app: "many" };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { namespace: NS, name: "many" },
    spec: { replicas, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: podTemplate({}) } },
  };
}

async function settled(count: number): Promise<boolean> {
  const found = await pods(cluster, NS, "app=many");
  return found.length === count && found.every(isReady);
}

async function allReady(count: number): Promise<void> {
  await waitFor(
    `${count} pods to be Ready`,
    240,
    () => settled(count),
    () => describeFailures(cluster, NS),
  );
}

async function noneHeld(): Promise<void> {
  await waitFor(
    "every address to be given back",
    60,
    async () => (await held()) === 0,
    async () => `${await held()} are held`,
  );
}

describe(`${MANY} pods at once`, () => {
  test("all become Ready, with addresses that no two share", async () => {
    const started = performance.now();
    await cluster.apply(deployment(MANY));
    await allReady(MANY);
    console.log(`${MANY} pods Ready in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    const found = await pods(cluster, NS, "app=many");
    const all = found.flatMap(addressesOf);
    expect(new Set(all).size).toBe(2 * MANY);
    const [first, ...rest] = found;
    for (const other of rest.slice(0, 5)) {
      for (const address of addressesOf(other))
        await waitFor(`an answer of ${address}`, 20, () =>
          answers(cluster, NS, first?.metadata.name ?? "", urlOf(address)),
        );
    }
  });

  test("all end, and every address is given back", async () => {
    await cluster.apply(deployment(0));
    await waitFor(
      "the pods to be gone",
      120,
      async () => (await pods(cluster, NS, "app=many")).length === 0,
      () => describeFailures(cluster, NS),
    );
    await noneHeld();
  });
});

describe("calico node killed while pods come and go", () => {
  test("no pod fails for good and no address leaks", async () => {
    let kills = 0;
    for (const [round, count] of [20, 4, 20, 0].entries()) {
      await cluster.apply(deployment(count));
      const victim = `n${(round % 2) + 1}`;
      // Again and again while pods come and go, each time when it has just become ready.
      do {
        await cluster.stopDaemon(victim, "calico", "SIGKILL");
        cluster.startDaemon(victim, "calico");
        kills++;
        await waitFor(
          `calico node of ${victim}`,
          60,
          () => cluster.calicoReady(victim),
          async () => cluster.daemons.tail(`${victim}-calico`),
        );
      } while (!(await settled(count)) && kills < 12);
      await allReady(count);
    }
    console.log(`killed ${kills} times`);
    await noneHeld();
  });
});

describe("packets while calico node is killed and pods come and go", () => {
  const POOLS = [
    { name: "churn-ipv4", cidr: "10.66.0.0/29", blockSize: 29 },
    { name: "churn-ipv6", cidr: "fd00:66::/125", blockSize: 125 },
  ] as const;
  const everyAddress = Array.from({ length: 8 }, (_, index) => [`10.66.0.${index}`, `fd00:66::${index}`]).flat();

  /** On n1, out of the small pools; each speaks to the ear all the time. */
  function closed(replicas: number, ear: readonly string[]): object {
    const labels = { app: "closed" };
    const annotations = {
      "cni.projectcalico.org/ipv4pools": `["${POOLS[0].name}"]`,
      "cni.projectcalico.org/ipv6pools": `["${POOLS[1].name}"]`,
    };
    const spec = podTemplate({ command: speaking(ear), spec: { nodeSelector: { "kubernetes.io/hostname": "n1" } } });
    return {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { namespace: NS, name: "closed" },
      spec: { replicas, selector: { matchLabels: labels }, template: { metadata: { labels, annotations }, spec } },
    };
  }

  async function killUntil(done: () => Promise<boolean>): Promise<number> {
    let kills = 0;
    do {
      await cluster.stopDaemon("n1", "calico", "SIGKILL");
      cluster.startDaemon("n1", "calico");
      kills++;
      await waitFor(
        "calico node of n1",
        60,
        () => cluster.calicoReady("n1"),
        async () => cluster.daemons.tail("n1-calico"),
      );
    } while (!(await done()) && kills < 8);
    return kills;
  }

  beforeAll(async () => {
    // They serve pods that name them, and nobody else.
    await cluster.apply(
      ...POOLS.map(({ name, cidr, blockSize }) => ({
        apiVersion: "projectcalico.org/v3",
        kind: "IPPool",
        metadata: { name },
        spec: { cidr, blockSize, nodeSelector: "!all()" },
      })),
    );
    await cluster.apply(
      networkPolicy({ namespace: NS, name: "closed", selects: { app: "closed" }, ingress: [], egress: [] }),
    );
    await cluster.apply(pod({ namespace: NS, name: "ear", labels: { app: "ear" }, node: "n2" }));
  });

  afterAll(async () => {
    await cluster.kubectl([
      "delete",
      "deployment",
      "-n",
      NS,
      "closed",
      "--ignore-not-found",
      "--cascade=foreground",
      "--timeout=120s",
    ]);
    await cluster.kubectl(["delete", "ippool", ...POOLS.map(({ name }) => name), "--ignore-not-found"]);
  });

  test("none reaches or leaves a closed pod, from its birth to its end; once policy is away, all do", async () => {
    const [ear] = await awaitReady(cluster, NS, ["ear"]);
    if (ear === undefined) throw new Error("the receiver is not there");
    const closedPods = (): ReturnType<typeof pods> => pods(cluster, NS, "app=closed");
    const settledAt = async (count: number): Promise<boolean> => {
      const found = await closedPods();
      return found.length === count && found.every(isReady);
    };
    const watch = await watchForwarding(cluster, "n1", [POOLS[0].cidr, POOLS[1].cidr]);
    const sender = await startSender(cluster, "n2", everyAddress);
    try {
      let kills = 0;
      let seen = 0;
      for (const count of [4, 0, 4, 1, 4]) {
        await cluster.apply(closed(count, addressesOf(ear)));
        kills += await killUntil(() => settledAt(count));
        await waitFor(
          `${count} closed pods`,
          240,
          () => settledAt(count),
          () => describeFailures(cluster, NS),
        );
        for (const { metadata } of await closedPods()) {
          expect(await received(cluster, NS, metadata.name)).toEqual(NONE);
          seen++;
        }
        expect(await watch.counts()).toEqual({ to: NONE, from: NONE });
      }
      expect(await received(cluster, NS, "ear")).toEqual(NONE);
      console.log(`killed ${kills} times, looked into ${seen} pods`);
      // The same sender, the same pods: only the policy was in the way.
      await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
      await waitFor(
        "every pod to be heard and to hear",
        60,
        async () => {
          const found = await Promise.all(
            (await closedPods()).map(({ metadata }) => received(cluster, NS, metadata.name)),
          );
          const { to, from } = await watch.counts();
          return [...found, to, from, await received(cluster, NS, "ear")].every(
            ({ ipv4, ipv6 }) => ipv4 > 0 && ipv6 > 0,
          );
        },
        async () => JSON.stringify(await watch.counts()),
      );
    } finally {
      await sender.stop();
      await watch.stop();
    }
  });
});
