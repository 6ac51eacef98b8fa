/** Staged policies on the eBPF path (POL-56): they count, and whatever they are, what decides decides as if they were not. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { DROPS } from "../../src/dataplane/ebpf/layout.ts";
import { takeEvents } from "../../src/dataplane/ebpf/log.ts";
import { Attachments } from "../../src/kernel/bpf/attach.ts";
import { loadProgram } from "../../src/kernel/bpf/program.ts";
import type { Addr } from "../../src/net/addr.ts";
import { UDP } from "../../src/net/protocol.ts";
import type { Policy, PolicyId, Rule, Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { EbpfBench } from "./ebpf-bench.ts";
import { type Namespace, sys } from "./fixture.ts";

/** Two workloads, then two machines beyond the node's other interfaces. */
const INTERFACES = ["cali0", "cali1", "ext0", "ext1"] as readonly string[] as readonly EndpointId[];
const ADDRESSES = [
  ["10.65.0.1", "fd00:65::1"],
  ["10.65.0.2", "fd00:65::2"],
  ["192.0.2.1", "2001:db8:1::1"],
  ["198.51.100.1", "2001:db8:2::1"],
] as readonly (readonly string[])[] as readonly (readonly Addr[])[];
const PORT = 80;
/** As many records as one packet meets at most. */
const MOST_RECORDS = 65_536;
const LONG = 60_000;

let bench: EbpfBench;

beforeAll(() => {
  bench = new EbpfBench(INTERFACES.map((name, i) => ({ interface: name, addresses: ADDRESSES[i] ?? [] })));
});
afterAll(() => bench.close());

function policy(name: string, rules: readonly { readonly port: number; readonly action: Rule["action"] }[]): Policy {
  const source = { kind: "NetworkPolicy", namespace: "a", name } as const;
  const egress = rules.map(({ port, action }, index): Rule => ({
    id: { source, direction: "egress", index },
    when: [{ not: false, any: [{ on: "ports", side: "destination", protocol: UDP, from: port, to: port }] }],
    action,
  }));
  return { source, tier: "front", ingress: undefined, egress, error: undefined };
}

/** Rules that do not match, and what comes after them. */
function long(count: number, last: Rule["action"]): { readonly port: number; readonly action: Rule["action"] }[] {
  return [...Array.from({ length: count }, () => ({ port: 9, action: "deny" as const })), { port: PORT, action: last }];
}

const OPEN: Stage = { tiers: [], profiles: [], otherwise: "allow" };

function asking(name: string): Stage {
  return {
    tiers: [{ tier: "front", policies: [`NetworkPolicy/a/${name}` as PolicyId], otherwise: "deny" }],
    profiles: [],
    otherwise: "deny",
  };
}

function endpoint(i: number, stages: Endpoint["stages"], staged?: Endpoint["stages"]): [EndpointId, Endpoint] {
  const id = INTERFACES[i];
  if (id === undefined) throw new Error(`no interface ${i}`);
  const of = { addresses: ADDRESSES[i] ?? [], stages, ...(staged === undefined ? {} : { staged }) };
  return i < 2
    ? [id, { kind: "workload", source: { kind: "Pod", namespace: "a", name: `p${i}` }, ...of }]
    : [id, { kind: "host", source: { kind: "HostEndpoint", namespace: undefined, name: id }, ...of }];
}

function load(policies: readonly Policy[], endpoints: readonly [EndpointId, Endpoint][]): Program {
  const program: Program = {
    settings: DEFAULT_SETTINGS,
    sets: new Map(),
    policies: new Map(policies.map((each) => [`NetworkPolicy/a/${each.source.name}` as PolicyId, each])),
    endpoints: new Map(endpoints),
    routes: new Map(),
  };
  bench.commit(program);
  bench.forgetFlows();
  return program;
}

/** Sends a packet from one to the other until one of them has arrived, or a step of the path has dropped it: right after its interfaces have come, a node loses packets of IPv6. */
async function arrives(from: number, to: number, family: number, port = PORT): Promise<boolean> {
  const [source, destination] = [ADDRESSES[from]?.[family], ADDRESSES[to]?.[family]];
  if (source === undefined || destination === undefined) throw new Error("no address");
  const before = dropped();
  for (const end = performance.now() + 5000; performance.now() < end; await Bun.sleep(2)) {
    const marker = bench.nextMarker();
    bench.port(from).send({ source, destination, protocol: UDP, sourcePort: 1000, destinationPort: port }, marker);
    for (let i = 0; i < 20; i++, await Bun.sleep(1)) {
      if (bench.port(to).received(marker)) return true;
      if (dropped() !== before) return false;
    }
  }
  return false;
}

const NOTHING_MATCHES: Pick<Rule, "when" | "action"> = { when: [{ not: false, any: [] }], action: "deny" };

function detachOthers(node: Namespace): void {
  const others = node.enter(() => new Attachments(sys, { priority: 60_000, handle: 1 }));
  others.detach(Number(node.run(["cat", "/sys/class/net/ext0/ifindex"])), "ingress");
  others.close();
}

/** A program that accepts every packet (TC_ACT_OK). */
function accepting(): number {
  const instructions = Uint8Array.from([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
  return loadProgram(sys, { type: "tc", name: "accepts", license: "GPL", instructions });
}

/** What steps of the path have dropped so far. */
function dropped(): string {
  return bench.driver.maps.drops.values(0, DROPS.length).join(" ");
}

async function countersOf(program: Program): Promise<Record<string, number>> {
  const { rules, ends, staged, drops = [] } = await bench.driver.counters(program);
  return Object.fromEntries(
    [
      ...rules.map(({ policy: { name }, rule, packets }) => [`${name} ${rule}`, packets] as const),
      ...ends.map(({ endpoint: id, direction, end, packets }) => [`${id} ${direction} ${end}`, packets] as const),
      ...(staged?.rules ?? []).map(
        ({ policy: { name }, rule, packets }) => [`staged ${name} ${rule}`, packets] as const,
      ),
      ...(staged?.ends ?? []).map(({ endpoint: id, end, packets }) => [`staged ${id} ${end}`, packets] as const),
      ...drops.map(({ step, packets }) => [step, packets] as const),
    ].filter(([, packets]) => packets > 0),
  );
}

test("a staged rule that logs or denies counts, is told of nowhere, and stops nothing; a policy that nobody decides by is there for counting alone", async () => {
  const staged = policy("staged", [
    { port: PORT, action: "log" },
    { port: PORT, action: "deny" },
  ]);
  const program = load(
    [staged],
    [
      endpoint(0, { normal: { ingress: OPEN, egress: OPEN } }, { normal: { egress: asking("staged") } }),
      endpoint(1, { normal: { ingress: OPEN, egress: OPEN } }),
    ],
  );
  expect(
    [...(bench.driver.image?.blocks.values() ?? [])].map(({ kind }) => kind).filter((kind) => kind.includes("policy")),
  ).toEqual(["staged-policy-egress"]);
  for (const family of [0, 1]) {
    const before = await countersOf(program);
    expect(await arrives(0, 1, family)).toBe(true);
    const counted = await countersOf(program);
    const packets = (counted["staged staged 2"] ?? 0) - (before["staged staged 2"] ?? 0);
    expect(packets).toBeGreaterThan(0);
    expect((counted["staged staged 1"] ?? 0) - (before["staged staged 1"] ?? 0)).toBe(packets);
    expect(await arrives(0, 1, family, 81)).toBe(true);
    expect((await countersOf(program))["staged cali0 no rule of tier front matched"]).toBeGreaterThan(0);
  }
  expect(takeEvents(bench.driver.maps, bench.driver.image).filter(({ packet }) => packet.protocol === UDP)).toEqual([]);
});

test("a staged policy that is too long to be asked whole takes nothing from the one that decides, which may be almost as long", async () => {
  const staged = policy("staged", long(MOST_RECORDS, "deny"));
  const real = policy("real", long(LONG, "allow"));
  load([], []);
  const program = load(
    [staged, real],
    [
      endpoint(0, { normal: { ingress: OPEN, egress: asking("real") } }, { normal: { egress: asking("staged") } }),
      endpoint(1, { normal: { ingress: OPEN, egress: OPEN } }),
    ],
  );
  expect(bench.driver.failures).toEqual([]);
  for (const family of [0, 1]) expect(await arrives(0, 1, family)).toBe(true);
  const counted = await countersOf(program);
  expect(counted[`real ${LONG + 1}`]).toBeGreaterThan(0);
  expect(counted["too many records"]).toBeUndefined();
  expect(Object.keys(counted).filter((key) => key.startsWith("staged"))).toEqual([]);
});

test("a staged policy for which there is no room is told of, and closes nobody", async () => {
  // Either fits, and both do not.
  const staged = policy("staged", long(120_000, "deny"));
  const real = policy("real", long(30_000, "allow"));
  load([], []);
  const program = load(
    [staged, real],
    [
      endpoint(0, { normal: { ingress: OPEN, egress: asking("real") } }, { normal: { egress: asking("staged") } }),
      endpoint(1, { normal: { ingress: OPEN, egress: OPEN } }),
    ],
  );
  expect(bench.driver.failures.map(({ row, state }) => `${row} ${state}`).sort()).toEqual([
    "staged counters of pod a/p0 waiting",
    "staged counters of policy a/staged failed",
  ]);
  expect([...program.endpoints.keys()].map((id) => bench.driver.isProgrammed(id))).toEqual([true, true]);
  for (const family of [0, 1]) expect(await arrives(0, 1, family)).toBe(true);
  const fitting = load([policy("staged", long(1, "deny")), real], [...program.endpoints]);
  expect(bench.driver.failures).toEqual([]);
  expect(await arrives(0, 1, 0)).toBe(true);
  expect((await countersOf(fitting))["staged staged 2"]).toBeGreaterThan(0);
});

test("a host endpoint with staged policies alone lets through what it cannot know the source of", async () => {
  const { node } = bench;
  const staged = policy("staged", [{ port: PORT, action: "deny" }]);
  const counting = load([staged], [endpoint(3, {}, { forward: { egress: asking("staged") } })]);
  for (const family of [0, 1]) expect(await arrives(2, 3, family)).toBe(true);
  expect((await countersOf(counting))["staged staged 1"]).toBeGreaterThan(0);
  // It accepts after the path, which overwrites the token.
  const others = node.enter(() => new Attachments(sys, { priority: 60_000, handle: 1 }));
  const program = accepting();
  others.attach(Number(node.run(["cat", "/sys/class/net/ext0/ifindex"])), "ingress", program, "accepts");
  others.close();
  sys.close(program);
  bench.forgetFlows();
  for (const family of [0, 1]) expect(await arrives(2, 3, family)).toBe(true);
  // With a policy that decides nothing new gets through there.
  const deciding = load(
    [staged],
    [endpoint(3, { forward: { egress: OPEN } }, { forward: { egress: asking("staged") } })],
  );
  for (const family of [0, 1]) expect(await arrives(2, 3, family)).toBe(false);
  expect((await countersOf(deciding))["original address unknown"]).toBeGreaterThan(0);
});

test("what is for the node itself is counted as staged, and gets there whatever becomes of the token", async () => {
  const { node } = bench;
  const staged = policy("staged", []);
  const ingress = [{ ...NOTHING_MATCHES, id: { source: staged.source, direction: "ingress" as const, index: 0 } }];
  const own = ["203.0.113.1", "2001:db8:9::1"] as readonly string[] as readonly Addr[];
  for (const addr of own) node.run(["ip", "addr", "add", addr, "dev", "lo"]);
  node.run(
    ["nft", "-f", "-"],
    "table inet observer { chain i { type filter hook input priority 100; meta l4proto udp counter; }; }",
  );
  const arrived = (): number =>
    Number(/packets (\d+)/.exec(node.run(["nft", "list", "table", "inet", "observer"]))?.[1]);
  const program = load(
    [{ ...staged, ingress, egress: undefined }],
    [endpoint(2, {}, { normal: { ingress: asking("staged") } })],
  );
  let nextPort = 1001;
  // Others still accept at ext0.
  for (const isAccepted of [true, false]) {
    if (!isAccepted) detachOthers(node);
    for (const [family, destination] of own.entries()) {
      const [source, before] = [ADDRESSES[2]?.[family], arrived()];
      if (source === undefined) throw new Error("no address");
      bench
        .port(2)
        .send(
          { source, destination, protocol: UDP, sourcePort: nextPort++, destinationPort: PORT },
          bench.nextMarker(),
        );
      for (const end = performance.now() + 5000; arrived() === before && performance.now() < end;) await Bun.sleep(1);
      expect(arrived()).toBe(before + 1);
    }
    const counted = (await countersOf(program))["staged ext0 no rule of tier front matched"];
    expect(counted).toBe(isAccepted ? undefined : 2);
  }
});
