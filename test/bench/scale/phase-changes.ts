/** phase-changes: policies, nodes, blocks and namespaces that change, one at a time. */
import { addStall, type Bench, isNftables, timedIn, withCpu } from "./bench.ts";
import { SET_NAME, SET_NETS, setOf, TIERS } from "./calico.ts";
import { followMembers } from "./phase-churn.ts";
import { podObject } from "./pods.ts";
import { APPS, LOCAL_PODS, POLICY_NAMESPACE, uidOf } from "./scenario.ts";
import { median, type Row } from "./table.ts";
import { whileProbed } from "./watchers.ts";

const POLICIES = `/apis/networking.k8s.io/v1/namespaces/${POLICY_NAMESPACE}/networkpolicies`;
const CALICO = "/apis/projectcalico.org/v3";
const QUIET_MS = 250;

function policy(name: string, podSelector: object, from: readonly object[]): object {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: POLICY_NAMESPACE, name },
    spec: { podSelector, policyTypes: ["Ingress"], ingress: [{ from, ports: [{ protocol: "TCP", port: 8443 }] }] },
  };
}

/** From the API's change to the first and to the last commit that follows, milliseconds. */
async function committed(
  { monitor, node }: Bench,
  atMs: number,
  quietMs = QUIET_MS,
): Promise<{ readonly first: number; readonly last: number }> {
  const first = await monitor.first(node.pid, atMs);
  const last = (await monitor.last(node.pid, atMs, quietMs)) ?? first;
  return { first: first.atMs - atMs, last: last.atMs - atMs };
}

export async function measureChanges(bench: Bench): Promise<void> {
  const { table, size, node, stage } = bench;
  table.heading(`single changes at ${size.name}`);
  await node.idle();
  await onePolicy(bench);
  await everyEndpoint(bench);
  await everyPod(bench);
  await namespaceLabel(bench);
  if (bench.kinds === "calico") await tiersAndSets(bench);
  // What asking for health costs the daemon is taken off what updates cost.
  const still = await whileProbed(stage, () => withCpu(node.pid, () => Bun.sleep(3_000)));
  await updates(bench, "nodes", "a Node update", still.result.percent);
  await updates(bench, "blocks", "an IPAMBlock update of another node", still.result.percent);
}

/** Another port in the first policy. */
function changePolicy({ cluster, kinds }: Bench, port: number): Promise<number> {
  if (kinds === "calico") {
    const source = { selector: "app == 'a13'", namespaceSelector: "all()" };
    const ingress = [{ action: "Allow", protocol: "TCP", source, destination: { ports: [8080, port] } }];
    return cluster.request("PATCH", `${CALICO}/globalnetworkpolicies/policy-1`, { spec: { ingress } });
  }
  const ports = [8080, port].map((each) => ({ protocol: "TCP", port: each }));
  const ingress = [{ ports, from: [{ namespaceSelector: {}, podSelector: { matchLabels: { app: "a13" } } }] }];
  return cluster.request("PATCH", `${POLICIES}/policy-0`, { spec: { ingress } });
}

async function tiersAndSets(bench: Bench): Promise<void> {
  const { cluster, table, stage, size } = bench;
  const [orders, nets]: [number[], number[]] = [[], []];
  const tier = await whileProbed(stage, async () => {
    // With one policy a pod the order of tiers says nothing.
    for (let i = 0; size.policies > APPS && i < 20; i++) {
      const spec = { order: i % 2 === 0 ? 250 : 100 };
      orders.push(
        (await committed(bench, await cluster.request("PATCH", `${CALICO}/tiers/${TIERS[0]}`, { spec }))).last,
      );
    }
  });
  if (orders.length > 0)
    table.add({ what: "a tier's order: API to last commit", unit: "ms", values: orders, aim: "p99 20 ms" });
  if (orders.length > 0) addBare(bench, "tier", "a tier's order");
  addStall(bench, "a tier's order", tier.samples);
  const set = await whileProbed(stage, async () => {
    for (let i = 0; i < 20; i++) {
      const path = `${CALICO}/globalnetworksets/${SET_NAME}`;
      nets.push((await committed(bench, await cluster.request("PATCH", path, setOf((i + 1) % 2)))).last);
    }
  });
  table.add({ what: `a net of a set of ${SET_NETS}: API to last commit`, unit: "ms", values: nets, aim: "p99 2 ms" });
  addBare(bench, "net", "a net of a set");
  const text = JSON.stringify(setOf(0));
  table.add({
    what: "a net of a set: JSON.parse of the whole set",
    unit: "ms",
    values: Array.from({ length: 20 }, () => {
      const start = performance.now();
      JSON.parse(text);
      return performance.now() - start;
    }),
  });
  addStall(bench, "a net of a set", set.samples);
}

async function onePolicy(bench: Bench): Promise<void> {
  const { table, stage } = bench;
  const delays: number[] = [];
  const { samples } = await whileProbed(stage, async () => {
    for (let i = 0; i < 40; i++) {
      const atMs = await changePolicy(bench, 9100 + i);
      delays.push((await committed(bench, atMs)).last);
    }
  });
  table.add({
    what: "one policy's rule: API to last commit",
    unit: "ms",
    values: delays,
    aim: "p99 5 ms",
    ...(isNftables(bench) ? againstNft(bench, delays) : {}),
  });
  addBare(bench, "rule", "one policy's rule");
  addStall(bench, "one policy's rule", samples);
}

/** What of it is the kernel's alone, in the same table. */
function addBare(bench: Bench, what: "rule" | "tier" | "policy" | "net", name: string): void {
  if (!isNftables(bench)) return;
  const text = bench.stage.in("copy", process.execPath, `${import.meta.dir}/bare.ts`, what);
  bench.table.add({
    what: `${name}: its transaction alone, by netlink`,
    unit: "ms",
    values: JSON.parse(text) as number[],
  });
}

function againstNft({ stage }: Bench, delays: readonly number[]): Pick<Row, "ratio"> {
  const chain = /chain (\S+) \{/.exec(stage.in("copy", "nft", "list", "chains", "inet"))?.[1] ?? "";
  const byNft = Array.from({ length: 10 }, () =>
    timedIn(stage, "copy", ["nft", "-f", "-"], `add rule inet calico ${chain} counter\n`),
  );
  return { ratio: { value: median(delays) / median(byNft), to: `nft add rule (${median(byNft).toFixed(1)} ms)` } };
}

async function everyEndpoint(bench: Bench): Promise<void> {
  const { cluster, table, stage } = bench;
  const made: number[] = [];
  const gone: number[] = [];
  const { samples } = await whileProbed(stage, async () => {
    for (let i = 0; i < 10; i++) {
      const atMs = await cluster.request(
        "POST",
        POLICIES,
        policy("every-endpoint", {}, [{ podSelector: { matchLabels: { app: "a0" } } }]),
      );
      made.push((await committed(bench, atMs)).last);
      gone.push((await committed(bench, await cluster.request("DELETE", `${POLICIES}/every-endpoint`, {}))).last);
    }
  });
  table.add({
    what: `a policy over ${LOCAL_PODS} local endpoints: to last commit`,
    unit: "ms",
    values: made,
    aim: "20 ms",
  });
  table.add({ what: "the same, deleted", unit: "ms", values: gone, aim: "20 ms" });
  addBare(bench, "policy", `a policy over ${LOCAL_PODS} local endpoints`);
  addStall(bench, "a policy over 200 local endpoints", samples);
}

/** A member's change one at a time: delays, and CPU of the daemon for each. */
async function memberCost(bench: Bench): Promise<{ readonly delays: readonly number[]; readonly cpuMs: number }> {
  const { cluster, node } = bench;
  await node.idle();
  const still = await withCpu(node.pid, () => Bun.sleep(4_000));
  const cpu = await withCpu(node.pid, () => followMembers(bench, () => cluster.changes("addresses", 20, 100)));
  return {
    delays: cpu.result.filter(Number.isFinite),
    cpuMs: Math.max(0, cpu.ms - (still.percent / 100) * cpu.wallMs) / 100,
  };
}

async function everyPod(bench: Bench): Promise<void> {
  const { cluster, table, stage } = bench;
  const before = await memberCost(bench);
  const { result: took, samples } = await whileProbed(stage, async () => {
    const atMs = await cluster.request(
      "POST",
      POLICIES,
      policy("every-pod", { matchLabels: { app: "a0" } }, [{ namespaceSelector: {} }]),
    );
    return committed(bench, atMs, 3_000);
  });
  table.add({ what: "a policy with a peer of every pod: to last commit", unit: "ms", values: [took.last] });
  addStall(bench, "a policy with a peer of every pod", samples);
  const after = await memberCost(bench);
  table.add({ what: "a member, before that policy: API to commit", unit: "ms", values: before.delays });
  table.add({
    what: "a member, with that policy: API to commit",
    unit: "ms",
    values: after.delays,
    aim: "as before",
    ratio: { value: median(after.delays) / median(before.delays), to: "before it", aim: "1x" },
  });
  table.add({ what: "CPU for each member's change, before that policy", unit: "ms", values: [before.cpuMs] });
  table.add({
    what: "CPU for each member's change, with that policy",
    unit: "ms",
    values: [after.cpuMs],
    aim: "as before",
    ratio: { value: after.cpuMs / before.cpuMs, to: "before it", aim: "1x" },
  });
  const gone = await whileProbed(stage, async () =>
    committed(bench, await cluster.request("DELETE", `${POLICIES}/every-pod`, {}), 3_000),
  );
  table.add({ what: "that policy deleted: to last commit", unit: "ms", values: [gone.result.last] });
  addStall(bench, "that policy deleted", gone.samples);
}

async function namespaceLabel(bench: Bench): Promise<void> {
  const { cluster, table, stage, node, monitor, weight } = bench;
  const path = "/api/v1/namespaces";
  await cluster.request("POST", path, {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "labelled", labels: { stage: "green" } },
  });
  for (let i = 0; i < 200; i++) {
    const pod = { namespace: "labelled", name: `pod-${i}`, labels: { app: "labelled" } };
    const placement = { node: "remote-0", address: `10.126.0.${i + 1}`, uid: uidOf(10, i) };
    await cluster.request("POST", "/api/v1/namespaces/labelled/pods", podObject(pod, placement, weight));
  }
  const atMs = await cluster.request(
    "POST",
    POLICIES,
    policy("labelled", { matchLabels: { app: "a0" } }, [{ namespaceSelector: { matchLabels: { stage: "blue" } } }]),
  );
  await committed(bench, atMs);
  const delays: number[] = [];
  const { samples } = await whileProbed(stage, async () => {
    for (let i = 0; i < 20; i++) {
      const labels = { stage: i % 2 === 0 ? "blue" : "green" };
      delays.push(
        (await committed(bench, await cluster.request("PATCH", `${path}/labelled`, { metadata: { labels } }))).last,
      );
    }
  });
  table.add({ what: "a namespace's label, 200 pods in it: to last commit", unit: "ms", values: delays });
  addStall(bench, "a namespace's label", samples);
  const endMs = await cluster.request("DELETE", `${POLICIES}/labelled`, {});
  await monitor.last(node.pid, endMs, QUIET_MS);
}

async function updates(bench: Bench, what: "nodes" | "blocks", name: string, stillPercent: number): Promise<void> {
  const { cluster, table, stage, node } = bench;
  const COUNT = 50;
  const { result, samples } = await whileProbed(stage, () =>
    withCpu(node.pid, async () => {
      await cluster.changes(what, 10, COUNT);
      await Bun.sleep(200);
    }),
  );
  const cpu = Math.max(0, result.ms - (stillPercent / 100) * result.wallMs) / COUNT;
  table.add({ what: `CPU for ${name}`, unit: "ms", values: [cpu] });
  addStall(bench, name, samples);
}
