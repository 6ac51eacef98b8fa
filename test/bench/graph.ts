/**
 * graph: `make bench-graph`: what the calculation of one node costs in a large cluster: memory by pod, and the time for one change.
 *
 * 500 nodes, 100,000 pods in 100 namespaces, 10,000 policies; the updates that a node hears most. UNIQUE=1: each pod has a label of
 * its own, as those of a StatefulSet do.
 */
import { heapStats } from "bun:jsc";
import { Graph } from "../../src/calc/graph.ts";
import type { CniRecord } from "../../src/model/endpoint.ts";
import type { Kind } from "../../src/model/kind.ts";
import { type RowUpdate, rowsFor } from "../../src/model/convert/rows.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Update } from "../../src/model/update.ts";
import type { Addr } from "../../src/net/addr.ts";
import { row } from "./figures.ts";

const [NODES, PODS, POLICIES, APPS, LOCAL, BLOCK] = [500, 100_000, 10_000, 1_000, 200, 64];
const CHANGES = 2_000;
const isUnique = process.env["UNIQUE"] === "1";
const reduce = rowsFor("n0");

function said<K extends Kind>(kind: K, value: Resource<K>): RowUpdate {
  const origin = { revision: "1", generation: undefined, seenAt: 0 };
  return reduce({ kind, key: keyOf(kind, value), value, origin } as unknown as Update);
}

function nodeOf(i: number): string {
  return i < LOCAL ? "n0" : `n${1 + (i % (NODES - 1))}`;
}

function addressOf(i: number): string {
  return `10.${128 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
}

function pod(i: number, app = `a${i % APPS}`, ip = addressOf(i)): Resource<"Pod"> {
  const labels = { app, tier: `t${i % 3}`, ...(isUnique ? { "statefulset.kubernetes.io/pod-name": `web-${i}` } : {}) };
  const ports = [{ name: "http", containerPort: 8080 }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `app-a${i % APPS}-7d9f-${i}`, namespace: `ns-${i % 100}`, uid: `uid-${i}`, labels },
    spec: { nodeName: nodeOf(i), serviceAccountName: "default", containers: [{ name: "c", ports }] },
    status: { phase: "Running", podIPs: [{ ip }] },
  };
}

function policy(k: number): Resource<"KubernetesNetworkPolicy"> {
  const peer = { matchLabels: { app: `a${(k * 7 + Math.floor(k / APPS) * 101) % APPS}` } };
  const ports = [{ port: 8080 }, { port: 9090 }];
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: `p${k}`, namespace: `ns-${k % 100}` },
    spec: {
      podSelector: { matchLabels: { app: `a${k % APPS}` } },
      ingress: [{ from: [{ namespaceSelector: {}, podSelector: peer }], ports }],
    },
  };
}

/** With one address less, if that is given. */
function block(b: number, without?: number): Resource<"IPAMBlock"> {
  const held = Array.from({ length: BLOCK }, (_, ordinal) => b * BLOCK + ordinal);
  const attributes = held.map((i) => {
    const { namespace = "", name } = pod(i).metadata;
    return { handle_id: `net.c${i}`, secondary: { namespace, pod: name, node: nodeOf(i) } };
  });
  const spec = {
    cidr: `${addressOf(b * BLOCK)}/26`,
    affinity: `host:n${b === 0 ? 0 : 1 + (b % (NODES - 1))}`,
    allocations: held.map((_, ordinal) => (ordinal === without ? null : ordinal)),
    attributes,
    unallocated: [],
    sequenceNumber: 1,
    sequenceNumberForAllocation: {},
    strictAffinity: false,
  };
  return { apiVersion: "projectcalico.org/v3", kind: "IPAMBlock", metadata: { name: `b${b}` }, spec };
}

function node(n: number, beat = 0): Resource<"Node"> {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `n${n}`, labels: { beat: String(beat) } },
    status: { addresses: [{ type: "InternalIP", address: `192.168.${n >> 8}.${n & 255}` }] },
  };
}

function record(i: number): CniRecord {
  const { namespace, name } = pod(i).metadata;
  return {
    containerId: `c${i}`,
    pod: { kind: "Pod", namespace, name },
    interface: `cali${i.toString(16).padStart(11, "0")}`,
    addresses: [addressOf(i) as Addr],
    mac: "",
    netns: "",
    podInterface: "eth0",
  };
}

const graph = new Graph({ node: "n0" });
for (let i = 0; i < LOCAL; i++) graph.setCniRecord(record(i));

function heap(): { readonly bytes: number; readonly objects: number } {
  Bun.gc(true);
  const { heapSize, objectCount } = heapStats();
  return { bytes: heapSize, objects: objectCount };
}

/** In pages, as they would come. */
function load(name: string, count: number, updateOf: (i: number) => RowUpdate, by: number): void {
  const before = heap();
  let ms = 0;
  for (let at = 0; at < count; at += 200) {
    const updates = Array.from({ length: Math.min(200, count - at) }, (_, i) => updateOf(at + i));
    const start = performance.now();
    graph.update(updates);
    graph.flush();
    ms += performance.now() - start;
  }
  const after = heap();
  const [bytes, objects] = [after.bytes - before.bytes, after.objects - before.objects];
  console.log(
    `${name.padEnd(44)} ${ms.toFixed(0).padStart(6)} ms   ${(bytes / 2 ** 20).toFixed(1)} MiB: ${(bytes / by).toFixed(0)} bytes and ${(objects / by).toFixed(1)} objects each`,
  );
}

function change(name: string, updateOf: (i: number) => RowUpdate): void {
  const times = Array.from({ length: CHANGES }, (_, i) => {
    const update = updateOf(i);
    const start = performance.now();
    graph.update([update]);
    graph.flush();
    return performance.now() - start;
  });
  row(name, times, "ms");
}

load(`${PODS} pods`, PODS, (i) => said("Pod", pod(i)), PODS);
load("their blocks, by pod", Math.floor(PODS / BLOCK), (b) => said("IPAMBlock", block(b)), PODS);
load(`${NODES} nodes`, NODES, (n) => said("Node", node(n)), NODES);
load(`${POLICIES} policies`, POLICIES, (k) => said("KubernetesNetworkPolicy", policy(k)), POLICIES);
const { policies, sets } = graph.program;
console.log(`on this node: ${policies.size} policies, ${sets.size} sets`);
change("a label of a pod", (i) => said("Pod", pod(1_000 + (i >> 1), i % 2 === 0 ? "a7" : undefined)));
change("the address of a pod", (i) =>
  said("Pod", pod(1_000 + (i >> 1), undefined, i % 2 === 0 ? `172.16.${i >> 8}.${i & 255}` : undefined)),
);
change("a pod as it was", (i) => said("Pod", pod(1_000 + i)));
change("an address in a block of another node", (i) =>
  said("IPAMBlock", block(100 + (i >> 1), i % 2 === 0 ? 3 : undefined)),
);
change("a Node as it was, but for a label", (i) => said("Node", node(1 + (i % (NODES - 1)), i)));
