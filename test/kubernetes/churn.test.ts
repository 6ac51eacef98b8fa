/** Many pods at once, and a node daemon that is killed among them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { waitFor } from "./cluster/run.ts";
import { addressesOf, answers, describeTrouble, isReady, namespace, pods, podTemplate, removeNamespace, urlOf } from "./objects.ts";

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

interface Block {
  readonly spec: { readonly allocations: readonly (number | null)[]; readonly attributes: readonly { readonly secondary?: Readonly<Record<string, string>> }[] };
}

/** Addresses that pods of this namespace hold. */
async function held(): Promise<number> {
  const { items } = await cluster.get<{ items: readonly Block[] }>(["ipamblocks"]);
  return items.flatMap(({ spec }) => spec.allocations.filter((index) => index !== null && spec.attributes[index]?.secondary?.["namespace"] === NS)).length;
}

function deployment(replicas: number): object {
  const labels = { app: "many" };
  return { apiVersion: "apps/v1", kind: "Deployment", metadata: { namespace: NS, name: "many" }, spec: { replicas, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: podTemplate({}) } } };
}

async function settled(count: number): Promise<boolean> {
  const found = await pods(cluster, NS, "app=many");
  return found.length === count && found.every(isReady);
}

async function allReady(count: number): Promise<void> {
  await waitFor(`${count} pods to be Ready`, 240, () => settled(count), () => describeTrouble(cluster, NS));
}

async function noneHeld(): Promise<void> {
  await waitFor("every address to be given back", 60, async () => (await held()) === 0, async () => `${await held()} are held`);
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
      for (const address of addressesOf(other)) await waitFor(`an answer of ${address}`, 20, () => answers(cluster, NS, first?.metadata.name ?? "", urlOf(address)));
    }
  });

  test("all end, and every address is given back", async () => {
    await cluster.apply(deployment(0));
    await waitFor("the pods to be gone", 120, async () => (await pods(cluster, NS, "app=many")).length === 0, () => describeTrouble(cluster, NS));
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
        await waitFor(`calico node of ${victim}`, 60, () => cluster.calicoReady(victim), async () => cluster.daemons.tail(`${victim}-calico`));
      } while (!(await settled(count)) && kills < 12);
      await allReady(count);
    }
    console.log(`killed ${kills} times`);
    await noneHeld();
  });
});
