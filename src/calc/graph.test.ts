import { expect, test } from "bun:test";
import type { CniRecord } from "../model/endpoint.ts";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import type { Kind } from "../model/kind.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import type { Addr } from "../net/addr.ts";
import { isEmptyDelta } from "../../test/program/diff.ts";
import { printProgram } from "../../test/program/print.ts";
import { Graph } from "./graph.ts";

const ORIGIN = { revision: "1", generation: undefined, seenAt: 0 };

function said<K extends Kind>(kind: K, value: Resource<K>): RowUpdate {
  return rowsFor("n1")({ kind, key: keyOf(kind, value), value, origin: ORIGIN } as unknown as Update);
}

function gone<K extends Kind>(kind: K, value: Resource<K>): RowUpdate {
  return rowsFor("n1")({ kind, key: keyOf(kind, value), value: undefined, origin: ORIGIN } as unknown as Update);
}

function pod(
  name: string,
  addresses: readonly string[],
  {
    labels = {},
    node = "n1",
    phase = "Running",
  }: { labels?: Record<string, string>; node?: string; phase?: string } = {},
): Resource<"Pod"> {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "a", labels },
    spec: { nodeName: node, containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }] }] },
    status: { phase, podIPs: addresses.map((ip) => ({ ip })) },
  };
}

function record(name: string, addresses: readonly string[]): CniRecord {
  return {
    containerId: "c",
    pod: { kind: "Pod", namespace: "a", name },
    interface: `cali-${name}`,
    addresses: addresses as Addr[],
    mac: "",
    netns: "",
    podInterface: "eth0",
  };
}

function policy(
  name: string,
  spec: NonNullable<Resource<"KubernetesNetworkPolicy">["spec"]>,
): Resource<"KubernetesNetworkPolicy"> {
  return { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name, namespace: "a" }, spec };
}

function block(cidr: string, affinity: string | undefined): Resource<"IPAMBlock"> {
  const spec = {
    cidr,
    ...(affinity === undefined ? {} : { affinity }),
    allocations: [],
    unallocated: [],
    attributes: [],
    sequenceNumber: 0,
    sequenceNumberForAllocation: {},
    strictAffinity: false,
  };
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMBlock",
    metadata: { name: cidr.replaceAll(/[^a-z0-9]/g, "-") },
    spec,
  };
}

function graphWith(updates: readonly RowUpdate[], records: readonly CniRecord[]): Graph {
  const graph = new Graph({ node: "n1" });
  graph.update(updates);
  for (const each of records) graph.setCniRecord(each);
  graph.flush();
  return graph;
}

const WEB_ONLY = policy("p", {
  podSelector: { matchLabels: { app: "db" } },
  ingress: [{ from: [{ podSelector: { matchLabels: { app: "web" } } }], ports: [{ port: "http" }, { port: 443 }] }],
});

test("a whole program, printed", () => {
  const graph = graphWith(
    [
      said("Pod", pod("db", ["10.0.0.1", "fd00::1"], { labels: { app: "db" } })),
      said("Pod", pod("web", ["10.0.0.2", "fd00::2"], { labels: { app: "web" }, node: "n2" })),
      said("KubernetesNetworkPolicy", WEB_ONLY),
      said("IPAMBlock", block("10.0.0.0/26", "host:n1")),
    ],
    [record("db", ["10.0.0.1", "fd00::1"])],
  );
  expect(printProgram(graph.program).replaceAll(/([sn])-[0-9a-f]{32}/g, "$1"))
    .toBe(`set n address-port {10.0.0.1,6,8080 fd00::1,6,8080}
set s address {10.0.0.2 fd00::2}
policy KubernetesNetworkPolicy/a/p
  ingress 0 allow if (source in s) and (tcp destination in n or tcp destination port 443)
workload cali-db a/db 10.0.0.1 fd00::1
  normal ingress tier default [KubernetesNetworkPolicy/a/p] else deny; allow
  normal egress allow
route blackhole 10.0.0.0/26
route 10.0.0.1/32 dev cali-db
route fd00::1/128 dev cali-db
`);
});

test("a wired pod has routes at once, and is an endpoint once its Pod is known", () => {
  const graph = graphWith([], [record("db", ["10.0.0.1"])]);
  expect(printProgram(graph.program)).toBe("route 10.0.0.1/32 dev cali-db\n");
  graph.update([said("Pod", pod("db", []))]);
  expect([...graph.flush().endpoints.keys()].map(String)).toEqual(["cali-db"]);
});

for (const [what, value] of [
  ["is on another node", pod("db", ["10.0.0.1"], { node: "n2" })],
  ["has finished", pod("db", ["10.0.0.1"], { phase: "Succeeded" })],
  ["cannot be read", pod("db", ["10.0.0.1 or so"], {})],
] as const) {
  test(`a wired pod that ${what} is no endpoint`, () => {
    const graph = graphWith([said("Pod", value)], [record("db", ["10.0.0.1"])]);
    expect(graph.program.endpoints.size).toBe(0);
    expect(graph.problems.size).toBe(what === "cannot be read" ? 1 : 0);
  });
}

test("a member counts once a pod: the old owner's end does not take the new one's address", () => {
  const both = [
    said("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
    said("KubernetesNetworkPolicy", WEB_ONLY),
  ];
  const old = pod("old", ["10.0.0.2"], { labels: { app: "web" }, node: "n2" });
  const graph = graphWith([...both, said("Pod", old)], [record("db", ["10.0.0.1"])]);
  graph.update([said("Pod", pod("new", ["10.0.0.2"], { labels: { app: "web" }, node: "n2" }))]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
  graph.update([gone("Pod", old)]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
  graph.update([gone("Pod", pod("new", []))]);
  const [change] = [...graph.flush().members.values()];
  expect(change).toEqual({ added: [], removed: ["10.0.0.2"] });
});

test("a changed label is a changed member and nothing else", () => {
  const graph = graphWith(
    [
      said("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
      said("Pod", pod("web", ["10.0.0.2"], { node: "n2" })),
      said("KubernetesNetworkPolicy", WEB_ONLY),
    ],
    [record("db", ["10.0.0.1"])],
  );
  graph.update([said("Pod", pod("web", ["10.0.0.2"], { labels: { app: "web" }, node: "n2" }))]);
  const delta = graph.flush();
  expect([...delta.members.values()]).toEqual([{ added: ["10.0.0.2"], removed: [] }]);
  expect([delta.sets.size, delta.policies.size, delta.endpoints.size, delta.routes.size]).toEqual([1, 0, 0, 0]);
});

test("saying the same again, or a lie taken back within a batch, changes nothing", () => {
  const updates = [
    said("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
    said("KubernetesNetworkPolicy", WEB_ONLY),
    said("IPAMBlock", block("10.0.0.0/26", "host:n1")),
  ];
  const graph = graphWith(updates, [record("db", ["10.0.0.1"])]);
  graph.update(updates);
  graph.setCniRecord(record("db", ["10.0.0.1"]));
  graph.update([gone("KubernetesNetworkPolicy", WEB_ONLY), said("KubernetesNetworkPolicy", WEB_ONLY)]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
});

test("blackholes: this node's blocks, not those of one address, and below an endpoint's own route", () => {
  const graph = graphWith(
    [
      block("10.0.0.0/26", "host:n1"),
      block("10.0.1.0/26", "host:n2"),
      block("10.0.2.0/26", undefined),
      block("10.0.3.1/32", "host:n1"),
      block("fd00::/122", "host:n1"),
      block("fd00::1:1/128", "host:n1"),
      block("junk", "host:n1"),
    ].map((each) => said("IPAMBlock", each)),
    [],
  );
  expect(printProgram(graph.program)).toBe("route blackhole 10.0.0.0/26\nroute blackhole fd00::/122\n");
  expect([...graph.problems.values()]).toEqual([
    'spec.cidr: Invalid value: "junk": must be CIDR text such as 10.0.0.0/26',
  ]);
});

test("an invalid policy closes its pods and is told", () => {
  const bad = policy("bad", { podSelector: {}, ingress: [{ ports: [{ port: 0 }] }] });
  const graph = graphWith(
    [said("Pod", pod("db", ["10.0.0.1"])), said("KubernetesNetworkPolicy", bad)],
    [record("db", ["10.0.0.1"])],
  );
  expect(printProgram(graph.program)).toContain("  ingress no rules\n  egress no rules\n");
  expect([...graph.problems]).toEqual([
    [
      "KubernetesNetworkPolicy/a/bad",
      "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ],
  ] as never);
});

const CLAIM = "10.0.0.2";

/** A pod of node n2 that its kubelet has not reported, with an annotation. */
function claiming(name: string, address: string): Resource<"Pod"> {
  const value = pod(name, [], { labels: { app: "web" }, node: "n2", phase: "Pending" });
  return {
    ...value,
    metadata: { ...value.metadata, annotations: { "cni.projectcalico.org/podIPs": `${address}/32` } },
  };
}

/** One that records the address for the pod of that name. */
function recording(address: string, name: string): Resource<"IPAMBlock"> {
  const value = block("10.0.0.0/30", "host:n2");
  const ordinal = Number(address.slice(address.lastIndexOf(".") + 1));
  const allocations = [0, 1, 2, 3].map((i) => (i === ordinal ? 0 : null));
  return {
    ...value,
    spec: { ...value.spec, allocations, attributes: [{ handle_id: "h", secondary: { namespace: "a", pod: name } }] },
  };
}

function webs(graph: Graph): string[] {
  return [...graph.program.sets.values()].flatMap((set) => (set.type === "address" ? [...set.hosts] : []));
}

test("an annotated address counts from the moment that a block records it until none does, in whatever order they come", () => {
  const isolated = [
    said("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
    said("KubernetesNetworkPolicy", WEB_ONLY),
  ];
  const news = [said("Pod", claiming("early", CLAIM)), said("IPAMBlock", recording(CLAIM, "early"))];
  for (const order of [news, [...news].reverse()]) {
    const graph = graphWith(isolated, [record("db", ["10.0.0.1"])]);
    const seen = order.map((update) => {
      graph.update([update]);
      graph.flush();
      return webs(graph);
    });
    expect(seen).toEqual([[], [CLAIM]]);
    // The kubelet's report needs no block.
    graph.update([said("Pod", pod("early", [CLAIM], { labels: { app: "web" }, node: "n2" }))]);
    expect(isEmptyDelta(graph.flush())).toBe(true);
    graph.update([said("Pod", claiming("early", CLAIM)), gone("IPAMBlock", recording(CLAIM, "early"))]);
    graph.flush();
    expect(webs(graph)).toEqual([]);
  }
});

test("a claim that a block records for another pod is worth nothing, and goes over with the block's record", () => {
  const graph = graphWith(
    [
      said("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
      said("KubernetesNetworkPolicy", WEB_ONLY),
      said("Pod", claiming("liar", CLAIM)),
      said("IPAMBlock", recording(CLAIM, "other")),
    ],
    [record("db", ["10.0.0.1"])],
  );
  expect(webs(graph)).toEqual([]);
  graph.update([said("IPAMBlock", recording(CLAIM, "liar"))]);
  graph.flush();
  expect(webs(graph)).toEqual([CLAIM]);
  // Other addresses of the block concern nobody.
  const more = recording(CLAIM, "liar");
  graph.update([
    said("IPAMBlock", {
      ...more,
      spec: {
        ...more.spec,
        allocations: [null, 1, 0, 1],
        attributes: [...more.spec.attributes, { handle_id: "x", secondary: { namespace: "a", pod: "x" } }],
      },
    }),
  ]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
  graph.update([said("IPAMBlock", recording("10.0.0.3", "liar"))]);
  graph.flush();
  expect(webs(graph)).toEqual([]);
});

test("a pod that is wired here has the addresses of its record, whatever it claims", () => {
  const here = { ...claiming("liar", CLAIM), spec: { nodeName: "n1", containers: [] } };
  const graph = graphWith(
    [
      said("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
      said("KubernetesNetworkPolicy", WEB_ONLY),
      said("Pod", here),
      said("IPAMBlock", recording(CLAIM, "liar")),
    ],
    [record("db", ["10.0.0.1"]), record("liar", ["10.0.0.9"])],
  );
  expect(webs(graph)).toEqual(["10.0.0.9"]);
});
