/** A row that the kernel refuses stops nobody else: it is found, closed and named, and programmed once the kernel takes it. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import type { RowStatus } from "../../src/dataplane/driver.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { TCP } from "../../src/net/protocol.ts";
import type { Atom, PolicyId, Stage } from "../../src/program/policy.ts";
import type { EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { VirtualClock } from "../../src/lib/virtual-clock.ts";
import { updateOf, deletionOf } from "../property/updates.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";
import { ENOMEM, Unwilling } from "./unwilling.ts";

class Bench {
  readonly node: Namespace;
  readonly unwilling = new Unwilling();
  readonly clock = new VirtualClock();
  readonly graph = new Graph({ node: "n1" });
  readonly driver: NftablesDriver;
  readonly loop: Loop;
  readonly reports: string[] = [];
  readonly refused: RowStatus[] = [];

  constructor(node: Namespace) {
    this.node = node;
    this.driver = node.enter(() => new NftablesDriver(this.unwilling.sys, { ownsTable: false, clock: this.clock }));
    this.loop = new Loop({
      drivers: [this.driver],
      clock: this.clock,
      watcher: { watch: () => ({ close: () => {} }), awaitReadable: () => ({ close: () => {} }) },
      auditIntervalMs: 3_600_000,
      report: (message) => this.reports.push(message),
      refused: (row) => this.refused.push(row),
    });
    void this.loop.start();
  }

  step(): void {
    this.loop.step(this.graph.program, this.graph.flush());
  }

  pod(namespace: string, name: string, ip: string, labels: Record<string, string> = {}): void {
    const resource: Resource<"Pod"> = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels },
      spec: { nodeName: "n1", containers: [] },
      status: { podIPs: [{ ip }] },
    };
    this.graph.update([updateOf("Pod", resource)]);
    this.graph.setCniRecord({
      containerId: name,
      pod: keyOf("Pod", resource),
      interface: `cali-${name}`,
      addresses: [ip as Addr],
      mac: "",
      netns: "",
      podInterface: "eth0",
    });
  }

  policy(namespace: string, name: string, port: number): void {
    this.graph.update([updateOf("KubernetesNetworkPolicy", policy(namespace, name, port))]);
  }

  isProgrammed(name: string): boolean {
    return this.loop.isProgrammed(`cali-${name}` as EndpointId, this.graph.program);
  }

  chain(name: string): string {
    return this.node.run(["nft", "-s", "list", "chain", "inet", "calico", name]);
  }

  states(): string[] {
    return this.driver.failures.map(({ row, state }) => `${row} ${state}`);
  }
}

function policy(namespace: string, name: string, port: number): Resource<"KubernetesNetworkPolicy"> {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace },
    spec: { podSelector: {}, policyTypes: ["Ingress"], ingress: [{ ports: [{ port, protocol: "TCP" }] }] },
  };
}

async function withBench(run: (bench: Bench) => Promise<void> | void): Promise<void> {
  const node = makeNamespace("refusals");
  const bench = new Bench(node);
  try {
    await run(bench);
  } finally {
    bench.driver.close();
    removeNamespace(node);
  }
}

for (const names of [true, false]) {
  const how = names ? "and says of which command" : "and does not say of what";

  test(`a policy that the kernel refuses ${how}: it is named, its pods stay closed, all others are served in the same step`, () =>
    withBench((bench) => {
      bench.unwilling.names = names;
      bench.unwilling.words = ["mallory/bad"];
      for (let i = 0; i < 20; i++) {
        bench.pod(`ns${i}`, `p${i}`, `10.65.0.${i + 1}`);
        bench.policy(`ns${i}`, "web", 80);
      }
      bench.pod("mallory", "m", "10.65.1.1");
      bench.policy("mallory", "bad", 80);
      bench.step();
      for (let i = 0; i < 20; i++) expect(bench.isProgrammed(`p${i}`)).toBe(true);
      expect([bench.isProgrammed("m"), bench.states()]).toEqual([
        false,
        ["policy mallory/bad failed", "pod mallory/m closed"],
      ]);
      expect(bench.loop.explain("cali-m" as EndpointId)).toContain("policy mallory/bad: Cannot");
      expect(bench.refused.map(({ object }) => object)).toEqual([
        { kind: "KubernetesNetworkPolicy", namespace: "mallory", name: "bad" },
      ]);
      expect(bench.node.run(["nft", "list", "map", "inet", "calico", "to-endpoint"])).not.toContain("cali-m");
      expect(bench.loop.status()[0]?.error).toBeUndefined();
      // A pod that comes later is served at once, and by a transaction that is taken.
      const { refusals } = bench.unwilling;
      bench.pod("ns0", "late", "10.65.2.1");
      bench.step();
      expect([bench.isProgrammed("late"), bench.unwilling.refusals]).toEqual([true, refusals]);
    }));
}

test("a running pod whose changed policy is refused is closed, and opened when the kernel takes it", () =>
  withBench(async (bench) => {
    bench.pod("a", "p", "10.65.0.1");
    bench.pod("b", "q", "10.65.0.2");
    bench.policy("a", "web", 80);
    bench.policy("b", "web", 80);
    bench.step();
    expect(bench.chain("cali-tw--p")).toContain("jump cali-pi-KubernetesNetworkPolicy/a/web");
    bench.unwilling.words = ["/a/web"];
    bench.policy("a", "web", 443);
    bench.step();
    // The old version stands, and no pod runs it.
    expect(bench.chain("cali-pi-KubernetesNetworkPolicy/a/web")).toContain("dport 80");
    expect(bench.chain("cali-tw--p")).toContain('counter drop comment "closed: policy a/web is not programmed"');
    expect(bench.chain("cali-tw--p")).not.toContain("jump");
    // Of the other direction nothing was refused.
    expect(bench.chain("cali-fw--p")).toContain("not isolated");
    expect([bench.isProgrammed("p"), bench.isProgrammed("q")]).toEqual([false, true]);
    const abort = new AbortController();
    const running = bench.loop.run(abort.signal);
    await bench.clock.advance(1_000);
    const [row] = bench.driver.failures;
    expect([row?.attempts ?? 0, row?.errno, row?.since]).toEqual([
      expect.any(Number),
      ENOMEM,
      "2025-01-01T00:00:00.000Z",
    ]);
    expect(row?.attempts).toBeGreaterThan(2);
    bench.unwilling.words = [];
    await bench.clock.advance(60_000);
    expect([bench.isProgrammed("p"), bench.states(), bench.driver.pending]).toEqual([true, [], 0]);
    expect(bench.chain("cali-pi-KubernetesNetworkPolicy/a/web")).toContain("dport 443");
    expect(bench.chain("cali-tw--p")).toContain("jump cali-pi-KubernetesNetworkPolicy/a/web");
    expect(bench.reports).toContain("a row that the kernel refused is programmed or gone");
    abort.abort();
    await bench.clock.advance(10);
    await running;
  }));

test("an endpoint that is refused itself is closed, and taken out when not even that is taken; then it runs what it should", () =>
  withBench(async (bench) => {
    bench.unwilling.names = true;
    bench.pod("a", "p", "10.65.0.1");
    bench.step();
    expect(bench.chain("cali-tw--p")).toContain("not isolated");
    bench.unwilling.words = ["cali-tw--p", "cali-pi-"];
    bench.policy("a", "web", 80);
    bench.step();
    expect(bench.states()).toEqual(["pod a/p failed"]);
    expect(bench.chain("cali-tw--p")).toContain('drop comment "closed: pod a/p is not programmed"');
    bench.unwilling.words = ["cali-tw--p", "counter"];
    bench.pod("a", "p", "10.65.0.9");
    bench.graph.update([deletionOf(keyOf("KubernetesNetworkPolicy", policy("a", "web", 80)))]);
    bench.step();
    // It is closed already: nothing is to be done before the kernel takes what it should run.
    expect(bench.chain("cali-tw--p")).toContain("closed");
    bench.unwilling.words = [];
    const abort = new AbortController();
    const running = bench.loop.run(abort.signal);
    await bench.clock.advance(60_000);
    expect([bench.isProgrammed("p"), bench.states()]).toEqual([true, []]);
    bench.unwilling.words = ["cali-tw--p", "counter"];
    bench.policy("a", "web", 80);
    bench.step();
    expect(bench.node.run(["nft", "list", "map", "inet", "calico", "to-endpoint"])).not.toContain("cali-p");
    expect(bench.node.run(["nft", "list", "set", "inet", "calico", "sources-4"])).not.toContain("cali-p");
    abort.abort();
    await bench.clock.advance(10);
    await running;
  }));

test("a set whose elements are refused: the policies that name it wait, and it is named by them; a policy that goes leaves nothing behind", () =>
  withBench(async (bench) => {
    const peers: Resource<"KubernetesNetworkPolicy"> = {
      ...policy("a", "peers", 80),
      spec: {
        podSelector: {},
        policyTypes: ["Ingress"],
        ingress: [{ from: [{ podSelector: { matchLabels: { app: "x" } } }] }],
      },
    };
    bench.pod("a", "p", "10.65.0.1", { app: "x" });
    bench.pod("b", "q", "10.65.0.2");
    // The bytes of 10.65.0.1 as an element's key.
    bench.unwilling.words = ["\x08\0\x01\0\x0a\x41\0\x01"];
    bench.unwilling.names = true;
    // The kernel goes on after the first refusal, and refuses what refers to it too.
    bench.unwilling.alsoWithin = "/a/peers";
    bench.graph.update([updateOf("KubernetesNetworkPolicy", peers)]);
    bench.step();
    const [row] = bench.driver.failures;
    expect(row?.row).toMatch(/^set .* of policy a\/peers$/);
    expect(row?.object).toEqual({ kind: "KubernetesNetworkPolicy", namespace: "a", name: "peers" });
    expect(bench.states().slice(1)).toEqual(["policy a/peers waiting", "pod a/p closed"]);
    expect([bench.isProgrammed("p"), bench.isProgrammed("q")]).toEqual([false, true]);
    bench.graph.update([deletionOf(keyOf("KubernetesNetworkPolicy", peers))]);
    bench.step();
    expect([bench.isProgrammed("p"), bench.states(), bench.driver.pending]).toEqual([true, [], 0]);
    expect(bench.node.run(["nft", "list", "table", "inet", "calico"])).not.toContain("peers");
  }));

test("a set of which one net is refused: what changes meanwhile is not lost, and it ends as wanted", () =>
  withBench(async (bench) => {
    const nets = (...list: string[]): void => {
      const spec = { nets: list };
      const metadata = { name: "partners", labels: { set: "partners" } };
      bench.graph.update([
        updateOf("GlobalNetworkSet", {
          apiVersion: "projectcalico.org/v3",
          kind: "GlobalNetworkSet",
          metadata,
          spec,
        } as Resource<"GlobalNetworkSet">),
      ]);
      bench.step();
    };
    const elements = (): string[] =>
      [...bench.node.run(["nft", "list", "table", "inet", "calico"]).matchAll(/10\.[1-3]\.[\d./]+/g)].map(
        ([text]) => text,
      );
    bench.graph.update([
      updateOf("GlobalNetworkPolicy", {
        apiVersion: "projectcalico.org/v3",
        kind: "GlobalNetworkPolicy",
        metadata: { name: "partners" },
        spec: {
          selector: "all()",
          types: ["Ingress"],
          ingress: [{ action: "Allow", source: { selector: "set == 'partners'" } }],
        },
      } as Resource<"GlobalNetworkPolicy">),
    ]);
    bench.pod("a", "p", "10.65.0.1");
    nets("10.1.0.0/24", "10.2.0.0/24");
    expect([bench.isProgrammed("p"), elements()]).toEqual([true, ["10.1.0.0/24", "10.2.0.0/24"]]);
    // The bytes of 10.3.0.0 as an element's key.
    bench.unwilling.words = ["\x08\0\x01\0\x0a\x03\0\0"];
    nets("10.1.0.0/24", "10.2.0.0/23", "10.3.0.0/24");
    expect([bench.isProgrammed("p"), elements()]).toEqual([false, ["10.1.0.0/24", "10.2.0.0/24"]]);
    expect(bench.states().slice(1)).toEqual(["policy partners waiting", "pod a/p closed"]);
    nets("10.2.0.0/22", "10.3.0.0/23");
    nets("10.2.0.0/22", "10.3.0.0/23", "10.1.0.0/25");
    expect(bench.isProgrammed("p")).toBe(false);
    bench.unwilling.words = [];
    const abort = new AbortController();
    const running = bench.loop.run(abort.signal);
    await bench.clock.advance(60_000);
    expect([bench.isProgrammed("p"), bench.states(), bench.driver.pending]).toEqual([true, [], 0]);
    expect(elements()).toEqual(["10.1.0.0/25", "10.2.0.0/22", "10.3.0.0/23"]);
    abort.abort();
    await bench.clock.advance(10);
    await running;
  }));

test("one tenant's many refused policies, one after another, are no error of the whole", () =>
  withBench((bench) => {
    bench.unwilling.words = ["/mallory/"];
    bench.pod("mallory", "m", "10.65.1.1");
    for (let i = 0; i < 60; i++) bench.policy("mallory", `bad${i}`, 80);
    bench.pod("b", "q", "10.65.0.2");
    bench.policy("b", "web", 80);
    bench.step();
    expect(bench.loop.status()[0]?.error).toBeUndefined();
    expect([bench.isProgrammed("q"), bench.isProgrammed("m")]).toEqual([true, false]);
    expect(bench.states().filter((state) => state.endsWith("failed")).length).toBe(60);
    expect(bench.node.run(["nft", "list", "table", "inet", "calico"])).not.toContain("probe");
  }));

test("want of everything is an error of the whole, tried again", () =>
  withBench(async (bench) => {
    for (let i = 0; i < 100; i++) bench.pod("a", `p${i}`, `10.65.0.${i + 1}`);
    bench.unwilling.words = ["cali"];
    bench.step();
    expect(bench.loop.status()[0]?.error).toContain("ENOMEM");
    expect(bench.unwilling.refusals).toBeLessThan(50);
    bench.unwilling.words = [];
    const abort = new AbortController();
    const running = bench.loop.run(abort.signal);
    await bench.clock.advance(60_000);
    expect([bench.loop.status()[0]?.error, bench.isProgrammed("p7"), bench.driver.pending]).toEqual([
      undefined,
      true,
      0,
    ]);
    abort.abort();
    await bench.clock.advance(10);
    await running;
  }));

test("a name that is over the kernel's limits is not sent, and concerns its own object", () =>
  withBench((bench) => {
    bench.pod("a", "p", "10.65.0.1", { app: "x" });
    bench.pod("b", "q", "10.65.0.2");
    bench.policy("b", "web", 80);
    bench.step();
    // An interface name that the kernel could not have: its key does not fit the map.
    bench.pod("a", "much-longer-than-15-bytes", "10.65.0.3");
    bench.pod("a", "r", "10.65.0.4");
    bench.step();
    expect(bench.states()).toEqual(["pod a/much-longer-than-15-bytes failed"]);
    expect(bench.driver.failures[0]?.error).toContain("must have 16");
    expect([bench.isProgrammed("p"), bench.isProgrammed("q"), bench.isProgrammed("r")]).toEqual([true, true, true]);
  }));

test("a range that ends before it begins is refused by the real kernel, and concerns the policy that names it", () =>
  withBench((bench) => {
    const key = { kind: "KubernetesNetworkPolicy", namespace: "a", name: "backward" } as const;
    const id = "KubernetesNetworkPolicy/a/backward" as PolicyId;
    const port = (from: number, to: number): Atom => ({ on: "ports", side: "destination", protocol: TCP, from, to });
    const when = [{ not: false, any: [port(1, 1), port(90, 80)] }];
    const stage: Stage = {
      tiers: [{ tier: "default", policies: [id], otherwise: "deny" }],
      profiles: [],
      otherwise: "allow",
    };
    const program: Program = {
      settings: DEFAULT_SETTINGS,
      sets: new Map(),
      policies: new Map([
        [
          id,
          {
            source: key,
            tier: "default",
            ingress: [{ id: { source: key, direction: "ingress", index: 0 }, when, action: "allow" }],
            egress: undefined,
            error: undefined,
          },
        ],
      ]),
      endpoints: new Map([
        [
          "cali-x" as EndpointId,
          {
            kind: "workload",
            source: { kind: "Pod", namespace: "a", name: "x" },
            addresses: [],
            stages: { normal: { ingress: stage, egress: { tiers: [], profiles: [], otherwise: "allow" } } },
          },
        ],
      ]),
      routes: new Map(),
    };
    bench.loop.step(program, { ...program, members: new Map() });
    expect(bench.states()).toEqual([
      "ports ports-6.1-1.6.90-80 of policy a/backward failed",
      "policy a/backward waiting",
      "pod a/x closed",
    ]);
    expect(bench.driver.failures[0]?.error).toMatch(/Cannot add elements to set "ports-6.1-1.6.90-80".*EINVAL/);
    bench.pod("b", "q", "10.65.0.2");
    bench.step();
    expect(bench.isProgrammed("q")).toBe(true);
  }));

test("the real loop goes on on its own", async () => {
  const node = makeNamespace("refusals");
  const driver = node.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
  const abort = new AbortController();
  try {
    const watcher = openWatcher();
    const loop = new Loop({
      drivers: [driver],
      clock: openClock(),
      watcher,
      auditIntervalMs: 50,
      report: () => {},
    });
    let started = Promise.resolve();
    node.enter(() => void (started = loop.start()));
    const running = loop.run(abort.signal);
    await started;
    node.run(["nft", "flush", "chain", "inet", "calico", "forward"]);
    for (const end = performance.now() + 20_000; loop.repairs === 0 || !loop.isWritten; await Bun.sleep(5))
      if (performance.now() > end) throw new Error("waited 20 s in vain");
    abort.abort();
    await running;
    expect(node.run(["nft", "list", "chain", "inet", "calico", "forward"])).toContain("spoofed");
  } finally {
    abort.abort();
    driver.close();
    removeNamespace(node);
  }
});
