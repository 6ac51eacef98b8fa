/**
 * Simulated clusters: many seeds hold, one seed has one history, and seeds that failed once are tried again. `SEEDS` says how many.
 *
 * They run in processes of their own, because a killed daemon leaves promises that nobody handles.
 */
import { expect, test } from "bun:test";
import { FakeKernel } from "../../src/kernel/fake/kernel.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { Graph } from "../../src/calc/graph.ts";
import { TABLE } from "../../src/dataplane/nftables/names.ts";
import { SimClock } from "../../src/host/sim/clock.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { openNamespace } from "../../src/kernel/netns.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import FAILING_SEEDS from "./failing-seeds.json";
import { checkClosed } from "./safety.ts";

const SEEDS = Number(process.env["SEEDS"] ?? 200);
/** A machine on which much else runs. */
const MS_FOR_A_SEED = 60_000;

interface Failing {
  readonly seed: number;
  readonly faults: string;
}

async function run(...args: readonly string[]): Promise<{ readonly printed: string; readonly exitCode: number }> {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/main.ts`, ...args], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [printed, errors, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { printed: printed + errors, exitCode };
}

test(
  `${SEEDS} clusters, each out of its seed, keep what is promised, whatever befalls them`,
  async () => {
    const { printed, exitCode } = await run("--seeds", String(SEEDS));
    expect(`${exitCode}\n${printed}`).toBe(`0\n${SEEDS} seeds, 0 failed\n`);
  },
  SEEDS * MS_FOR_A_SEED,
);

test(
  "the same seed is the same history, byte for byte, in every process",
  async () => {
    for (const seed of ["3", "8"]) {
      const args = ["--only", seed, "--faults", "store,kill,disk,kernel,reboot,runtime,others,rows", "--trace"];
      const [first, second] = [await run(...args), await run(...args)];
      expect(first.printed.length).toBeGreaterThan(50_000);
      expect(second.printed === first.printed).toBe(true);
    }
  },
  8 * MS_FOR_A_SEED,
);

for (const { seed, faults } of FAILING_SEEDS as readonly Failing[])
  test(
    `seed ${seed} with ${faults}, which failed once`,
    async () => {
      const { printed, exitCode } = await run("--only", String(seed), "--faults", faults);
      expect(exitCode === 0 ? "" : printed).toBe("");
    },
    MS_FOR_A_SEED,
  );

test("an interface counts as open without our table, without a rule of it, and not with all of it", () => {
  const kernel = new FakeKernel();
  kernel.addNamespace("/pod");
  const { sys } = kernel.startProcess();
  const routes = new RouteClient(sys);
  routes.createVeth({
    name: "cali1",
    mac: "ee:ee:ee:ee:ee:ee",
    mtuBytes: 1500,
    up: false,
    peerName: "eth0",
    peerMac: undefined,
    peerNamespaceFd: openNamespace(sys, "/pod"),
  });
  expect(checkClosed(kernel)).toBeUndefined();
  routes.setLinkUp(routes.linkByName("cali1")?.index ?? 0);
  expect(checkClosed(kernel)).toContain("cali1");
  const graph = new Graph({ node: "n1" });
  const driver = new NftablesDriver(sys, { ownsTable: false, clock: new SimClock() });
  driver.lower(graph.program, graph.flush());
  driver.read();
  driver.commit();
  expect(checkClosed(kernel)).toBeUndefined();
  const other = new NftablesClient(sys, TABLE);
  other.commit([{ do: "flush-chain", chain: "input" }]);
  expect(checkClosed(kernel)).toContain("takes a packet with a source that is nobody's");
});
