/** The eBPF dataplane's maps on the real kernel: what is written is read back as the same program, a restart writes nothing, and changes leave nothing behind. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { programOf } from "../../src/calc/from-scratch.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { DROPS } from "../../src/dataplane/ebpf/layout.ts";
import { readProgram } from "../../src/dataplane/ebpf/read.ts";
import { formatKey, formatName } from "../../src/model/key.ts";
import { TCP } from "../../src/net/protocol.ts";
import type { Sys } from "../../src/host/sys.ts";
import { E2BIG } from "../../src/kernel/errno.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Prefix } from "../../src/net/prefix.ts";
import type { Atom, PolicyId, SetId, SetMembers } from "../../src/program/policy.ts";
import {
  type Endpoint,
  type EndpointId,
  policiesNamedBy,
  type Program,
  type ProgramDelta,
  stagesOf,
} from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { randomCluster } from "../property/clusters.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { makeNamespace, type Namespace, REAL, removeNamespace, sys } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";
import { OBJECT, openEbpf } from "./ebpf-driver.ts";

const CLUSTERS = 30;
const FIRST_SEED = 8_000_000;

let fs: BpfFs;
let node: Namespace;

beforeAll(() => {
  fs = makeBpfFs();
  node = makeNamespace("node");
});
afterAll(() => {
  removeNamespace(node);
  fs.remove();
});

function open(): EbpfDriver {
  const driver = openEbpf(node, fs.path);
  return driver;
}

function commit(driver: EbpfDriver, program: Program): void {
  driver.lower(program, { ...program, members: new Map() });
  finishSteps(driver.committing());
}

const interfaces = new Set<string>();

function ensureInterface(name: string): void {
  if (interfaces.has(name)) return;
  interfaces.add(name);
  node.run(["ip", "link", "add", name, "type", "veth", "peer", "name", `peer${interfaces.size}`]);
}

/** The node n1's program, with an interface for each endpoint. */
function randomProgram(seed: number): Program {
  const cluster = randomCluster(seed);
  const felixConfigurations = cluster.felixConfigurations.map((felix) => ({
    ...felix,
    spec: { ...felix.spec, bpfEnabled: true },
  }));
  const program = programOf({ ...cluster, felixConfigurations, pools: [], node: "n1" });
  for (const id of program.endpoints.keys()) if (id !== "*") ensureInterface(id);
  return program;
}

/** What the maps hold of it, in an order that does not matter. */
function comparable({ sets, policies, endpoints }: Pick<Program, "sets" | "policies" | "endpoints">): unknown {
  return {
    sets: new Map([...sets].sort(([a], [b]) => (a < b ? -1 : 1))),
    policies: [...policies.values()]
      .filter(({ ingress, egress }) => ingress !== undefined || egress !== undefined)
      .map((policy) => ({ ...policy, id: formatKey(policy.source) }))
      .sort((a, b) => (a.id < b.id ? -1 : 1)),
    endpoints: new Map(
      [...endpoints]
        .map(([id, endpoint]): [EndpointId, Endpoint] => {
          // What is asked to count alone is not in the maps yet.
          const { staged: _, ...deciding } = endpoint;
          return [id, { ...deciding, addresses: [...endpoint.addresses].sort() }];
        })
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
  };
}

test("what is written is read back by another process as the same program, which then writes nothing", () => {
  for (let i = 0; i < CLUSTERS; i++) {
    const program = randomProgram(FIRST_SEED + i);
    const driver = open();
    commit(driver, program);
    expect(driver.pending).toBe(0);
    driver.close();
    const next = open();
    if (next.image === undefined) throw new Error("not read");
    expect(comparable(readProgram(next.image))).toEqual(comparable(program));
    expect(next.image.repairs).toEqual([]);
    next.lower(program, { ...program, members: new Map() });
    expect(next.plan()).toEqual([]);
    const before = next.writes;
    finishSteps(next.committing());
    expect(next.writes - before).toBe(0);
    next.close();
  }
});

/** What leads from one program to the other, without members: they are to be compared. */
function deltaOf(before: Program, now: Program): ProgramDelta {
  const changed = <K, V>(a: ReadonlyMap<K, V>, b: ReadonlyMap<K, V>): Map<K, V | undefined> =>
    new Map(
      [...new Set([...a.keys(), ...b.keys()])].flatMap((key) =>
        Bun.deepEquals(a.get(key), b.get(key)) ? [] : [[key, b.get(key)] as const],
      ),
    );
  return {
    sets: changed(before.sets, now.sets),
    policies: changed(before.policies, now.policies),
    endpoints: changed(before.endpoints, now.endpoints),
    routes: new Map(),
    members: new Map(),
  };
}

test("a change that is planned by itself leaves the maps as if everything had been compared", () => {
  const seeds = Array.from({ length: 40 }, (_, i) => FIRST_SEED + 100 + i);
  const programs = new Map(seeds.map((seed) => [seed, randomProgram(seed)]));
  let before = randomProgram(FIRST_SEED);
  const driver = open();
  commit(driver, before);
  let partly = 0;
  for (const [seed, other] of programs) {
    // Two clusters differ in everything: some of one, and some of the other.
    const mixed = <K, V>(own: ReadonlyMap<K, V>, others: ReadonlyMap<K, V>): Map<K, V> =>
      new Map([...own, ...others].filter(([key]) => others.has(key) || (String(key).length + seed) % 3 > 0));
    const mixture: Program = {
      ...before,
      sets: new Map([...before.sets, ...other.sets]),
      policies: new Map([...before.policies, ...other.policies]),
      endpoints: mixed(before.endpoints, other.endpoints),
    };
    const now = withoutUnused(mixture);
    const delta = deltaOf(before, now);
    driver.lower(now, delta);
    const isWhole =
      delta.sets.size >= now.sets.size &&
      delta.policies.size >= now.policies.size &&
      delta.endpoints.size >= now.endpoints.size;
    if (!isWhole) partly++;
    finishSteps(driver.committing());
    const next = open();
    next.lower(now, { ...now, members: new Map() });
    expect([seed, next.plan()]).toEqual([seed, []]);
    expect(next.image?.repairs).toEqual([]);
    next.close();
    expect(driver.plan()).toEqual([]);
    before = now;
  }
  expect(partly).toBeGreaterThan(seeds.length / 2);
  driver.close();
}, 120_000);

/** As the calculation has it: a policy is there while an endpoint runs it, a set while a rule names it. */
function withoutUnused(program: Program): Program {
  const run = new Set(
    [...program.endpoints.values()].flatMap((each) => stagesOf(each).flatMap(({ stage }) => policiesNamedBy(stage))),
  );
  const policies = new Map([...program.policies].filter(([id]) => run.has(id)));
  const named = new Set(
    [...policies.values()].flatMap(({ ingress = [], egress = [] }) =>
      [...ingress, ...egress].flatMap(({ when }) =>
        when.flatMap(({ any }) => any.flatMap((atom) => ("set" in atom ? [atom.set] : []))),
      ),
    ),
  );
  return { ...program, policies, sets: new Map([...program.sets].filter(([id]) => named.has(id))) };
}

test("with no program nothing is left in the maps", () => {
  const driver = open();
  commit(driver, randomProgram(FIRST_SEED));
  const { settings } = randomProgram(FIRST_SEED);
  commit(driver, { settings, sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map() });
  const { maps } = driver;
  for (const map of [maps.endpoints, maps.addresses, maps.members, maps.nets, maps.objects, maps.texts])
    expect(map.entries()).toEqual([]);
  driver.close();
});

test("counters that are asked for while a commit writes wait for it", async () => {
  const driver = open();
  const program = randomProgram(FIRST_SEED + 3);
  driver.lower(program, { ...program, members: new Map() });
  const steps = driver.committing();
  for (let i = 0; i < 3; i++) expect(steps.next().done).toBe(false);
  const asked = driver.counters(program);
  finishSteps(steps);
  const { rules, drops } = await asked;
  expect(rules.length).toBeGreaterThan(0);
  expect(drops?.length).toBe(DROPS.length);
  driver.close();
});

test("a change of one member writes that member and the switch alone", () => {
  const driver = open();
  const program = randomProgram(FIRST_SEED + 3);
  commit(driver, program);
  const [id, set] = [...program.sets].find(([, { type }]) => type === "address") ?? [];
  if (id === undefined || set?.type !== "address") throw new Error("no set");
  const changed = { ...set, hosts: new Set([...set.hosts, "10.65.0.99" as never]) };
  driver.lower({ ...program, sets: new Map([...program.sets, [id, changed]]) }, { ...program, members: new Map() });
  expect(driver.plan().map(({ sign, what }) => `${sign} ${what}`)).toEqual([`~ set ${id} (1 members more, 0 less)`]);
  const before = driver.writes;
  finishSteps(driver.committing());
  expect(driver.writes - before).toBe(2);
  driver.close();
});

test("a policy that is too long for a jump closes the pods that run it, and nothing else; it opens when it is shorter", () => {
  const driver = open();
  const program = randomProgram(FIRST_SEED + 3);
  const [id, policy] =
    [...program.policies].find(([, { ingress }]) => ingress !== undefined && ingress.length > 0) ?? [];
  if (id === undefined || policy === undefined) throw new Error("no policy");
  const any = Array.from({ length: 70_000 }, (): Atom => ({
    on: "ports",
    side: "source",
    protocol: TCP,
    from: 1,
    to: 1,
  }));
  const [first, ...others] = policy.ingress ?? [];
  if (first === undefined) throw new Error("no rule");
  const long = { ...policy, ingress: [{ ...first, when: [{ not: false, any }] }, ...others] };
  const changed = { ...program, policies: new Map([...program.policies, [id, long]]) };
  commit(driver, changed);
  const running = [...program.endpoints].filter(([, endpoint]) =>
    stagesOf(endpoint).some(({ stage, direction }) => direction === "ingress" && policiesNamedBy(stage).includes(id)),
  );
  expect(running.length).toBeGreaterThan(0);
  expect(driver.failures.map(({ row, state }) => `${row} ${state}`).sort()).toEqual(
    [
      `policy ${formatName(policy.source)} failed`,
      ...running.map(
        ([, { kind, source }]) => `${kind === "host" ? "host endpoint" : "pod"} ${formatName(source)} closed`,
      ),
    ].sort(),
  );
  if (driver.image === undefined) throw new Error("not written");
  const read = readProgram(driver.image).endpoints;
  for (const [endpoint, { stages }] of program.endpoints) {
    const isClosed = running.some(([each]) => each === endpoint);
    const closed = { tiers: [], profiles: [], otherwise: "deny" } as const;
    expect(driver.isProgrammed(endpoint)).toBe(!isClosed);
    expect(driver.explain(endpoint)).toBe(isClosed ? "a policy of it is not programmed" : undefined);
    expect(read.get(endpoint)?.stages.normal?.egress).toEqual(stages.normal?.egress);
    if (isClosed) expect(read.get(endpoint)?.stages.normal?.ingress).toEqual(closed);
  }
  commit(driver, program);
  expect(driver.failures).toEqual([]);
  driver.close();
});

/** A kernel whose map of members has room for so many in one call. */
function narrow(room: () => number): Sys {
  const BATCH_UPDATE = 26;
  return {
    ...sys,
    bpf(command, attributes, pointers) {
      const view = new DataView(attributes.buffer);
      const isTooMany = command === BATCH_UPDATE && view.getUint32(32, true) > room();
      return isTooMany && pointers[0]?.bytes.length === view.getUint32(32, true) * 24
        ? -E2BIG
        : sys.bpf(command, attributes, pointers);
    },
  };
}

test("a set for which the kernel has no room closes the pods whose policies name it, and nothing else; it is tried again", () => {
  let now = 0;
  let room = Infinity;
  const clock = { ...openClock(), monotonicMs: () => now };
  const narrowed = narrow(() => room);
  const driver = node.enter(
    () => new EbpfDriver(narrowed, { object: () => OBJECT, pins: fs.path, clock, ownsTable: false, report: () => {} }),
  );
  finishSteps(driver.reading());
  const program = randomProgram(FIRST_SEED + 3);
  commit(driver, program);
  const users = (set: SetId): EndpointId[] => {
    const policies = [...program.policies].filter(([, { ingress = [], egress = [] }]) =>
      [...ingress, ...egress].some(({ when }) =>
        when.some(({ any }) => any.some((atom) => "set" in atom && atom.set === set)),
      ),
    );
    const names = new Set(policies.map(([id]) => id));
    return [...program.endpoints].flatMap(([id, endpoint]) =>
      stagesOf(endpoint).some(({ stage }) => policiesNamedBy(stage).some((policy) => names.has(policy))) ? [id] : [],
    );
  };
  const [id, set] =
    [...program.sets].find(
      ([each, { type }]) => type === "address" && users(each).length > 0 && users(each).length < program.endpoints.size,
    ) ?? [];
  if (id === undefined || set?.type !== "address") throw new Error("no set");
  const hosts = new Set([...set.hosts, ...Array.from({ length: 200 }, (_, i) => `10.99.0.${i}` as Addr)]);
  const changed = { ...program, sets: new Map([...program.sets, [id, { ...set, hosts }]]) };
  const none = { policies: new Map(), endpoints: new Map(), routes: new Map(), members: new Map() };
  room = 100;
  driver.lower(changed, { ...none, sets: new Map([[id, { ...set, hosts }]]) });
  finishSteps(driver.committing());
  const expectClosed = (isClosed: boolean): void => {
    for (const endpoint of program.endpoints.keys())
      expect([endpoint, driver.isProgrammed(endpoint)]).toEqual([
        endpoint,
        !(isClosed && users(id).includes(endpoint)),
      ]);
    expect(driver.failures.some(({ row, errno }) => row === `set ${id}` && errno === E2BIG)).toBe(isClosed);
    expect(driver.pending).toBe(0);
  };
  expectClosed(true);
  // Others go on meanwhile.
  const [other] = [...program.endpoints].find(([each]) => !users(id).includes(each)) ?? [];
  if (other === undefined) throw new Error("no other endpoint");
  const before = driver.image?.state.generation ?? 0;
  driver.lower(
    { ...changed, endpoints: new Map([...program.endpoints].filter(([each]) => each !== other)) },
    { ...none, sets: new Map(), endpoints: new Map([[other, undefined]]) },
  );
  finishSteps(driver.committing());
  expect(driver.image?.state.generation).toBe(before + 1);
  driver.lower(changed, { ...none, sets: new Map(), endpoints: new Map([[other, program.endpoints.get(other)]]) });
  finishSteps(driver.committing());
  expectClosed(true);
  room = Infinity;
  now = driver.dueMs ?? 0;
  expect(now).toBeGreaterThan(0);
  finishSteps(driver.committing());
  expectClosed(false);
  if (driver.image === undefined) throw new Error("not written");
  expect(comparable(readProgram(driver.image))).toEqual(comparable(changed));
  driver.close();
  const next = open();
  if (next.image === undefined) throw new Error("not read");
  expect(comparable(readProgram(next.image))).toEqual(comparable(changed));
  expect(next.image.repairs).toEqual([]);
  next.close();
});

test("networks that the calculation changes in place are noticed", () => {
  const driver = open();
  const program = randomProgram(FIRST_SEED + 3);
  const source = { kind: "NetworkPolicy", namespace: "a", name: "nets" } as const;
  const set = "s-nets" as SetId;
  const nets = new Set(["192.0.2.0/24" as Prefix]);
  const when = [{ not: false, any: [{ on: "set", side: "source", set } as const] }];
  const policy = {
    source,
    tier: "default",
    ingress: [{ id: { source, direction: "ingress", index: 0 }, when, action: "allow" } as const],
    egress: undefined,
    error: undefined,
  };
  const members = { type: "nets", nets } as const;
  const policies = new Map([...program.policies, ["NetworkPolicy/a/nets" as PolicyId, policy]]);
  const wanted = { ...program, sets: new Map([...program.sets, [set, members]]), policies };
  commit(driver, wanted);
  nets.add("198.51.100.0/24" as Prefix);
  const none = { policies: new Map(), endpoints: new Map(), routes: new Map() };
  const change = { added: ["198.51.100.0/24"], removed: [] };
  driver.lower(wanted, { ...none, sets: new Map([[set, members]]), members: new Map([[set, change]]) });
  finishSteps(driver.committing());
  driver.close();
  const next = open();
  const found = [...(next.image?.sets.values() ?? [])].filter(({ id }) => id === set);
  expect(found.map((each) => [...each.nets].sort())).toEqual([[...nets].sort()]);
  next.close();
});

test("what an interrupted commit has left is taken back by the next process", () => {
  const driver = open();
  const program = randomProgram(FIRST_SEED + 4);
  commit(driver, program);
  driver.close();
  // It ends before the switch: the generation is never written.
  const other = randomProgram(FIRST_SEED + 5);
  const broken = open();
  const { state } = broken.maps;
  Object.assign(state, {
    updateAll: () => {
      throw new Error("killed");
    },
  });
  expect(() => commit(broken, other)).toThrow("killed");
  broken.close();
  const next = open();
  if (next.image === undefined) throw new Error("not read");
  expect(comparable({ ...readProgram(next.image), sets: new Map(), policies: new Map() })).toEqual(
    comparable({ ...program, sets: new Map(), policies: new Map() }),
  );
  commit(next, program);
  next.close();
  const last = open();
  if (last.image === undefined) throw new Error("not read");
  expect(comparable(readProgram(last.image))).toEqual(comparable(program));
  expect(last.image.repairs).toEqual([]);
  last.close();
});

test("interfaces have their programs, and a restart adopts them", () => {
  const driver = open();
  const program = randomProgram(FIRST_SEED + 6);
  ensureInterface("uplink");
  commit(driver, program);
  driver.close();
  const [id] = [...program.endpoints].find(([, { kind }]) => kind === "workload") ?? [];
  const filters = (device: string, side: string): string => node.run(["tc", "filter", "show", "dev", device, side]);
  if (id === undefined) throw new Error("no workload");
  expect(filters(id, "ingress")).toContain("calico from_workload");
  expect(filters(id, "egress")).toContain("calico to_workload");
  expect(filters("uplink", "egress")).toContain("calico to_network");
  expect(filters("uplink", "ingress")).toContain("calico from_network");
  const shown = filters(id, "ingress");
  const next = open();
  commit(next, program);
  next.close();
  expect(filters(id, "ingress")).toBe(shown);
});

test("large sets are read, and many are planned, in steps of about a thousand elements and of some sets", () => {
  const space = makeNamespace("steps");
  const own = makeBpfFs();
  try {
    const hosts = Array.from({ length: 10_000 }, (_, i) => `10.${i >> 14}.${(i >> 6) & 255}.${i & 63}` as Addr);
    const nets = hosts.map((addr) => `${addr}/32` as Prefix);
    const sets = new Map<SetId, SetMembers>([
      ["s-large" as SetId, { type: "address", hosts: new Set(hosts), nets: new Set(nets) }],
    ]);
    for (let i = 0; i < 100; i++) sets.set(`s-${i}` as SetId, { type: "address", hosts: new Set(), nets: new Set() });
    const program = { settings: DEFAULT_SETTINGS, sets, policies: new Map(), endpoints: new Map(), routes: new Map() };
    const driver = openEbpf(space, own.path);
    commit(driver, program);
    driver.close();
    const next = new EbpfDriver(sysIn(REAL, space), {
      object: () => OBJECT,
      pins: own.path,
      clock: openClock(),
      ownsTable: false,
      report: () => {},
    });
    const steps = (): number => [...next.reading()].length;
    const [reading, all] = [steps(), (next.lower(program, { ...program, members: new Map() }), steps())];
    // Of hosts and of networks; of planning.
    expect(reading).toBeGreaterThanOrEqual(20);
    expect(all - reading).toBeGreaterThanOrEqual(6);
    expect(next.plan()).toEqual([]);
    next.close();
  } finally {
    removeNamespace(space);
    own.remove();
  }
});
