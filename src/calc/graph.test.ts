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

function present<K extends Kind>(kind: K, value: Resource<K>): RowUpdate {
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

test("prints a whole program", () => {
  const graph = graphWith(
    [
      present("Pod", pod("db", ["10.0.0.1", "fd00::1"], { labels: { app: "db" } })),
      present("Pod", pod("web", ["10.0.0.2", "fd00::2"], { labels: { app: "web" }, node: "n2" })),
      present("KubernetesNetworkPolicy", WEB_ONLY),
      present("IPAMBlock", block("10.0.0.0/26", "host:n1")),
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
  graph.update([present("Pod", pod("db", []))]);
  expect([...graph.flush().endpoints.keys()].map(String)).toEqual(["cali-db"]);
});

for (const [what, value] of [
  ["is on another node", pod("db", ["10.0.0.1"], { node: "n2" })],
  ["has finished", pod("db", ["10.0.0.1"], { phase: "Succeeded" })],
  ["cannot be read", pod("db", ["10.0.0.1 or so"], {})],
] as const) {
  test(`a wired pod that ${what} is not an endpoint`, () => {
    const graph = graphWith([present("Pod", value)], [record("db", ["10.0.0.1"])]);
    expect(graph.program.endpoints.size).toBe(0);
    expect(graph.problems.size).toBe(what === "cannot be read" ? 1 : 0);
  });
}

test("members are counted by pod: removing the old owner of an address keeps the new owner's", () => {
  const both = [
    present("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
    present("KubernetesNetworkPolicy", WEB_ONLY),
  ];
  const old = pod("old", ["10.0.0.2"], { labels: { app: "web" }, node: "n2" });
  const graph = graphWith([...both, present("Pod", old)], [record("db", ["10.0.0.1"])]);
  graph.update([present("Pod", pod("new", ["10.0.0.2"], { labels: { app: "web" }, node: "n2" }))]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
  graph.update([gone("Pod", old)]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
  graph.update([gone("Pod", pod("new", []))]);
  const [change] = [...graph.flush().members.values()];
  expect(change).toEqual({ added: [], removed: ["10.0.0.2"] });
});

test("a changed label changes members and nothing else", () => {
  const graph = graphWith(
    [
      present("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
      present("Pod", pod("web", ["10.0.0.2"], { node: "n2" })),
      present("KubernetesNetworkPolicy", WEB_ONLY),
    ],
    [record("db", ["10.0.0.1"])],
  );
  graph.update([present("Pod", pod("web", ["10.0.0.2"], { labels: { app: "web" }, node: "n2" }))]);
  const delta = graph.flush();
  expect([...delta.members.values()]).toEqual([{ added: ["10.0.0.2"], removed: [] }]);
  expect([delta.sets.size, delta.policies.size, delta.endpoints.size, delta.routes.size]).toEqual([1, 0, 0, 0]);
});

test("repeating an update, or a false one corrected within a batch, changes nothing", () => {
  const updates = [
    present("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
    present("KubernetesNetworkPolicy", WEB_ONLY),
    present("IPAMBlock", block("10.0.0.0/26", "host:n1")),
  ];
  const graph = graphWith(updates, [record("db", ["10.0.0.1"])]);
  graph.update(updates);
  graph.setCniRecord(record("db", ["10.0.0.1"]));
  graph.update([gone("KubernetesNetworkPolicy", WEB_ONLY), present("KubernetesNetworkPolicy", WEB_ONLY)]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
});

test("blackholes: for this node's blocks except those of one address, and an endpoint's own route takes precedence", () => {
  const graph = graphWith(
    [
      block("10.0.0.0/26", "host:n1"),
      block("10.0.1.0/26", "host:n2"),
      block("10.0.2.0/26", undefined),
      block("10.0.3.1/32", "host:n1"),
      block("fd00::/122", "host:n1"),
      block("fd00::1:1/128", "host:n1"),
      block("junk", "host:n1"),
    ].map((each) => present("IPAMBlock", each)),
    [],
  );
  expect(printProgram(graph.program)).toBe("route blackhole 10.0.0.0/26\nroute blackhole fd00::/122\n");
  expect([...graph.problems.values()]).toEqual([
    'spec.cidr: Invalid value: "junk": must be CIDR text such as 10.0.0.0/26',
  ]);
});

test("an invalid policy closes its pods and is reported", () => {
  const bad = policy("bad", { podSelector: {}, ingress: [{ ports: [{ port: 0 }] }] });
  const graph = graphWith(
    [present("Pod", pod("db", ["10.0.0.1"])), present("KubernetesNetworkPolicy", bad)],
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

/** A pod of node n2 whose status its kubelet has not reported, and which claims the address by annotation. */
function claiming(name: string, address: string): Resource<"Pod"> {
  const value = pod(name, [], { labels: { app: "web" }, node: "n2", phase: "Pending" });
  return {
    ...value,
    metadata: { ...value.metadata, annotations: { "cni.projectcalico.org/podIPs": `${address}/32` } },
  };
}

/** A block that records the address for the pod of that name. */
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

test("an annotated address counts exactly while a block records it, whichever arrives first", () => {
  const isolated = [
    present("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
    present("KubernetesNetworkPolicy", WEB_ONLY),
  ];
  const updates = [present("Pod", claiming("early", CLAIM)), present("IPAMBlock", recording(CLAIM, "early"))];
  for (const order of [updates, [...updates].reverse()]) {
    const graph = graphWith(isolated, [record("db", ["10.0.0.1"])]);
    const seen = order.map((update) => {
      graph.update([update]);
      graph.flush();
      return webs(graph);
    });
    expect(seen).toEqual([[], [CLAIM]]);
    // An address in the pod's status needs no block.
    graph.update([present("Pod", pod("early", [CLAIM], { labels: { app: "web" }, node: "n2" }))]);
    expect(isEmptyDelta(graph.flush())).toBe(true);
    graph.update([present("Pod", claiming("early", CLAIM)), gone("IPAMBlock", recording(CLAIM, "early"))]);
    graph.flush();
    expect(webs(graph)).toEqual([]);
  }
});

test("a claim has no effect while the block records the address for another pod", () => {
  const graph = graphWith(
    [
      present("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
      present("KubernetesNetworkPolicy", WEB_ONLY),
      present("Pod", claiming("liar", CLAIM)),
      present("IPAMBlock", recording(CLAIM, "other")),
    ],
    [record("db", ["10.0.0.1"])],
  );
  expect(webs(graph)).toEqual([]);
  graph.update([present("IPAMBlock", recording(CLAIM, "liar"))]);
  graph.flush();
  expect(webs(graph)).toEqual([CLAIM]);
  // Other addresses of the block change nothing.
  const more = recording(CLAIM, "liar");
  graph.update([
    present("IPAMBlock", {
      ...more,
      spec: {
        ...more.spec,
        allocations: [null, 1, 0, 1],
        attributes: [...more.spec.attributes, { handle_id: "x", secondary: { namespace: "a", pod: "x" } }],
      },
    }),
  ]);
  expect(isEmptyDelta(graph.flush())).toBe(true);
  graph.update([present("IPAMBlock", recording("10.0.0.3", "liar"))]);
  graph.flush();
  expect(webs(graph)).toEqual([]);
});

test("a pod that is wired here has the addresses of its CNI record, whatever it claims", () => {
  const here = { ...claiming("liar", CLAIM), spec: { nodeName: "n1", containers: [] } };
  const graph = graphWith(
    [
      present("Pod", pod("db", ["10.0.0.1"], { labels: { app: "db" } })),
      present("KubernetesNetworkPolicy", WEB_ONLY),
      present("Pod", here),
      present("IPAMBlock", recording(CLAIM, "liar")),
    ],
    [record("db", ["10.0.0.1"]), record("liar", ["10.0.0.9"])],
  );
  expect(webs(graph)).toEqual(["10.0.0.9"]);
});

test("workloads' interfaces: cali, and the prefixes of FelixConfiguration or, before them, of the start", () => {
  const felix = (interfacePrefix: string): RowUpdate =>
    present("FelixConfiguration", {
      apiVersion: "projectcalico.org/v3",
      kind: "FelixConfiguration",
      metadata: { name: "default" },
      spec: { interfacePrefix },
    });
  const prefixes = (text: string, interfacePrefixes?: readonly string[]): readonly string[] => {
    const graph = new Graph({ node: "n1", given: { interfacePrefixes } });
    graph.update([felix(text)]);
    graph.flush();
    return graph.program.settings.workloadPrefixes;
  };
  expect(prefixes("cali,tap")).toEqual(["cali", "tap"]);
  expect(prefixes("tap,vnet")).toEqual(["cali", "tap", "vnet"]);
  for (const text of ["", "tap,", "t p"]) expect(prefixes(text)).toEqual(["cali"]);
  expect(prefixes("tap", ["vnet"])).toEqual(["cali", "vnet"]);
});

test("the dataplane: eBPF if it is enabled, else nftables unless it is disabled; what the start says comes before FelixConfigurations", () => {
  const chosen = (spec: object, given: object = {}): string => {
    const graph = new Graph({ node: "n1", given });
    const metadata = { name: "default" };
    graph.update([
      present("FelixConfiguration", { apiVersion: "projectcalico.org/v3", kind: "FelixConfiguration", metadata, spec }),
    ]);
    graph.flush();
    return graph.program.settings.dataplane;
  };
  expect(chosen({})).toBe("nftables");
  expect(chosen({ nftablesMode: "Auto", iptablesBackend: "Legacy" })).toBe("nftables");
  expect(chosen({ nftablesMode: "Disabled" })).toBe("iptables");
  expect(chosen({ nftablesMode: "Disabled", iptablesBackend: "Auto" })).toBe("iptables");
  expect(chosen({ nftablesMode: "Disabled", iptablesBackend: "Legacy" })).toBe("iptables-legacy");
  expect(chosen({ nftablesMode: "Disabled", iptablesBackend: "NFT" })).toBe("iptables-nft");
  expect(chosen({ nftablesMode: "Enabled" }, { nftablesMode: "disabled", iptablesBackend: "nft" })).toBe(
    "iptables-nft",
  );
  expect(chosen({ bpfEnabled: true, nftablesMode: "Enabled" })).toBe("ebpf");
  expect(chosen({ bpfEnabled: false, nftablesMode: "Disabled" })).toBe("iptables");
  expect(chosen({ bpfEnabled: true }, { bpfEnabled: false })).toBe("nftables");
});

test("flows are offloaded where the configuration or the start says All", () => {
  const offloads = (spec: object, given: object = {}): boolean => {
    const graph = new Graph({ node: "n1", given });
    const metadata = { name: "default" };
    graph.update([
      present("FelixConfiguration", { apiVersion: "projectcalico.org/v3", kind: "FelixConfiguration", metadata, spec }),
    ]);
    graph.flush();
    return graph.program.settings.offloadsFlows;
  };
  expect(offloads({})).toBe(false);
  expect(offloads({ nftablesFlowTableOffload: "All" })).toBe(true);
  expect(offloads({ nftablesFlowTableOffload: "Disabled" }, { nftablesFlowTableOffload: "all" })).toBe(true);
  expect(offloads({ nftablesFlowTableOffload: "All" }, { nftablesFlowTableOffload: "disabled" })).toBe(false);
});

test("packets go past the host stack unless the configuration or the start says Disabled", () => {
  const goesPast = (spec: object, given: object = {}): boolean => {
    const graph = new Graph({ node: "n1", given });
    const metadata = { name: "default" };
    graph.update([
      present("FelixConfiguration", { apiVersion: "projectcalico.org/v3", kind: "FelixConfiguration", metadata, spec }),
    ]);
    graph.flush();
    return graph.program.settings.goesPastStack;
  };
  expect(goesPast({})).toBe(true);
  expect(goesPast({ bpfRedirectToPeer: "Enabled" })).toBe(true);
  expect(goesPast({ bpfRedirectToPeer: "Disabled" })).toBe(false);
  expect(goesPast({ bpfRedirectToPeer: "Disabled" }, { bpfRedirectToPeer: "l2only" })).toBe(true);
});

test("the route to a pod's address stays the pod's, whatever interface a WorkloadEndpoint with that address names", () => {
  const graph = new Graph({ node: "n1", given: { interfacePrefixes: ["a-tap"] } });
  const spec = { node: "n1", orchestrator: "kvm", workload: "vm", endpoint: "e", interfaceName: "a-tap0" };
  const machine = (address: string): RowUpdate =>
    present("WorkloadEndpoint", {
      apiVersion: "projectcalico.org/v3",
      kind: "WorkloadEndpoint",
      metadata: { name: "n1-kvm-vm-e", namespace: "a" },
      spec: { ...spec, ipNetworks: [address] },
    });
  const device = (): string | undefined => graph.program.routes.get("10.0.0.1/32" as never)?.device;
  graph.update([machine("10.0.0.1")]);
  graph.flush();
  expect(device()).toBe("a-tap0");
  graph.setCniRecord(record("web", ["10.0.0.1"]));
  graph.flush();
  expect(device()).toBe("cali-web");
  graph.removeCniRecord("cali-web");
  graph.flush();
  expect(device()).toBe("a-tap0");
});

test("a set of many members is filled in steps, between which the program is as before and changes may be recorded", () => {
  const graph = new Graph({ node: "n1" });
  graph.setCniRecord(record("here", ["10.1.0.1"]));
  const address = (i: number): string => `10.2.${i >> 8}.${i & 255}`;
  const others = Array.from({ length: 5_000 }, (_, i) => pod(`p${i}`, [address(i)], { node: "n2" }));
  const [first, second] = others;
  if (first === undefined || second === undefined) throw new Error("there are pods");
  graph.update([present("Pod", pod("here", ["10.1.0.1"])), ...others.map((each) => present("Pod", each))]);
  graph.flush();
  const before = printProgram(graph.program);
  const peers = policy("peers", { podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] });
  // In the same batch as the policy, so that they change while the set is new.
  graph.update([present("KubernetesNetworkPolicy", peers), gone("Pod", first)]);
  const steps = graph.flushing();
  let count = 0;
  let step = steps.next();
  for (; step.done !== true; step = steps.next()) {
    if (count++ === 0) graph.update([gone("Pod", second)]);
    expect(printProgram(graph.program)).toEqual(before);
    expect(() => graph.flush()).toThrow("before another had ended");
  }
  expect(count).toBe(4);
  const [set] = step.value.sets.values();
  expect(set?.type === "address" && set.hosts.size).toBe(5_000);
  expect(step.value.members.size).toBe(0);
  const [change] = graph.flush().members.values();
  expect(change).toEqual({ added: [], removed: [address(1)] } as never);
});
