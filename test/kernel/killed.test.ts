/**
 * The daemon is killed between any two writes of a change: policies, the members of their sets, endpoints, or the dataplane itself. What it left judges
 * every packet by the old program or by the new one, and the next daemon makes the kernel what the program says.
 *
 * The daemon dies before or after its n-th write to the kernel, or while a program of iptables runs that it has started. Before and after each
 * write packets of many flows are sent: those that both programs allow all arrive, those that both deny never do. KILLED is how often, KILLED_SEED where it begins.
 */
import { describe, expect, test } from "bun:test";
import { programOf } from "../../src/calc/from-scratch.ts";
import type { Processes } from "../../src/host/processes.ts";
import type { Sys } from "../../src/host/sys.ts";
import {
  BPF_MAP_DELETE_BATCH,
  BPF_MAP_DELETE_ELEM,
  BPF_MAP_UPDATE_BATCH,
  BPF_MAP_UPDATE_ELEM,
  BPF_OBJ_PIN,
} from "../../src/kernel/bpf/call.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import { type Addr, familyOf } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { UDP } from "../../src/net/protocol.ts";
import { evaluatePacket } from "../../src/program/path-evaluate.ts";
import type { SetId, SetMembers } from "../../src/program/policy.ts";
import type { MemberChange, Program, ProgramDelta } from "../../src/program/program.ts";
import { DATAPLANES, type Dataplane } from "../dataplane.ts";
import { Random } from "../property/random.ts";
import { DataplaneNode, PODS } from "./dataplane-node.ts";
import { type Namespace, processesIn, REAL } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";

const SEED = Number(process.env["KILLED_SEED"] ?? "20261130");
const KILLS = Number(process.env["KILLED"] ?? "15");
/** Pods of another node, all behind the same wire. */
const PEERS = Array.from({ length: 6 }, (_, i) => [`198.51.100.${10 + i}`, `2001:db8::${10 + i}`] as const);
const PORTS = [80, 81];
const LABELS = ["a", "b", "c"];

/** Some cluster: who the peers are, what the pod `web` may hear, and which other pods the node has. */
function randomProgram(random: Random, dataplane: Dataplane): Program {
  const pod = (
    name: string,
    node: string,
    labels: Record<string, string>,
    ips: readonly string[],
  ): Resource<"Pod"> => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "a", labels },
    spec: { nodeName: node, containers: [] },
    status: { podIPs: ips.map((ip) => ({ ip })) },
  });
  const web = pod("web", "n1", { app: "web" }, PODS.web.addresses);
  const extra = random
    .subset([1, 2, 3, 4, 5], 50)
    .map((i) => pod(`extra-${i}`, "n1", { app: "extra" }, [`10.65.0.${10 + i}`]));
  const peers = PEERS.map((ips, i) =>
    pod(`peer-${i}`, "n2", Object.fromEntries(random.subset(LABELS, 40).map((label) => [label, "yes"])), ips),
  );
  const rule = (): object => ({
    action: random.pick(["Allow", "Allow", "Deny"]),
    protocol: "UDP",
    ...(random.chance(70)
      ? { source: { selector: `${random.chance(25) ? "!" : ""}has(${random.pick(LABELS)})` } }
      : {}),
    ...(random.chance(50) ? { destination: { ports: [random.pick(PORTS)] } } : {}),
  });
  const policies = random.some(1, 4, (i) => ({
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { name: `policy-${random.chance(70) ? i : i + 10}`, namespace: "a" },
    spec: {
      selector: random.chance(80) ? "all()" : "app == 'extra'",
      order: random.below(100),
      types: ["Ingress"],
      ingress: random.some(0, 4, rule),
    },
  })) as unknown as Resource<"NetworkPolicy">[];
  const program = programOf({
    pods: [web, ...extra, ...peers],
    namespaces: [],
    serviceAccounts: [],
    networkPolicies: [],
    calicoPolicies: policies,
    blocks: [],
    pools: [],
    nodes: [],
    node: "n1",
    records: [web, ...extra].map((each, i) => ({
      containerId: each.metadata.name,
      pod: keyOf("Pod", each),
      interface: i === 0 ? PODS.web.interface : `cali9${each.metadata.name.at(-1)}`,
      addresses: (each.status?.podIPs ?? []).map(({ ip }) => ip as Addr),
      mac: "",
      netns: "",
      podInterface: "eth0",
    })),
  });
  return { ...program, settings: { ...program.settings, dataplane } };
}

/** As the graph tells a change: with what came to each set and went. */
function deltaOf(before: Program, now: Program): ProgramDelta {
  const tables = <K, V>(old: ReadonlyMap<K, V>, current: ReadonlyMap<K, V>): ReadonlyMap<K, V | undefined> =>
    new Map<K, V | undefined>([
      ...[...old.keys()].filter((key) => !current.has(key)).map((key) => [key, undefined] as const),
      ...[...current].filter(([key, value]) => !Bun.deepEquals(old.get(key), value)),
    ]);
  const sets = tables(before.sets, now.sets);
  const members = new Map<SetId, MemberChange>();
  for (const [id, set] of sets) {
    const old = before.sets.get(id);
    if (old === undefined || set === undefined) continue;
    const [from, to] = [membersOf(old), membersOf(set)];
    members.set(id, {
      added: [...to].filter((each) => !from.has(each)),
      removed: [...from].filter((each) => !to.has(each)),
    });
  }
  return {
    sets,
    policies: tables(before.policies, now.policies),
    endpoints: tables(before.endpoints, now.endpoints),
    routes: tables(before.routes, now.routes),
    members,
    settings: now.settings,
  };
}

function membersOf(set: SetMembers): ReadonlySet<string> {
  if (set.type === "address-port") return set.members;
  return new Set<string>([...set.nets, ...(set.type === "address" ? set.hosts : [])]);
}

interface Flow {
  readonly source: Addr;
  readonly destination: Addr;
  readonly port: number;
}

const FLOWS: readonly Flow[] = PEERS.flat().flatMap((source) =>
  PODS.web.addresses
    .filter((addr) => familyOf(addr as string as Addr) === familyOf(source as string as Addr))
    .flatMap((destination) =>
      PORTS.map((port) => ({ source: source as string as Addr, destination: destination as string as Addr, port })),
    ),
);

function packetOf({ source, destination, port }: Flow, sourcePort: number): FlowPacket {
  return { source, destination, protocol: UDP, sourcePort, destinationPort: port };
}

function allows(program: Program, flow: Flow): boolean {
  const packet = packetOf(flow, 1024);
  const way = { original: packet, packet, from: "world", to: PODS.web.interface, connection: "new" } as const;
  return evaluatePacket(program, way).action === "accept";
}

/**
 * What judges a packet from the source in a moment of the change. nftables changes rules and sets in one transaction, and eBPF by one switch. IP sets
 * have none: each has its old or its new members, whichever rules there are.
 */
function momentsOf(before: Program, now: Program, source: Addr): readonly Program[] {
  if ([before, now].every(({ settings }) => !settings.dataplane.startsWith("iptables"))) return [before, now];
  const changed = [...before.sets.keys()].filter(
    (id) => now.sets.has(id) && isIn(before.sets.get(id), source) !== isIn(now.sets.get(id), source),
  );
  return [before, now].flatMap((program) =>
    Array.from({ length: 2 ** changed.length }, (_, mask): Program => {
      const sets = new Map(program.sets);
      for (const [i, id] of changed.entries())
        sets.set(id, { type: "address", hosts: new Set((mask & (1 << i)) === 0 ? [] : [source]), nets: new Set() });
      return { ...program, sets };
    }),
  );
}

function isIn(set: SetMembers | undefined, addr: Addr): boolean {
  return set !== undefined && membersOf(set).has(addr);
}

/** The verdict that holds in every moment of the change; undefined: there is none. */
function verdictOf(before: Program, now: Program, flow: Flow): boolean | undefined {
  const verdicts = new Set(momentsOf(before, now, flow.source).map((program) => allows(program, flow)));
  return verdicts.size === 1 ? verdicts.has(true) : undefined;
}

/** Sends a packet of each flow, each in a connection of its own. */
class Prober {
  readonly #bench: DataplaneNode;
  readonly #arrived = new Set<number>();
  readonly #sent: { readonly flow: Flow; readonly marker: number; readonly isAllowed: boolean }[] = [];
  #verdicts: ReadonlyMap<Flow, boolean> = new Map();
  #marker = 0xca11_0000;

  constructor(bench: DataplaneNode) {
    this.#bench = bench;
  }

  /** From now on the one or the other is in force. */
  expect(before: Program, now: Program): void {
    this.#verdicts = new Map(
      FLOWS.flatMap((flow) => {
        const verdict = verdictOf(before, now, flow);
        return verdict === undefined ? [] : [[flow, verdict]];
      }),
    );
  }

  expectNothing(): void {
    this.#verdicts = new Map();
  }

  probe(): void {
    for (const [flow, isAllowed] of this.#verdicts) {
      const marker = ++this.#marker;
      this.#bench.port("world").send(packetOf(flow, 1024 + (marker % 60_000)), marker);
      this.#sent.push({ flow, marker, isAllowed });
    }
    this.#receive();
  }

  #receive(): void {
    for (const marker of this.#bench.port("web").markers()) this.#arrived.add(marker);
  }

  /** Judges everything sent so far. */
  async judge(): Promise<{
    readonly lost: readonly string[];
    readonly leaked: readonly string[];
    readonly sent: number;
  }> {
    const isMissing = ({ marker, isAllowed }: { marker: number; isAllowed: boolean }): boolean =>
      isAllowed && !this.#arrived.has(marker);
    for (
      const end = performance.now() + 10_000;
      this.#sent.some(isMissing) && performance.now() < end;
      await Bun.sleep(5)
    )
      this.#receive();
    this.#receive();
    const sent = this.#sent.splice(0);
    const named = (flows: typeof sent): string[] => [
      ...new Set(flows.map(({ flow: { source, destination, port } }) => `${source} → ${destination}:${port}`)),
    ];
    return {
      lost: named(sent.filter(isMissing)),
      leaked: named(sent.filter(({ marker, isAllowed }) => !isAllowed && this.#arrived.has(marker))),
      sent: sent.length,
    };
  }
}

const NLM_F_DUMP = 0x300;
type Moment = "before" | "after" | "during";

const EBADF = 9;
const BPF_WRITES = new Set([
  BPF_MAP_UPDATE_ELEM,
  BPF_MAP_DELETE_ELEM,
  BPF_MAP_UPDATE_BATCH,
  BPF_MAP_DELETE_BATCH,
  BPF_OBJ_PIN,
]);

/** What a daemon calls the kernel by, until it dies: then nothing that it still does reaches anybody. */
class Life {
  readonly sys: Sys;
  readonly processes: Processes;
  readonly dead: Promise<void>;
  /** Of programs that outlive it. */
  readonly left: Promise<unknown>[] = [];
  readonly #die: () => void;
  readonly #at: number | undefined;
  readonly #moment: Moment;
  #isDead = false;
  #writes = 0;

  /** `at`: the write, from 0, at which it dies; undefined: it lives. */
  constructor(node: Namespace, at: number | undefined, moment: Moment, probe: () => void) {
    const [inside, own] = [sysIn(REAL, node), processesIn(node)];
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#at = at;
    this.#moment = moment;
    this.dead = promise;
    this.#die = () => {
      this.#isDead = true;
      resolve();
    };
    this.sys = {
      ...inside,
      send: (fd, bytes, flags, address) => {
        const isWrite = (new DataView(bytes.buffer, bytes.byteOffset).getUint16(6, true) & NLM_F_DUMP) !== NLM_F_DUMP;
        const send = (): number => inside.send(fd, bytes, flags, address);
        return isWrite || this.#isDead ? this.#write(send, probe) : send();
      },
      bpf: (command, attributes, pointers) => {
        const call = (): number => inside.bpf(command, attributes, pointers);
        return BPF_WRITES.has(command) || this.#isDead ? this.#write(call, probe) : call();
      },
    };
    this.processes = {
      run: async (command, options) => {
        if (!this.#isDead && command[0]?.includes("-restore") !== true) return own.run(command, options);
        probe();
        if (this.#dies("before")) return new Promise(() => undefined);
        const running = own.run(command, options);
        this.left.push(running);
        if (this.#dies("during")) return new Promise(() => undefined);
        const finished = await running;
        probe();
        if (this.#dies("after")) return new Promise(() => undefined);
        this.#writes++;
        return finished;
      },
    };
  }

  #write(call: () => number, probe: () => void): number {
    probe();
    if (this.#dies("before")) return -EBADF;
    const result = call();
    probe();
    this.#dies("after");
    this.#writes++;
    return result;
  }

  /** Whether it is dead, or dies now. */
  #dies(now: Moment): boolean {
    if (!this.#isDead && this.#writes === this.#at && this.#moment === now) this.#die();
    return this.#isDead;
  }
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !isSo(); await Bun.sleep(2))
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
}

class Trial {
  readonly bench = new DataplaneNode();
  readonly prober = new Prober(this.bench);
  readonly #random: Random;
  #program: Program;
  kills = 0;
  probes = 0;

  constructor(random: Random, program: Program) {
    this.#random = random;
    this.#program = program;
  }

  #life(mayDie: boolean): Life {
    const random = this.#random;
    const at = mayDie ? random.below(random.chance(50) ? 4 : 16) : undefined;
    return new Life(this.bench.node, at, random.pick(["before", "after", "during"]), () => this.prober.probe());
  }

  /** Runs until it is done, or dead; whether it is alive. */
  async #survives(life: Life, doing: () => Promise<void>): Promise<boolean> {
    const done = doing().then(() => true);
    // While programs run the thread is free.
    const timer = setInterval(() => this.prober.probe(), 2);
    const isAlive = await Promise.race([life.dead.then(() => false), done]);
    clearInterval(timer);
    if (isAlive) return true;
    // Its end is nobody's business any more.
    done.catch(() => undefined);
    this.kills++;
    this.bench.abandon();
    await Promise.all(life.left);
    return false;
  }

  async begin(): Promise<void> {
    await this.bench.start(this.#program);
    await this.bench.stop();
  }

  /** A daemon starts with the program as it is, takes the change in, and may die then, and again while it starts anew. */
  async change(now: Program): Promise<void> {
    const { bench, prober } = this;
    const before = this.#program;
    const life = this.#life(true);
    // It may die in its start already.
    prober.expect(before, before);
    let isAlive = await this.#survives(life, () => bench.start(before, life));
    prober.expect(before, now);
    if (isAlive)
      isAlive = await this.#survives(life, async () => {
        bench.loop.step(now, deltaOf(before, now));
        await until("the change to be written", () => bench.loop.isWritten);
      });
    while (!isAlive) {
      const next = this.#life(this.#random.chance(40));
      isAlive = await this.#survives(next, () => bench.start(now, next));
    }
    // A set that rules of the other variant named goes when these have gone.
    await until("everything to be in the kernel", () =>
      bench.loop.status().every(({ pending, rows }) => pending === 0 && rows.length === 0),
    );
    this.#program = now;
    const { lost, leaked, sent } = await prober.judge();
    this.probes += sent;
    prober.expect(now, now);
    prober.probe();
    const after = await prober.judge();
    expect({ lost, leaked, after: [after.lost, after.leaked], kills: this.kills }).toEqual({
      lost: [],
      leaked: [],
      after: [[], []],
      kills: this.kills,
    });
    await bench.stop();
    await this.#checkKernel();
  }

  /** A daemon that only starts finds nothing to write. */
  async #checkKernel(): Promise<void> {
    this.prober.expectNothing();
    await this.bench.start(this.#program);
    expect(this.bench.loop.status()).toMatchObject([{ pending: 0, writes: 0, error: undefined, rows: [] }]);
    await this.bench.stop();
  }
}

for (const [i, dataplane] of DATAPLANES.entries())
  describe(dataplane, () => {
    for (const isChanged of [false, true])
      test(`killed ${KILLS} times ${isChanged ? "between dataplanes" : "in changes of policy, sets and endpoints"}`, async () => {
        const random = new Random(SEED + i * 2 + Number(isChanged));
        const trial = new Trial(random, randomProgram(random, dataplane));
        try {
          await trial.begin();
          for (let turn = 1; trial.kills < KILLS; turn++) {
            const other =
              isChanged && turn % 2 === 1 ? random.pick(DATAPLANES.filter((each) => each !== dataplane)) : dataplane;
            await trial.change(randomProgram(random, other));
          }
        } finally {
          await trial.bench.remove();
        }
        expect(trial.probes).toBeGreaterThan(1_000);
      }, 600_000);
  });
