/**
 * The iptables driver on the machine's kernel, both variants and families: what it writes is what it reads, a restart writes nothing, what others
 * break is repaired, what others have is left alone, and what is refused stops nobody else.
 */
import { describe, expect, test } from "bun:test";
import { programOf } from "../../src/calc/from-scratch.ts";
import { awaitSteps } from "../../src/dataplane/driver.ts";
import { IptablesDriver } from "../../src/dataplane/iptables/driver.ts";
import { setName } from "../../src/dataplane/iptables/names.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import type { Processes } from "../../src/host/processes.ts";
import { IpSetClient } from "../../src/kernel/ipset/client.ts";
import { IptablesClient, type Variant } from "../../src/kernel/iptables/client.ts";
import { VirtualClock } from "../../src/lib/virtual-clock.ts";
import type { Program, ProgramDelta } from "../../src/program/program.ts";
import { randomCluster } from "../property/clusters.ts";
import { makeNamespace, type Namespace, processesIn, removeNamespace, sys } from "./fixture.ts";

const VARIANTS: readonly Variant[] = ["legacy", "nft"];
const NODE = "n1";

function programOfSeed(seed: number): Program {
  const interfaces = new Map([["eth0", []]]);
  return programOf({ ...randomCluster(seed), pools: [], node: NODE, interfaces });
}

/** The programs run in the namespace. */
function notedProcessesIn(namespace: Namespace, commands: string[] = []): Processes {
  const own = processesIn(namespace);
  return {
    run: (command, options) => {
      commands.push(command.join(" "));
      return own.run(command, options);
    },
  };
}

function whole({ sets, policies, endpoints, routes }: Program): ProgramDelta {
  return { sets, policies, endpoints, routes, members: new Map() };
}

/** The whole of another program, without saying how members changed. */
function from(before: Program, now: Program): ProgramDelta {
  const gone = <K, V>(old: ReadonlyMap<K, V>, current: ReadonlyMap<K, V>): ReadonlyMap<K, V | undefined> =>
    new Map<K, V | undefined>([
      ...[...old.keys()].filter((key) => !current.has(key)).map((key) => [key, undefined] as const),
      ...current,
    ]);
  return {
    sets: gone(before.sets, now.sets),
    policies: gone(before.policies, now.policies),
    endpoints: gone(before.endpoints, now.endpoints),
    routes: gone(before.routes, now.routes),
    members: new Map(),
    settings: now.settings,
  };
}

interface Bench {
  readonly namespace: Namespace;
  readonly commands: string[];
  driver(processes?: Processes): IptablesDriver;
  run(...command: readonly string[]): string;
}

async function withBench(variant: Variant, run: (bench: Bench) => Promise<void>): Promise<void> {
  const namespace = makeNamespace("iptables");
  const drivers: IptablesDriver[] = [];
  const commands: string[] = [];
  try {
    await run({
      namespace,
      commands,
      driver: (processes = notedProcessesIn(namespace, commands)) => {
        const options = { processes, variant, families: new Set([4, 6] as const), clock: openClock() };
        const driver = namespace.enter(() => new IptablesDriver(sys, options));
        drivers.push(driver);
        return driver;
      },
      run: (...command) => namespace.run(command),
    });
  } finally {
    for (const driver of drivers) driver.close();
    removeNamespace(namespace);
  }
}

async function settle(driver: IptablesDriver): Promise<void> {
  await awaitSteps(driver.reading());
  await awaitSteps(driver.committing());
}

test("a program that does not end is ended, and says so", async () => {
  const clock = new VirtualClock();
  const processes: Processes = {
    run: (_command, options) =>
      new Promise((_resolve, reject) => {
        options?.signal?.addEventListener("abort", () => reject(new Error("killed")));
      }),
  };
  const asked = new IptablesClient(processes, clock, "legacy", 4).save(false);
  const answer = asked.then(
    () => "it ended",
    (error: Error) => error.message,
  );
  await clock.advance(60_000);
  expect(await answer).toContain("Cannot run iptables-legacy-save");
  expect(await answer).toContain("it has not ended within 60 s");
});

for (const variant of VARIANTS)
  describe(variant, () => {
    test("what is written is what is read; another process writes nothing", async () => {
      await withBench(variant, async ({ driver, commands }) => {
        let before: Program | undefined;
        const first = driver();
        for (let seed = 1; seed <= 12; seed++) {
          const program = programOfSeed(seed);
          first.lower(program, before === undefined ? whole(program) : from(before, program));
          before = program;
          await settle(first);
          expect({ seed, plan: first.plan(), failures: first.failures }).toEqual({ seed, plan: [], failures: [] });
          await awaitSteps(first.reading());
          expect({ seed, plan: first.plan(), pending: first.pending }).toEqual({ seed, plan: [], pending: 0 });
          const second = driver();
          second.lower(program, whole(program));
          await awaitSteps(second.reading());
          commands.length = 0;
          await awaitSteps(second.committing());
          expect({ seed, writes: second.writes, commands }).toEqual({ seed, writes: 0, commands: [] });
          for (const id of program.endpoints.keys()) expect(second.isProgrammed(id)).toBe(true);
        }
      });
    }, 120_000);

    test("protocols are the same by name and by number, and a name too long for a comment is cut", async () => {
      await withBench(variant, async ({ driver, run }) => {
        const long = "p".repeat(240);
        const rules = Array.from({ length: 254 }, (_, i) => i + 1);
        const calicoPolicies = [
          {
            apiVersion: "projectcalico.org/v3",
            kind: "NetworkPolicy",
            metadata: { name: long, namespace: "alpha" },
            spec: { ingress: rules.map((protocol) => ({ action: "Allow", protocol })) },
          },
        ] as unknown as ReturnType<typeof randomCluster>["calicoPolicies"];
        const cluster = { ...randomCluster(3), calicoPolicies, networkPolicies: [], globalPolicies: [] };
        const program = programOf({ ...cluster, pools: [], node: NODE, interfaces: new Map() });
        const own = driver();
        own.lower(program, whole(program));
        await settle(own);
        await awaitSteps(own.reading());
        expect(own.plan()).toEqual([]);
        expect(own.failures).toEqual([]);
        const saved = run(`iptables-${variant}-save`);
        expect(saved).toContain(" rule 254");
        expect(saved).toContain("…");
        // Without host endpoints nothing of raw concerns IPv6.
        expect(saved).toContain("-A PREROUTING -j cali-PREROUTING");
        expect(run(`ip6tables-${variant}-save`)).not.toContain("cali-PREROUTING");
      });
    }, 60_000);

    test("what others change is found and put back; what is theirs stays", async () => {
      await withBench(variant, async ({ driver, run, namespace }) => {
        const program = programOfSeed(3);
        run(`iptables-${variant}`, "-A", "FORWARD", "-s", "192.0.2.7/32", "-j", "DROP");
        run(`iptables-${variant}`, "-t", "raw", "-N", "others");
        const own = driver();
        own.lower(program, whole(program));
        await settle(own);
        const saved = (): string =>
          ["iptables", "ip6tables"].map((word) => run(`${word}-${variant}-save`).replace(/^#.*$/gm, "")).join("\n");
        const wanted = saved();
        expect(wanted).toContain("-A FORWARD -j cali-FORWARD\n-A FORWARD -s 192.0.2.7/32 -j DROP");
        expect(wanted).toContain(":others");
        const [set] = [...program.sets.keys()].map((id) => setName(id, 4));
        const client = namespace.enter(() => new IpSetClient(sys));
        const breakages: (() => void)[] = [
          () => run(`iptables-${variant}`, "-I", "FORWARD", "1", "-s", "192.0.2.8/32", "-j", "ACCEPT"),
          () => run(`ip6tables-${variant}`, "-F", "cali-FORWARD"),
          () => run(`iptables-${variant}`, "-D", "FORWARD", "-j", "cali-FORWARD"),
          () => run(`iptables-${variant}`, "-A", "INPUT", "-j", "cali-INPUT"),
          () => run(`iptables-${variant}`, "-I", "cali-FORWARD", "1", "-j", "ACCEPT"),
          () => run(`iptables-${variant}`, "-N", "cali-left-over"),
          () => void client.change(set ?? "", { type: "hash:net", family: 4 }, ["203.0.113.0/24", "203.0.113.9"], []),
        ];
        for (const [i, damage] of breakages.entries()) {
          damage();
          await awaitSteps(own.reading());
          expect({ i, found: own.plan().length > 0 }).toEqual({ i, found: true });
          await awaitSteps(own.committing());
          await awaitSteps(own.reading());
          expect({ i, plan: own.plan() }).toEqual({ i, plan: [] });
        }
        client.close();
        run(`iptables-${variant}`, "-D", "FORWARD", "-s", "192.0.2.8/32", "-j", "ACCEPT");
        expect(saved()).toBe(wanted);
      });
    }, 60_000);

    test("what somebody has just taken out of a chain, unheard, does not stop a change of it", async () => {
      await withBench(variant, async ({ driver, run, commands }) => {
        const ofRules = (count: number): Program => {
          const spec = { ingress: Array.from({ length: count }, (_, i) => ({ action: "Allow", protocol: i + 1 })) };
          const metadata = { name: "long", namespace: "alpha" };
          const policy = { apiVersion: "projectcalico.org/v3", kind: "NetworkPolicy", metadata, spec };
          const calicoPolicies = [policy] as unknown as ReturnType<typeof randomCluster>["calicoPolicies"];
          const cluster = { ...randomCluster(3), calicoPolicies, networkPolicies: [], globalPolicies: [] };
          return programOf({ ...cluster, pools: [], node: NODE, interfaces: new Map() });
        };
        const [before, now] = [ofRules(20), ofRules(19)];
        const own = driver();
        own.lower(before, whole(before));
        await settle(own);
        const save = (): string => run(`iptables-${variant}-save`);
        const [, chain = ""] = /^-A (\S+) .* rule 20"/m.exec(save()) ?? [];
        run(`iptables-${variant}`, "-F", chain);
        own.lower(now, from(before, now));
        commands.length = 0;
        await awaitSteps(own.committing());
        expect(own.failures).toEqual([]);
        // Nothing was refused and read anew.
        expect(commands.filter((command) => command.includes("-save"))).toEqual([]);
        expect(save()).toContain(" rule 19");
        expect(save()).not.toContain(" rule 20");
        await awaitSteps(own.reading());
        expect(own.plan()).toEqual([]);
      });
    }, 60_000);

    test("everything goes with an empty program but what every node has", async () => {
      await withBench(variant, async ({ driver, run, namespace }) => {
        const program = programOfSeed(5);
        const own = driver();
        own.lower(program, whole(program));
        await settle(own);
        const empty = { ...program, sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map() };
        own.lower(empty, from(program, empty));
        await settle(own);
        expect(run(`iptables-${variant}-save`)).not.toMatch(/cali-(p[io]|[ft][wh])[a-z]*-/);
        const client = namespace.enter(() => new IpSetClient(sys));
        expect(client.list().map(({ name }) => name)).toEqual(["cali40sources", "cali60sources"]);
        client.close();
      });
    }, 60_000);

    test("a set that cannot be made closes whoever needs it, and nobody else", async () => {
      await withBench(variant, async ({ driver, run, namespace }) => {
        const program = programOfSeed(3);
        // Somebody uses a set of that name and of another type.
        const client = namespace.enter(() => new IpSetClient(sys));
        const taken = [...program.sets.keys()].map((id) => setName(id, 4))[0] ?? "";
        client.create(taken, { type: "hash:net,iface", family: 4 });
        run(`iptables-${variant}`, "-A", "INPUT", "-m", "set", "--match-set", taken, "src,src", "-j", "ACCEPT");
        const own = driver();
        own.lower(program, whole(program));
        await settle(own);
        expect(own.failures.map(({ state }) => state)).toContain("failed");
        const closed = own.failures.filter(({ state }) => state === "closed");
        const endpoints = [...program.endpoints.keys()];
        const programmed = endpoints.filter((id) => own.isProgrammed(id));
        expect(programmed.length + closed.length).toBe(endpoints.length);
        expect(closed.length).toBeGreaterThan(0);
        const text = run(`iptables-${variant}-save`);
        expect(text).toContain("closed: ");
        run(`iptables-${variant}`, "-D", "INPUT", "-m", "set", "--match-set", taken, "src,src", "-j", "ACCEPT");
        for (let i = 0; own.failures.length > 0; i++) {
          expect(i).toBeLessThan(100);
          await Bun.sleep(Math.max(1, (own.dueMs ?? 0) - openClock().monotonicMs()));
          await settle(own);
        }
        expect(endpoints.every((id) => own.isProgrammed(id))).toBe(true);
        expect(run(`iptables-${variant}-save`)).not.toContain("closed: ");
        client.close();
      });
    }, 60_000);

    test("a chain that the program refuses is found, whether it names the line or not", async () => {
      for (const names of [true, false])
        await withBench(variant, async ({ driver, namespace }) => {
          const program = programOfSeed(7);
          const real = processesIn(namespace);
          const culprit = /^:(cali-p\S+) /m;
          let chain: string | undefined;
          const processes: Processes = {
            run: async (command, options) => {
              const input = options?.input ?? "";
              chain ??= culprit.exec(input)?.[1];
              const line =
                chain === undefined ? -1 : input.split("\n").findIndex((each) => each.startsWith(`:${chain} -`));
              if (line < 0) return real.run(command, options);
              return { exitCode: 1, stdout: "", stderr: names ? `line ${line + 1} failed` : "COMMIT failed" };
            },
          };
          const own = driver(processes);
          own.lower(program, whole(program));
          await settle(own);
          const failed = own.failures.filter(({ state }) => state === "failed").map(({ row }) => row);
          expect(failed.length).toBe(1);
          expect(failed[0]).toMatch(/^policy /);
          const endpoints = [...program.endpoints.keys()];
          const closed = own.failures.filter(({ state }) => state === "closed");
          expect(endpoints.filter((id) => own.isProgrammed(id)).length + closed.length).toBe(endpoints.length);
        });
    }, 120_000);
  });
