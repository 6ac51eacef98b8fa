/**
 * World: a cluster of three machines in one thread, out of one seed: real daemons on simulated hosts and kernels, one datastore, BIRD and container
 * runtimes as models, and what befalls them. The same seed is the same history.
 */
import { MemoryStore } from "../../src/datastore/memory.ts";
import { StoreError } from "../../src/datastore/store.ts";
import { SimClock } from "../../src/host/sim/clock.ts";
import { wholeBlockOf } from "../../src/model/convert/block.ts";
import { CLUSTER_INFORMATION } from "../../src/model/kinds/cluster.ts";
import { formatName, type Key } from "../../src/model/key.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { CniAnswer } from "../../src/podnet/protocol.ts";
import { randomPolicy } from "../property/policies.ts";
import { Random } from "../property/random.ts";
import { Birds } from "./bird.ts";
import { type FaultKind, NO_TROUBLE, type StoreTrouble } from "./faults.ts";
import { History } from "./history.ts";
import { SimNode } from "./machine.ts";
import { Runtime } from "./runtime.ts";
import { checkClosed, isWhole } from "./safety.ts";

export const NAMESPACES = ["alpha", "beta", "gamma"] as const;
/** One world of so many has three nodes, else two, and one has fewer blocks than nodes, which then share them. */
const THREE_NODES_IN = 8;
const TIGHT_IN = 4;
/** CIDR and blockSize; of a tight world a pool is one block. */
const POOLS = {
  wide: [
    ["pool-4", "10.65.0.0/28", 30],
    ["pool-6", "fd00:65::/124", 126],
    ["extra-4", "10.66.0.0/29", 30],
    ["extra-6", "fd00:66::/125", 126],
  ],
  tight: [
    ["pool-4", "10.65.0.0/28", 28],
    ["pool-6", "fd00:65::/124", 124],
    ["extra-4", "10.66.0.0/30", 30],
    ["extra-6", "fd00:66::/126", 126],
  ],
} as const;
const TICK_MS = 1_000;
/** An address is free again so long after DEL, while nothing is wrong: the collector of leaks, which would free it too, takes longer. */
const RELEASE_MS = 13_000;
/** No answer to a CNI request may take longer, whatever befalls other objects. */
const ANSWER_MS = 120_000;

/** A daemon that has run so long has been in sync. */
const START_MS = 15_000;

type PolicySpec = NonNullable<Resource<"KubernetesNetworkPolicy">["spec"]>;

/** What was promised and does not hold; the world ends with it. */
export class Violation extends Error {
  override readonly name = "Violation";
}

export class World {
  readonly seed: number;
  readonly tight: boolean;
  readonly faults: ReadonlySet<FaultKind>;
  readonly clock = new SimClock();
  readonly store = new MemoryStore({ wallMs: () => this.clock.wallMs(), historyLimit: 400 });
  /** What is done, and what befalls the network: apart, so that more of the one does not change the other. */
  readonly choices: Random;
  readonly network: Random;
  readonly history = new History();
  readonly nodes: readonly SimNode[];
  readonly runtimes: readonly Runtime[];
  readonly birds: Birds;
  trouble: StoreTrouble = NO_TROUBLE;
  quiet = false;
  #ready = true;
  /** By handle: addresses that a DEL gave back, and how long nothing has been wrong since. */
  readonly #releasing = new Map<string, { readonly node: SimNode; readonly boot: number; wellMs: number }>();
  ended = false;
  violation: Error | undefined;
  readonly #checked = new Map<SimNode, string>();
  #pods = 0;

  constructor(seed: number, faults: readonly FaultKind[]) {
    this.seed = seed;
    this.faults = new Set(faults);
    this.tight = seed % TIGHT_IN === 0;
    this.choices = new Random(seed);
    this.network = new Random(seed ^ 0x5eed);
    this.nodes = Array.from(
      { length: this.tight || seed % THREE_NODES_IN === 0 ? 3 : 2 },
      (_, i) => new SimNode(this, i + 1),
    );
    this.runtimes = this.nodes.map((node) => new Runtime(this, node));
    this.birds = new Birds(this);
  }

  /** Something that people want to read of. */
  say(line: string): void {
    this.history.add(`${this.#time()} ${line}`);
  }

  /** Every step: read when something is wrong. */
  note(line: string): void {
    this.history.add(`${this.#time()}   ${line}`);
  }

  #time(): string {
    return (this.clock.monotonicMs() / 1000).toFixed(3).padStart(8);
  }

  violate(what: string): void {
    if (this.violation !== undefined) return;
    this.violation = new Violation(what);
    this.say(`VIOLATION: ${what}`);
  }

  /** The product threw what nobody catches: its process would end. */
  mistake(error: unknown): void {
    this.violate(
      `a mistake of the program: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  }

  /** Before each operation of a daemon. */
  observe(node: SimNode, operation: string): void {
    this.note(`${node.name} ${operation}`);
    const state = `${node.boot} ${node.kernel.changes}`;
    if (this.#checked.get(node) === state) return;
    this.#checked.set(node, state);
    const open = checkClosed(node.kernel);
    if (node.tamperedAtMs !== undefined && isWhole(node.kernel)) node.tamperedAtMs = undefined;
    if (open === undefined) return;
    if (!this.#isExcused(node)) this.violate(`${node.name}: ${open}`);
    else this.#checked.delete(node);
  }

  /** Somebody else opened it: it is closed in the turn in which the daemon hears of that, if the daemon lives and the kernel lets it. */
  #isExcused({ tamperedAtMs, refused, refusesPercent, runningSinceMs }: SimNode): boolean {
    const isRefusing = refused !== undefined || refusesPercent > 0;
    if (tamperedAtMs === undefined) return false;
    const couldRepair = runningSinceMs < tamperedAtMs - START_MS && !isRefusing;
    return !couldRepair || this.clock.monotonicMs() <= tamperedAtMs;
  }

  /** No address is held by two live pods. */
  checkAddresses(): void {
    const holders = new Map<string, string>();
    for (const { node, sandbox } of this.runtimes.flatMap((runtime) =>
      runtime.live().map((sandbox) => ({ node: runtime.node.name, sandbox })),
    ))
      for (const addr of sandbox.addresses ?? []) {
        const holder = `${sandbox.containerId} on ${node}`;
        const other = holders.get(addr);
        if (other !== undefined) this.violate(`${addr} is held by ${other} and by ${holder}`);
        holders.set(addr, holder);
      }
  }

  /** DEL was answered: from now on the addresses of the handle are due. */
  mustRelease(node: SimNode, handle: string): void {
    this.#releasing.set(handle, { node, boot: node.boot, wellMs: 0 });
  }

  /** Whether addresses are due that were not freed yet. */
  get isReleasing(): boolean {
    return this.#releasing.size > 0;
  }

  /** Looks once a second at what is due. */
  async #keepTime(): Promise<void> {
    while (!this.ended) {
      await this.clock.sleep(TICK_MS);
      if (this.#releasing.size > 0) await this.#checkReleases();
    }
  }

  async #checkReleases(): Promise<void> {
    const held = new Set<string>();
    for (const block of (await this.store.list("IPAMBlock")).items) {
      const row = wholeBlockOf(block);
      for (const { handle } of row.ok ? row.value.allocations : []) if (handle !== undefined) held.add(handle);
    }
    for (const [handle, due] of this.#releasing) {
      const { node, boot } = due;
      // A machine that lost its journal leaves it to the collector of leaks.
      if (node.boot !== boot || !held.has(handle)) this.#releasing.delete(handle);
      else if (!node.isWell || !this.#ready || this.trouble !== NO_TROUBLE) due.wellMs = 0;
      else if ((due.wellMs += TICK_MS) > RELEASE_MS)
        this.violate(
          `${node.name}: the addresses of ${handle} are still recorded for it ${RELEASE_MS / 1000} s after DEL`,
        );
    }
  }

  answered(pod: Key<"Pod">, answer: CniAnswer | undefined, tookMs: number): void {
    if (answer !== undefined && tookMs > ANSWER_MS)
      this.violate(`ADD of pod ${formatName(pod)} was answered after ${Math.round(tookMs / 1000)} s`);
  }

  forgetsDel(): boolean {
    return this.faults.has("runtime") && !this.quiet && this.choices.chance(15);
  }

  async begin(): Promise<void> {
    for (const [name, cidr, blockSize] of POOLS[this.tight ? "tight" : "wide"])
      await this.#createPool(name, cidr, blockSize);
    for (const name of NAMESPACES)
      await this.store.create("Namespace", {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name, labels: { ns: name } },
      });
    for (const node of this.nodes) {
      const addresses = node.addresses.map((address) => ({ type: "InternalIP", address }));
      await this.store.create("Node", {
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: node.name },
        status: { addresses },
      });
    }
    void this.#keepTime();
    for (const node of this.nodes) {
      this.birds.start(node);
      void node.supervise();
    }
  }

  end(): void {
    this.ended = true;
    for (const node of this.nodes) node.kill();
  }

  async createPod(
    runtime: Runtime,
    namespace: string = this.choices.pick(NAMESPACES),
    more: Readonly<Record<string, string>> = {},
  ): Promise<Key<"Pod">> {
    const { choices } = this;
    const pod: Resource<"Pod"> = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: `p${++this.#pods}`,
        namespace,
        labels: { app: choices.pick(["web", "db", "cache"]), tier: choices.pick(["front", "back"]), ...more },
      },
      spec: { nodeName: runtime.node.name, containers: [] },
    };
    const stored = await this.store.create("Pod", pod);
    this.say(`pod ${pod.metadata.namespace}/${pod.metadata.name} on ${runtime.node.name}`);
    const key = keyOf("Pod", stored);
    runtime.start(key, stored.metadata.uid ?? "");
    return key;
  }

  async deletePod(runtime: Runtime = this.choices.pick(this.runtimes)): Promise<void> {
    const pods = [...runtime.pods.values()].filter(({ leaving }) => !leaving);
    if (pods.length === 0) return;
    const pod = this.choices.pick(pods);
    this.say(`pod ${pod.key.name} on ${runtime.node.name} is deleted`);
    pod.leave();
    // Now and then by force: its object goes at once.
    if (this.choices.chance(20)) await this.unlessRefused(() => this.store.delete(pod.key, { uid: pod.uid }));
  }

  async changePolicy(): Promise<void> {
    const random = randomPolicy(this.choices) as Resource<"KubernetesNetworkPolicy">;
    const there = (await this.store.list("KubernetesNetworkPolicy")).items.filter(
      ({ metadata }) => metadata.name !== "culprit",
    );
    const policy =
      there.length > 0 && this.choices.chance(60) ? { ...random, metadata: this.choices.pick(there).metadata } : random;
    const key = keyOf("KubernetesNetworkPolicy", policy);
    const found = await this.store.get(key);
    this.say(`policy ${formatName(key)} ${found === undefined ? "comes" : "changes or goes"}`);
    await this.unlessRefused(async () => {
      if (found === undefined) await this.store.create("KubernetesNetworkPolicy", policy);
      else if (this.choices.chance(25)) await this.store.delete(key);
      else
        await this.store.update("KubernetesNetworkPolicy", {
          ...policy,
          metadata: found.metadata,
          ...(found.spec !== undefined && policy.spec !== undefined && this.choices.chance(70)
            ? { spec: this.#edited(found.spec, policy.spec) }
            : {}),
        });
    });
  }

  /** A policy of each namespace that names every pod of the cluster: who has a pod that is gone still names it. */
  async admitEverybody(): Promise<void> {
    for (const namespace of NAMESPACES)
      await this.unlessRefused(() =>
        this.store.create("KubernetesNetworkPolicy", {
          apiVersion: "networking.k8s.io/v1",
          kind: "NetworkPolicy",
          metadata: { name: "everybody", namespace },
          spec: { podSelector: {}, policyTypes: ["Ingress"], ingress: [{ from: [{ namespaceSelector: {} }] }] },
        }),
      );
  }

  /** A policy, or a pod of any node by force, is there no longer. */
  async vanish(): Promise<void> {
    const policies = (await this.store.list("KubernetesNetworkPolicy")).items.filter(
      ({ metadata }) => metadata.name !== "culprit",
    );
    if (policies.length > 0 && this.choices.chance(50)) {
      const key = keyOf("KubernetesNetworkPolicy", this.choices.pick(policies));
      this.say(`policy ${formatName(key)} vanishes`);
      return this.unlessRefused(async () => void (await this.store.delete(key)));
    }
    const pods = this.runtimes.flatMap((runtime) => [...runtime.pods.values()].filter(({ leaving }) => !leaving));
    if (pods.length === 0) return;
    const pod = this.choices.pick(pods);
    this.say(`pod ${pod.key.name} vanishes`);
    await this.unlessRefused(() => this.store.delete(pod.key, { uid: pod.uid }));
    pod.leave();
  }

  /** One rule more or less, wherever that is: chains are edited in place. */
  #edited(spec: PolicySpec, other: PolicySpec): PolicySpec {
    const ingress = [...(spec.ingress ?? [])];
    const at = this.choices.below(ingress.length + 1);
    const [more] = other.ingress ?? [{ ports: [{ port: 80 }] }];
    if (more === undefined || this.choices.chance(40)) ingress.splice(at, 1);
    else ingress.splice(at, 0, more);
    return { ...spec, ingress };
  }

  async relabelNamespace(): Promise<void> {
    const key: Key<"Namespace"> = { kind: "Namespace", namespace: undefined, name: this.choices.pick(NAMESPACES) };
    const found = await this.store.get(key);
    if (found === undefined) return;
    const labels = { ns: this.choices.pick(NAMESPACES), team: this.choices.pick(["a", "b"]) };
    await this.unlessRefused(() =>
      this.store.update("Namespace", { ...found, metadata: { ...found.metadata, labels } }),
    );
  }

  /** One of the pools gives no new addresses any more, or gives them again; one of each family always does. */
  async switchPool(): Promise<void> {
    const name = this.choices.pick(["extra-4", "extra-6"]);
    const found = await this.store.get({ kind: "IPPool", namespace: undefined, name });
    if (found === undefined) return;
    const disabled = found.spec.disabled !== true;
    this.say(`pool ${name} is ${disabled ? "disabled" : "enabled"}`);
    await this.unlessRefused(() => this.store.update("IPPool", { ...found, spec: { ...found.spec, disabled } }));
  }

  /** One of those that may be disabled is deleted, whoever has its addresses; or all that were come again. */
  async removePool(): Promise<void> {
    const name = this.choices.pick(["extra-4", "extra-6"]);
    const found = await this.store.get({ kind: "IPPool", namespace: undefined, name });
    if (found === undefined) return this.restorePools();
    this.say(`pool ${name} is deleted`);
    await this.unlessRefused(() => this.store.delete({ kind: "IPPool", namespace: undefined, name }));
  }

  async restorePools(): Promise<void> {
    for (const [name, cidr, blockSize] of POOLS[this.tight ? "tight" : "wide"]) {
      if ((await this.store.get({ kind: "IPPool", namespace: undefined, name })) !== undefined) continue;
      this.say(`pool ${name} comes again`);
      await this.#createPool(name, cidr, blockSize);
    }
  }

  async #createPool(name: string, cidr: string, blockSize: number): Promise<void> {
    await this.store.create("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name },
      spec: { cidr, blockSize },
    });
  }

  /** Whether the datastore may be used, as its ClusterInformation says. */
  async setReady(datastoreReady: boolean): Promise<void> {
    const found = await this.store.get(CLUSTER_INFORMATION);
    if (found === undefined) return;
    this.say(`datastoreReady is ${datastoreReady}`);
    this.#ready = datastoreReady;
    await this.unlessRefused(() =>
      this.store.update("ClusterInformation", { ...found, spec: { ...found.spec, datastoreReady } }),
    );
  }

  async unlessRefused(run: () => Promise<unknown>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  reboot(runtime: Runtime): void {
    const { node } = runtime;
    this.say(`${node.name} loses power`);
    node.reboot(() => this.choices.chance(50));
    runtime.rebooted();
    this.birds.start(node);
    void node.supervise();
  }
}
