/**
 * The wait for packets under way: a commit is in force before it ends, what only the generation before has goes after it, and nothing of the next generation is
 * written before it. The kernel waits on a thread of its own; here also on one that the test holds.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { awaitSteps, finishSteps, type Steps } from "../../src/dataplane/driver.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { decodeState } from "../../src/dataplane/ebpf/layout.ts";
import { PROGRAMS } from "../../src/dataplane/ebpf/maps.ts";
import { probingEbpf } from "../../src/dataplane/ebpf/probe.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { startCallThread } from "../../src/host/bun/threads.ts";
import { type LongCalls, ThreadCalls } from "../../src/kernel/bpf/long-calls.ts";
import { ENOMEM } from "../../src/kernel/errno.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { OBJECT, openEbpf } from "./ebpf-driver.ts";
import { makeNamespace, type Namespace, REAL, removeNamespace, sys } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";

const OPEN: Stage = { tiers: [], profiles: [], otherwise: "allow" };
const [POD, OTHER] = ["cali0", "cali1"] as readonly string[] as readonly [EndpointId, EndpointId];
const [FIRST, SECOND, THIRD] = ["10.65.0.1", "fd00:65::1", "10.65.0.3"] as readonly string[] as readonly [
  Addr,
  Addr,
  Addr,
];

/** Calls that are answered when the test says so; until it holds them, at once. */
class HeldCalls implements LongCalls {
  isBeside = false;
  readonly #held: ((refusal?: number) => void)[] = [];

  bpf(...call: Parameters<LongCalls["bpf"]>): number | Promise<number> {
    if (!this.isBeside) return sys.bpf(...call);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#held.push((refusal) => resolve(refusal ?? sys.bpf(...call)));
    return promise;
  }

  get count(): number {
    return this.#held.length;
  }

  /** `refusal`: the kernel's answer; absent: the calls are made. */
  answer(refusal?: number): void {
    for (const each of this.#held.splice(0)) each(refusal);
  }

  close(): void {
    this.answer();
  }
}

function program(addresses: readonly Addr[], others: readonly Addr[] = []): Program {
  const pod = (name: string, own: readonly Addr[]): Endpoint => ({
    kind: "workload",
    source: { kind: "Pod", namespace: "a", name },
    addresses: own,
    stages: { normal: { ingress: OPEN, egress: OPEN } },
  });
  const endpoints = new Map([[POD, pod("pod", addresses)]]);
  if (others.length > 0) endpoints.set(OTHER, pod("other", others));
  return { settings: DEFAULT_SETTINGS, sets: new Map(), policies: new Map(), endpoints, routes: new Map() };
}

let fs: BpfFs;
let node: Namespace;
let calls: HeldCalls;
let driver: EbpfDriver;

beforeEach(() => {
  fs = makeBpfFs();
  node = makeNamespace("node");
  for (const name of [POD, OTHER])
    node.run(["ip", "link", "add", name, "type", "veth", "peer", "name", `${name}-peer`]);
  calls = new HeldCalls();
  driver = openEbpf(node, fs.path, OBJECT, calls);
  lower(program([FIRST, SECOND]));
  finishSteps(driver.committing());
  calls.isBeside = true;
});
afterEach(() => {
  driver.close();
  removeNamespace(node);
  fs.remove();
});

function lower(wanted: Program): void {
  driver.lower(wanted, {
    endpoints: wanted.endpoints,
    sets: new Map(),
    policies: new Map(),
    routes: new Map(),
    members: new Map(),
  });
}

function begin(wanted: Program): Steps {
  lower(wanted);
  return driver.committing();
}

/** Goes on to where they wait, and returns for what; undefined: they do not. */
function waits(steps: Steps): { readonly over: Promise<void> } | undefined {
  for (let step = steps.next(); step.done !== true; step = steps.next())
    if (step.value !== undefined) return { over: step.value };
  return undefined;
}

function generation(): number {
  const value = driver.maps.state.lookup(new Uint8Array(4));
  if (value === undefined) throw new Error("no state");
  return decodeState(value).generation;
}

function addresses(): number {
  return driver.maps.addresses.entries().length;
}

test("the commit is in force from the switch on, and what it takes away goes when packets under way are through", async () => {
  const before = generation();
  const commit = begin(program([FIRST]));
  const wait = waits(commit);
  expect(wait).toBeDefined();
  expect([generation(), driver.isProgrammed(POD), driver.pending, addresses()]).toEqual([before + 1, true, 0, 2]);
  calls.answer();
  await wait?.over;
  await awaitSteps(commit);
  expect(addresses()).toBe(1);
});

test("where nothing goes, the commit ends at once, and the next one writes nothing until packets under way are through", async () => {
  const before = generation();
  expect(waits(begin(program([FIRST, SECOND, THIRD])))).toBeUndefined();
  expect([generation(), driver.isProgrammed(POD), calls.count]).toEqual([before + 1, true, 1]);
  const written = driver.maps.writes;
  const next = begin(program([FIRST, SECOND, THIRD], ["10.65.0.4" as Addr]));
  const wait = waits(next);
  expect(wait).toBeDefined();
  expect([generation(), driver.maps.writes, driver.isProgrammed(OTHER)]).toEqual([before + 1, written, false]);
  calls.answer();
  await wait?.over;
  await awaitSteps(next);
  expect([generation(), driver.isProgrammed(OTHER)]).toEqual([before + 2, true]);
  calls.answer();
});

test("what comes while a commit writes is not in force when that one ends", () => {
  calls.isBeside = false;
  const { writes } = driver.maps;
  const commit = begin(program([FIRST]));
  while (driver.maps.writes === writes) commit.next();
  lower(program([FIRST, THIRD]));
  finishSteps(commit);
  expect([driver.isProgrammed(POD), driver.explain(POD), driver.isFresh]).toEqual([false, undefined, true]);
  finishSteps(driver.committing());
  expect([driver.isProgrammed(POD), driver.pending]).toEqual([true, 0]);
});

test("an endpoint that a commit brings into force, begun or not, is not given up", () => {
  calls.isBeside = false;
  node.run(["ip", "link", "del", OTHER]);
  finishSteps(driver.reading());
  lower(program([FIRST, SECOND], [THIRD]));
  finishSteps(driver.committing());
  expect(driver.explain(OTHER)).toBe("interface cali1 does not exist");
  node.run(["ip", "link", "add", OTHER, "type", "veth", "peer", "name", `${OTHER}-peer`]);
  driver.guard(Number(node.run(["cat", `/sys/class/net/${OTHER}/ifindex`])), OTHER);
  const commit = driver.committing();
  for (let isDone: boolean | undefined = false; isDone !== true; isDone = commit.next().done)
    expect([driver.isProgrammed(OTHER) || driver.explain(OTHER)]).not.toContainEqual(expect.any(String));
  expect(driver.isProgrammed(OTHER)).toBe(true);
});

test("a wait that the kernel refuses is an error of the commit that needs it", async () => {
  const commit = begin(program([FIRST]));
  const wait = waits(commit);
  expect(wait).toBeDefined();
  calls.answer(-ENOMEM);
  await wait?.over;
  await expect(awaitSteps(commit)).rejects.toThrow(/^Cannot update element of map barrier/);
  expect(addresses()).toBe(2);
});

test("what has once been tried on this machine is not tried again at the next start", () => {
  const own = makeBpfFs();
  try {
    const options = { sys: sysIn(REAL, node), object: OBJECT, directory: own.path };
    expect(finishSteps(probingEbpf(options))).toBeUndefined();
    const socket = (): number => {
      throw new Error("no interface is to be made");
    };
    expect(finishSteps(probingEbpf({ ...options, sys: { ...options.sys, socket } }))).toBeUndefined();
  } finally {
    own.remove();
  }
});

test("the thread of calls waits for packets and loads programs while this one goes on", async () => {
  const reports: string[] = [];
  const beside = new ThreadCalls({ sys, start: startCallThread, report: (message) => reports.push(message) });
  const own = makeBpfFs();
  try {
    const options = { object: () => OBJECT, pins: own.path, clock: openClock(), ownsTable: false, report: () => {} };
    const opened = new EbpfDriver(sysIn(REAL, node), { ...options, calls: beside });
    const waited: unknown[] = [];
    for (const step of opened.reading()) {
      if (step !== undefined) waited.push(step);
      await step;
    }
    // One for each program.
    expect(waited.length).toBe(PROGRAMS.length);
    const wanted = program([FIRST, SECOND]);
    opened.lower(wanted, { ...wanted, members: new Map() });
    await awaitSteps(opened.committing());
    const less = program([FIRST]);
    opened.lower(less, { ...less, members: new Map() });
    await awaitSteps(opened.committing());
    expect(opened.maps.addresses.entries().length).toBe(1);
    expect(beside.isBeside).toBe(true);
    opened.close();
    expect(reports).toEqual([]);
  } finally {
    own.remove();
  }
});
