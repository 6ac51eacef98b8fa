import { expect, test } from "bun:test";
import { FakeKernel } from "../../kernel/fake/kernel.ts";
import { openNamespace } from "../../kernel/netns.ts";
import { NftablesClient } from "../../kernel/nftables/client.ts";
import { RouteClient } from "../../kernel/route/client.ts";
import { EBUSY } from "../../kernel/errno.ts";
import type { Addr } from "../../net/addr.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { DEFAULT_SETTINGS } from "../../program/settings.ts";
import { NftablesDriver } from "./driver.ts";
import { OFFLOAD_CHAIN, TABLE } from "./names.ts";

const [A, B] = ["10.65.0.1" as Addr, "fd00:65::1" as Addr];

class Node {
  readonly kernel: FakeKernel;
  readonly sys: ReturnType<FakeKernel["startProcess"]>["sys"];
  nowMs = 0;
  driver: NftablesDriver;
  #program: Program = program({});

  constructor(options: ConstructorParameters<typeof FakeKernel>[0] = {}) {
    this.kernel = new FakeKernel(options);
    this.sys = this.kernel.startProcess().sys;
    this.driver = this.open();
  }

  open(): NftablesDriver {
    return new NftablesDriver(this.sys, {
      ownsTable: false,
      clock: { monotonicMs: () => this.nowMs, wallMs: () => this.nowMs },
    });
  }

  apply(next: Program): void {
    const endpoints = new Map(
      next.endpoints as Map<
        EndpointId,
        Program["endpoints"] extends ReadonlyMap<EndpointId, infer E> ? E | undefined : never
      >,
    );
    for (const id of this.#program.endpoints.keys()) if (!next.endpoints.has(id)) endpoints.set(id, undefined);
    this.#program = next;
    const none = { sets: new Map(), policies: new Map(), routes: new Map(), members: new Map() };
    const delta: ProgramDelta = { ...none, endpoints, settings: next.settings };
    this.driver.lower(next, delta);
  }

  restart(): void {
    this.driver.close();
    this.driver = this.open();
    const next = this.#program;
    this.#program = program({});
    this.apply(next);
    this.driver.read();
  }

  link(name: string): void {
    const path = `/run/netns/${name}`;
    this.kernel.addNamespace(path);
    const fd = openNamespace(this.sys, path);
    const client = new RouteClient(this.sys);
    client.createVeth({
      name,
      mac: "ee:ee:ee:ee:ee:ee",
      mtuBytes: 1400,
      up: false,
      peerName: "eth0",
      peerMac: undefined,
      peerNamespaceFd: fd,
    });
    client.close();
    this.sys.close(fd);
  }

  unlink(name: string): void {
    this.kernel.removeNamespace(`/run/netns/${name}`);
  }

  /** How many lead to the flowtable. */
  rules(): number {
    const client = new NftablesClient(this.sys, TABLE);
    const { length } = client.handlesOf(OFFLOAD_CHAIN);
    client.close();
    return length;
  }

  get devices(): readonly string[] | undefined {
    const client = new NftablesClient(this.sys, TABLE);
    const devices = client.steps.flowtables().get("established")?.devices;
    client.close();
    return devices?.toSorted();
  }
}

function program(endpoints: Readonly<Record<string, readonly Addr[]>>, offloadsFlows = true): Program {
  return {
    settings: { ...DEFAULT_SETTINGS, offloadsFlows },
    sets: new Map(),
    policies: new Map(),
    routes: new Map(),
    endpoints: new Map(
      Object.entries(endpoints).map(([id, addresses]) => [
        id as EndpointId,
        { kind: "workload", addresses, stages: {}, source: undefined } as never,
      ]),
    ),
  };
}

test("workloads with addresses are in the flowtable; a restart writes nothing; without the setting nothing is left of it", () => {
  const node = new Node();
  for (const name of ["cali1", "cali2"]) node.link(name);
  node.apply(program({ cali1: [A], cali2: [B], cali3: [] }));
  node.driver.read();
  expect(node.driver.plan().map(({ sign, what }) => `${sign} ${what}`)).toContain(
    "+ device cali1 of flowtable established",
  );
  node.driver.commit();
  expect(node.devices).toEqual(["cali1", "cali2"]);
  expect(node.driver.plan()).toEqual([]);
  node.restart();
  node.driver.commit();
  expect([node.driver.writes, node.driver.pending]).toEqual([0, 0]);
  node.apply(program({ cali1: [A] }));
  node.driver.commit();
  expect(node.devices).toEqual(["cali1"]);
  node.apply(program({ cali1: [A] }, false));
  node.driver.commit();
  expect(node.devices).toBeUndefined();
  expect(node.driver.pending).toBe(0);
});

test("while offloading is suspended the flowtable has no device and no rule leads to it, whatever is committed; then it is as before", () => {
  const node = new Node();
  for (const name of ["cali1", "cali2"]) node.link(name);
  node.apply(program({ cali1: [A] }));
  node.driver.read();
  node.driver.commit();
  const before = node.rules();
  expect(before).toBeGreaterThan(0);
  node.driver.suspendOffload(true);
  expect([node.devices, node.rules()]).toEqual([[], 0]);
  node.apply(program({ cali1: [A], cali2: [B] }));
  node.driver.commit();
  expect([node.devices, node.rules(), node.driver.pending]).toEqual([[], 0, 0]);
  node.driver.suspendOffload(false);
  expect([node.devices, node.rules(), node.driver.pending]).toEqual([["cali1", "cali2"], before, 0]);
  node.restart();
  expect(node.driver.plan()).toEqual([]);
  // A daemon that ends meanwhile: the next one puts everything back.
  node.driver.suspendOffload(true);
  node.restart();
  node.driver.commit();
  expect([node.devices, node.rules(), node.driver.pending]).toEqual([["cali1", "cali2"], before, 0]);
  node.apply(program({}, false));
  node.driver.commit();
  for (const isSuspended of [true, false]) node.driver.suspendOffload(isSuspended);
  expect(node.devices).toBeUndefined();
});

test("an interface that does not exist stands in nobody's way, and is taken in when it comes", () => {
  const node = new Node();
  node.link("cali1");
  node.apply(program({ cali1: [A], tap1: [B] }));
  node.driver.read();
  node.driver.commit();
  expect(node.devices).toEqual(["cali1"]);
  expect([node.driver.pending, node.driver.failures]).toEqual([0, []]);
  expect(node.driver.isProgrammed("tap1" as EndpointId)).toBe(true);
  node.link("tap1");
  node.nowMs = node.driver.dueMs ?? 0;
  node.driver.commit();
  expect(node.devices).toEqual(["cali1", "tap1"]);
  expect(node.driver.dueMs).toBeUndefined();
});

test("an interface that has gone by itself before its workload does: nothing fails", () => {
  const node = new Node();
  for (const name of ["cali1", "cali2"]) node.link(name);
  node.apply(program({ cali1: [A], cali2: [B] }));
  node.driver.read();
  node.driver.commit();
  node.unlink("cali1");
  expect(node.devices).toEqual(["cali2"]);
  node.apply(program({}));
  node.driver.commit();
  expect(node.devices).toEqual([]);
  expect(node.driver.pending).toBe(0);
});

test("a refused device is told, and closes nobody", () => {
  const node = new Node();
  for (const name of ["cali1", "cali2"]) node.link(name);
  node.kernel.faults = { request: ({ object }) => (object === "device cali1" ? EBUSY : undefined) };
  node.apply(program({ cali1: [A], cali2: [B] }));
  node.driver.read();
  node.driver.commit();
  expect(node.devices).toEqual(["cali2"]);
  expect(node.driver.failures).toMatchObject([{ row: "device cali1 of flowtable established", errno: EBUSY }]);
  expect(node.driver.isProgrammed("cali1" as EndpointId)).toBe(true);
});

test("an address that a workload loses: the flowtable is made anew, with all devices", () => {
  const node = new Node();
  for (const name of ["cali1", "cali2"]) node.link(name);
  node.apply(program({ cali1: [A, B], cali2: ["10.65.0.2" as Addr] }));
  node.driver.read();
  node.driver.commit();
  let deleted = 0;
  node.kernel.faults = {
    request: ({ does, object }) =>
      does === "delete" && object === "flowtable established" ? void deleted++ : undefined,
  };
  node.apply(program({ cali1: [A, B, "10.65.0.9" as Addr], cali2: ["10.65.0.2" as Addr] }));
  node.driver.commit();
  expect(deleted).toBe(0);
  node.apply(program({ cali1: [A], cali2: ["10.65.0.2" as Addr] }));
  node.driver.commit();
  expect(deleted).toBe(1);
  expect(node.devices).toEqual(["cali1", "cali2"]);
  expect(node.driver.plan()).toEqual([]);
  node.apply(program({ cali1: [A], cali2: [] }));
  node.driver.commit();
  expect([deleted, node.devices]).toEqual([2, ["cali1"]]);
});

test("a kernel without flowtables is told, and everything else is programmed", () => {
  const node = new Node({ hasFlowtables: false });
  node.apply(program({ cali1: [A] }));
  node.driver.read();
  node.driver.commit();
  expect(node.devices).toBeUndefined();
  expect(node.driver.isProgrammed("cali1" as EndpointId)).toBe(true);
  expect(node.driver.failures).toMatchObject([{ row: "flowtable", state: "failed" }]);
  expect(node.driver.failures[0]?.error).toStartWith("the kernel has no flowtables: ");
});
