/**
 * pipeline: the whole way of a change through the node: store → syncer → graph → loop → kernel.
 *
 * Start reading here. The syncer says what the cluster says, as rows; the graph turns it into the program of this node; the loop makes
 * the kernel agree. Local pods come from the CNI server straight into the graph.
 */
import type { Report } from "../lib/report.ts";
import { Graph } from "../calc/graph.ts";
import type { Withheld } from "../calc/order.ts";
import type { GivenSettings } from "../calc/settings.ts";
import { finishSteps } from "../dataplane/driver.ts";
import type { Loop } from "../dataplane/loop.ts";
import type { ReducedLists } from "../datastore/reduced-lists.ts";
import { type MissingKind, startSyncer, type Syncer } from "../datastore/syncer.ts";
import { type Store, StoreError } from "../datastore/store.ts";
import { Breath } from "../host/breath.ts";
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import { BugError, invariant } from "../lib/bug.ts";
import type { Bgp } from "../model/bgp.ts";
import type { Kind } from "../model/kind.ts";
import { formatKey, type Key, keyOfText } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import type { CniRecord } from "../model/endpoint.ts";
import type { DatastoreGate } from "./datastore-gate.ts";
import type { PolicyVersions } from "./policy-versions.ts";
import type { Addr } from "../net/addr.ts";
import { Expected } from "./expected.ts";
import type { SyncEvent } from "../model/update.ts";
import type { EndpointId, Program, ProgramDelta } from "../program/program.ts";

export interface PipelineOptions {
  readonly node: string;
  /** What the start says, before FelixConfigurations. */
  readonly given?: GivenSettings | undefined;
  readonly store: Store;
  /** Who reads large lists of the store; absent: the syncer does. */
  readonly lists?: ReducedLists<RowUpdate> | undefined;
  readonly loop: Loop;
  readonly clock: Clock;
  readonly random: Random;
  readonly report: Report;
  readonly gate: DatastoreGate;
  readonly policies: PolicyVersions;
  /** Hears of what BIRD has to know whenever some of it changed. */
  readonly onBgp: (bgp: Bgp) => void;
  /** Sees every update too: Events, the reserve of addresses. */
  readonly observe: (updates: readonly RowUpdate[]) => void;
  /** Hears of each change of the program once it was handed to the loop; `program` is the state after it. */
  readonly onStep: (program: Program, delta: ProgramDelta) => void;
  /** Hears of each WorkloadEndpoint that this node refuses an interface, and why. */
  readonly onRefusal: (key: Key<"WorkloadEndpoint">, why: string) => void;
  /** Hears of each workload of this node that asks for source prefixes and does not get them. */
  readonly onWithheld: (withheld: Withheld) => void;
  /** Hears of each kind that cannot be read and that the node goes on without. */
  readonly onMissing: (missing: MissingKind) => void;
  /** Called once, when the kernel agrees for the first time. */
  readonly onInSync: () => void;
}

/** What the node reads of the cluster. */
export const WATCHED: readonly Kind[] = [
  "Namespace",
  "ServiceAccount",
  "Node",
  "IPPool",
  "IPAMBlock",
  "Pod",
  "KubernetesNetworkPolicy",
  "Tier",
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "ClusterNetworkPolicy",
  "AdminNetworkPolicy",
  "BaselineAdminNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
  "NetworkSet",
  "GlobalNetworkSet",
  "EndpointSlice",
  "HostEndpoint",
  "WorkloadEndpoint",
  "Profile",
  "FelixConfiguration",
  "IPReservation",
  "IPAMConfiguration",
  "ClusterInformation",
  "KubeControllersConfiguration",
];
/** `manifests/calico-node.yaml` */
export const ROLE = "calico-node";
/** Updates taken in and calculated before the thread is given back, if they do not take long. */
const SLICE = 200;
/** Updates calculated at a time before the kernel is touched. Later a step is a transaction, which is worth gathering for. */
const FIRST_STEP = 32;
const BLOCK_WEIGHT = 8;
/** How long ADD waits for its rules, which may be many. */
const SETTLE_MS = 10_000;
/** How long ADD waits for one read of its Pod. */
const READ_POD_MS = 2_000;

export class Pipeline {
  readonly #options: PipelineOptions;
  readonly #graph: Graph;
  readonly #expected: Expected;
  #syncer: Syncer | undefined;
  /** The step that attaches what came together. */
  #soon: Promise<void> | undefined;
  /** A calculation that has given the thread back. */
  #underWay: Generator<undefined, ProgramDelta> | undefined;
  /** As of which BIRD was told. */
  #bgpChanges = 0;
  #begun = false;
  #inSync = false;
  #receiving = false;
  #status = "connecting";
  /** Updates received since start. */
  updates = 0;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#graph = new Graph(options);
    this.#expected = new Expected(this.#graph, options.node);
  }

  /** True when pods may be started: the kernel agreed once, and the datastore may be used. */
  get inSync(): boolean {
    return this.#inSync && this.#options.gate.reason === undefined;
  }

  /** True when the program is that of all policies up to `policies.observed`. */
  get isCurrent(): boolean {
    return this.inSync && this.#status === "in-sync" && !this.#receiving;
  }

  /** What the datastore is: connecting, in sync, marked not ready. */
  get status(): string {
    return this.#options.gate.reason ?? this.#status;
  }

  /** False while ClusterInformation says that the datastore may not be used. */
  get datastoreReady(): boolean {
    return this.#options.gate.reason === undefined;
  }

  /** What the datastore refuses at present, in its words. */
  get datastoreErrors(): readonly string[] {
    return this.#syncer?.errors ?? [];
  }

  /** What the node goes on without. */
  get missing(): readonly MissingKind[] {
    return this.#syncer?.missing ?? [];
  }

  /** Workloads that ask for source prefixes and do not get them, and why. */
  get withheld(): readonly Withheld[] {
    return [...this.#graph.withheld.values()];
  }

  get program(): Program {
    return this.#graph.program;
  }

  start(): void {
    const { node, store, lists, clock, random, report } = this.#options;
    this.#syncer = startSyncer({
      store,
      lists,
      kinds: WATCHED,
      clock,
      random,
      reduce: rowsFor(node),
      sink: (event) => this.#receive(event),
      log: report,
      role: ROLE,
      onMissing: this.#options.onMissing,
    });
  }

  async stop(): Promise<void> {
    await this.#syncer?.stop();
  }

  /** A local pod has been (or is about to be) wired; its rules are in the kernel on return if its Pod is known. */
  attach(record: CniRecord): void {
    this.#expected.attach(record);
    this.#flush();
  }

  /** All pods that were wired when the daemon started. */
  attachAll(records: Iterable<CniRecord>): void {
    for (const record of records) this.#expected.attach(record);
    this.#flush();
  }

  /** Addresses of the node's own interfaces; undefined: it has none, or is gone. */
  setInterfaces(changes: ReadonlyMap<string, readonly Addr[] | undefined>): void {
    for (const [name, addresses] of changes) this.#graph.setInterface(name, addresses);
    this.#flush();
  }

  /** As `attach`, in one step with all others that come until the thread has nothing else to do at once. */
  attachSoon(record: CniRecord): Promise<void> {
    this.#expected.attach(record);
    this.#soon ??= this.#options.clock.sleep(0).then(() => {
      this.#soon = undefined;
      this.#flush();
    });
    return this.#soon;
  }

  detach(interfaceName: string): void {
    this.#expected.detach(interfaceName);
    this.#flush();
  }

  /**
   * One Pod read out of turn, so that ADD need not wait for the watch to bring it: on return the graph knows it, or something newer.
   * undefined: it does not exist. Rejects with StoreError, also when the datastore does not answer in time.
   */
  async readPod(key: Key<"Pod">): Promise<Resource<"Pod"> | undefined> {
    const syncer = this.#syncer;
    invariant(syncer !== undefined, "the pipeline was not started");
    const late = new AbortController();
    const done = new AbortController();
    void this.#options.clock.sleep(READ_POD_MS, done.signal).then(() => late.abort());
    try {
      return await syncer.read(key, { signal: late.signal });
    } catch (error) {
      // A store whose caller gave up rejects with the reason for that.
      if (late.signal.aborted && !(error instanceof BugError))
        throw new StoreError(
          "unavailable",
          "Pod",
          key,
          `Cannot get ${formatKey(key)}: no answer within ${READ_POD_MS} ms`,
        );
      throw error;
    } finally {
      done.abort();
    }
  }

  /** True when the endpoint is part of the program: its Pod is known, and on this node. */
  isEndpoint(interfaceName: string): boolean {
    return this.#graph.program.endpoints.has(interfaceName as EndpointId);
  }

  /** True when the endpoint is part of the program and its rules and routes are in the kernel. */
  isProgrammed(interfaceName: string): boolean {
    return this.#options.loop.isProgrammed(interfaceName as EndpointId, this.#graph.program);
  }

  /** The same, once what is still being written of it is written, or could not be in some seconds. */
  settleEndpoint(interfaceName: string): Promise<boolean> {
    return this.#options.loop.settle(interfaceName as EndpointId, this.#graph.program, SETTLE_MS);
  }

  /** Why no pod could be programmed at present, in words: a driver that fails as a whole. Single rows that are refused concern others nothing. */
  get refused(): string | undefined {
    const { failing } = this.#options.loop;
    return failing.length === 0 ? undefined : failing.join("; ");
  }

  /** Why an endpoint is not programmed, for an error message. */
  explain(interfaceName: string): string {
    if (!this.isEndpoint(interfaceName))
      return `${interfaceName} is not an endpoint: its Pod is unknown, finished or on another node`;
    return this.#options.loop.explain(interfaceName as EndpointId);
  }

  async #receive(event: SyncEvent<RowUpdate>): Promise<void> {
    if (event.type === "status") {
      this.#status = event.status;
      await this.#begin();
      return;
    }
    this.#receiving = true;
    const updates = this.#options.gate.pass(event.updates);
    const breath = new Breath(this.#options.clock, SLICE);
    for (let i = 0, end = 0; i < updates.length; i = end) {
      end = this.#begun ? Math.min(i + SLICE, updates.length) : endOfStep(updates, i);
      const step = updates.slice(i, end);
      this.updates += step.length;
      this.#graph.update(this.#options.policies.take(step));
      this.#expected.observe(step);
      this.#options.observe(step);
      await this.#flushInSteps(breath);
      if (end < updates.length) await breath.after(step.length);
    }
    this.#receiving = false;
    await this.#begin();
  }

  /** The kernel is touched for the first time when everything is known and the datastore may be used. */
  async #begin(): Promise<void> {
    if (this.#begun || this.#status !== "in-sync" || this.#options.gate.reason !== undefined) return;
    this.#flush();
    this.#begun = true;
    this.#tellRefusals();
    const breath = new Breath(this.#options.clock, SLICE);
    for (const part of partsOf(this.#graph.program)) {
      this.#step(part);
      await breath.after(PART);
    }
    await this.#options.loop.start();
    this.#inSync = true;
    this.#options.onInSync();
  }

  #flush(): void {
    this.#endUnderWay();
    this.#take(this.#graph.flush());
  }

  /** As `#flush`, but that the thread is given back while a large set is filled. */
  async #flushInSteps(breath: Breath): Promise<void> {
    this.#endUnderWay();
    const steps = this.#graph.flushing();
    this.#underWay = steps;
    // Whoever calculates meanwhile has ended it.
    while (this.#underWay === steps) {
      const step = steps.next();
      if (step.done !== true) await breath.after(1);
      else {
        this.#underWay = undefined;
        this.#take(step.value);
      }
    }
  }

  #endUnderWay(): void {
    const steps = this.#underWay;
    this.#underWay = undefined;
    if (steps !== undefined) this.#take(finishSteps(steps));
  }

  #take(delta: ProgramDelta): void {
    const { bgp, bgpChanges } = this.#graph;
    if (bgpChanges !== this.#bgpChanges) this.#options.onBgp(bgp);
    this.#bgpChanges = bgpChanges;
    // Until the kernel is touched for the first time, what it should be doing is of no use to anybody.
    if (!this.#begun) return;
    this.#step(delta);
    this.#tellRefusals();
  }

  #tellRefusals(): void {
    for (const [key, why] of this.#graph.refusals) this.#options.onRefusal(keyOfText("WorkloadEndpoint", key), why);
    for (const withheld of this.#graph.withheld.values()) this.#options.onWithheld(withheld);
  }

  #step(delta: ProgramDelta): void {
    this.#options.loop.step(this.#graph.program, delta);
    this.#options.onStep(this.#graph.program, delta);
  }
}

/** A block of addresses is as much work as several pods. */
function weightOf(update: RowUpdate | undefined): number {
  return update?.kind === "IPAMBlock" ? BLOCK_WEIGHT : 1;
}

/** A pod of this node is a step by itself: it makes policies active, with their sets of all pods. */
function endOfStep(updates: readonly RowUpdate[], from: number): number {
  const isHere = (update: RowUpdate | undefined): boolean => update?.kind === "Pod" && update.value?.here !== undefined;
  let end = from + 1;
  let weight = weightOf(updates[from]);
  if (isHere(updates[from])) return end;
  while (end < updates.length && weight < FIRST_STEP && !isHere(updates[end])) weight += weightOf(updates[end++]);
  return end;
}

/** Rows of a program that are taken in at a time. */
const PART = 4;

/** A whole program as changes of a few rows each, referents first; read as it is when its turn comes. */
function* partsOf(program: Program): Generator<ProgramDelta> {
  const nothing = { sets: NONE, members: NONE, policies: NONE, endpoints: NONE, routes: NONE };
  for (const table of ["sets", "policies", "endpoints", "routes"] as const) {
    const rows: ReadonlyMap<string, unknown> = program[table];
    const keys = [...rows.keys()];
    for (let i = 0; i < keys.length; i += PART) {
      const part = keys.slice(i, i + PART).filter((key) => rows.has(key));
      yield { ...nothing, [table]: new Map(part.map((key) => [key, rows.get(key)])) };
    }
  }
}

const NONE: ReadonlyMap<never, never> = new Map<never, never>();
