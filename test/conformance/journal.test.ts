/**
 * A disk of 64 KiB under the daemon's journal: pods that find no place are refused with the reason and cost no address, pods that have
 * one live on and can be stopped, whatever dies meanwhile.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { BareNode } from "./bare-node.ts";
import { execute, Lab, list, namespace, until } from "./fixture.ts";
import { addressesIn, type Answer, Runtime } from "./runtime.ts";

const lab = new Lab();
const NS = "full";
const STARTS = 200;
const AT_ONCE = 4;
const PODS = Array.from({ length: 24 }, (_, i) => `pod-${i}`);
const bare = new BareNode(lab);
const runtime = new Runtime(lab, bare, NS);
const paths = new Map<string, string>();
/** Addresses of the pods that run. */
const live = new Map<string, readonly string[]>();

beforeAll(async () => {
  await lab.up("--dual-stack", "--nodes", "1");
  await bare.up();
  await lab.apply(list(namespace(NS), ...PODS.map((name) => runtime.pod(name))));
  for (const name of PODS) paths.set(name, await runtime.netns(name));
  await bare.kill();
  mkdirSync(bare.journal, { recursive: true });
  await mount("size=64k");
  await bare.start();
}, 180_000);

afterAll(async () => {
  await runtime.down();
  await bare.down();
  await lab.down();
}, 60_000);

async function mount(options: string): Promise<void> {
  const { exitCode, stderr } = await execute(["mount", "-t", "tmpfs", "-o", options, "tmpfs", bare.journal]);
  expect([exitCode, stderr]).toEqual([0, ""]);
}

const add = (name: string): Promise<Answer> => runtime.cni("ADD", name, paths.get(name) ?? "", name);

async function start(name: string): Promise<boolean> {
  const added = await add(name);
  if (added.exitCode === 0) live.set(name, addressesIn(added));
  else
    expect(added.answer).toMatchObject({
      msg: expect.stringContaining(name),
      details: expect.stringMatching(/Cannot write ".*": ENOSPC/),
    });
  return added.exitCode === 0;
}

async function stop(name: string): Promise<void> {
  expect(await runtime.cni("DEL", name, paths.get(name) ?? "", name)).toEqual({ exitCode: 0, answer: {} });
  live.delete(name);
}

/** Takes every byte that is left, to the last page; returns how to give them back. */
function fill(): () => void {
  const path = `${bare.journal}/filler`;
  for (let bytes = 64 * 1024; bytes > 0; bytes -= 4096) {
    try {
      writeFileSync(path, new Uint8Array(bytes));
      break;
    } catch {
      rmSync(path);
    }
  }
  return () => rmSync(path, { force: true });
}

async function expectNothingLeaks(): Promise<void> {
  expect(await runtime.recordedAddresses()).toEqual([...live.values()].flat().sort());
  expect((await runtime.hostInterfaces()).length).toBe(live.size);
}

describe("a journal of 64 KiB", () => {
  test(`${STARTS} pods are started and stopped: failures give the reason, and nothing leaks`, async () => {
    let refused = 0;
    for (let i = 0; i < STARTS; i += AT_ONCE) {
      const names = Array.from({ length: AT_ONCE }, (_, j) => PODS[(i + j) % PODS.length] ?? "");
      const results = await Promise.all(
        names.map(async (name) => {
          if (live.has(name)) await stop(name);
          return start(name);
        }),
      );
      refused += results.filter((ok) => !ok).length;
    }
    expect(refused).toBeGreaterThan(STARTS / 10);
    expect(live.size).toBeGreaterThan(5);
    await expectNothingLeaks();
  }, 120_000);

  test("STATUS fails while there is no space for another record, and succeeds when there is", async () => {
    const [name = ""] = live.keys();
    await stop(name);
    await expectNothingLeaks();
    const free = fill();
    expect((await runtime.cni("STATUS", "", "", "")).answer).toMatchObject({
      code: 50,
      msg: "calico node cannot record pods: new pods would be refused",
      details: expect.stringMatching(/Cannot write ".*": ENOSPC/),
    });
    free();
    expect((await runtime.cni("STATUS", "", "", "")).exitCode).toBe(0);
  });

  test("a pod that is refused again and again holds no address, and its DEL ends", async () => {
    const free = fill();
    const name = PODS.find((candidate) => !live.has(candidate)) ?? "";
    for (let i = 0; i < 20; i++) expect(await start(name)).toBe(false);
    await expectNothingLeaks();
    await stop(name);
    free();
    await expectNothingLeaks();
  }, 60_000);

  test("DEL needs no space, and what it began is finished by the next daemon", async () => {
    const free = fill();
    const [first = "", second = ""] = live.keys();
    await stop(first);
    await bare.kill();
    await bare.start();
    await expectNothingLeaks();
    await stop(second);
    free();
    await expectNothingLeaks();
  }, 60_000);

  test("a daemon that starts with a full disk knows its pods", async () => {
    const free = fill();
    await bare.kill();
    await bare.start();
    for (const name of live.keys())
      expect((await runtime.cni("CHECK", name, paths.get(name) ?? "", name)).exitCode).toBe(0);
    free();
    await expectNothingLeaks();
  }, 60_000);

  test("with more space every pod starts and stops again", async () => {
    await execute(["mount", "-o", "remount,size=1m", bare.journal]);
    await until("STATUS to be well", async () => (await runtime.cni("STATUS", "", "", "")).exitCode === 0);
    for (const name of PODS) if (!live.has(name)) expect(await start(name)).toBe(true);
    await expectNothingLeaks();
    for (const name of PODS) await stop(name);
    await expectNothingLeaks();
    expect(runtime.journal()).toEqual([]);
  }, 60_000);
});
