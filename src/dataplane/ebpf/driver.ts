/**
 * EbpfDriver: policy in the maps of the data path, and its programs at the interfaces.
 *
 * A commit writes what the next generation has besides the present one, switches to it by one write, waits until no packet is judged by
 * the old one, and then takes away what only that had. A packet is judged by one generation throughout. What the kernel refuses is set apart
 * before the switch: whoever needs it is closed, and everything else goes on.
 */
import type { Sys } from "../../host/sys.ts";
import type { Watch, Watcher } from "../../host/watcher.ts";
import { KernelError } from "../../kernel/errno.ts";
import { invariant } from "../../lib/bug.ts";
import { equal } from "../../lib/equal.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import type { Counters } from "../counters.ts";
import type { DeniedPackets } from "../denied.ts";
import type { FlowSource } from "../flows/source.ts";
import type { Driver, DriverEvents, PlannedChange, RowStatus, Steps, Touched } from "../driver.ts";
import { Attachment } from "./attachment.ts";
import type { RefusedUnit } from "./changes.ts";
import { countersOf } from "./counters.ts";
import { Dirt } from "./dirt.ts";
import { fillOf } from "./fill.ts";
import { adoptingFlows, EbpfFlows, sourcePrefixes } from "./flows.ts";
import { type Image, readingImage, ZERO } from "./image.ts";
import { encodeState, EVERY_INDEX } from "./layout.ts";
import type { EbpfOptions } from "./options.ts";
import { missedEvents, PacketLog, type PacketLogOptions } from "./log.ts";
import { KeptDenied } from "./denied.ts";
import { DataplaneMaps } from "./maps.ts";
import { HostStackWay, leavingWay } from "./past.ts";
import type { Placement } from "./placement.ts";
import { type Lowered, Planner } from "./planner.ts";
import { isHeldAlone, RefusedUnits } from "./refused.ts";
import { UnderWay } from "./under-way.ts";
import { watchEbpf } from "./watch.ts";

/** Plans that a change of the program meanwhile made useless, after which one is made without giving the thread back. */
const MOST_PLANS = 3;
/** For a commit under way: 2 s. */
const [MOST_WAITS, WAIT_MS] = [200, 10] as const;

export class EbpfDriver implements Driver {
  readonly name = "ebpf";
  readonly isSerial = true;
  readonly #sys: Sys;
  readonly #options: EbpfOptions;
  readonly #attachment: Attachment;
  readonly #way: HostStackWay;
  readonly #refused: RefusedUnits;
  readonly #lowered: Lowered = new WeakMap();
  readonly #denied: KeptDenied;
  readonly #underWay = new UnderWay();
  #maps: DataplaneMaps | undefined;
  /** Since the maps are open. */
  #flows: EbpfFlows | undefined;
  #program: Program | undefined;
  #image: Image | undefined;
  /** Where the program is; undefined: everything is to be planned anew. */
  #placement: Placement | undefined;
  #dirt = new Dirt(true);
  #isFresh = false;
  #pending = 0;
  /** Counts what is taken in. */
  #version = 0;
  /** Planned when everything was read; and of what. */
  #ready: { readonly planner: Planner; readonly version: number; readonly interfaces: number } | undefined;

  /** Opens its sockets in the thread's network namespace; the maps are opened when it reads. Throws KernelError. */
  constructor(sys: Sys, options: EbpfOptions) {
    this.#sys = sys;
    this.#options = options;
    this.#way = new HostStackWay({ sys, clock: options.clock, report: options.report });
    const { ownsTable } = options;
    this.#attachment = new Attachment({ sys, maps: () => this.maps, ownsTable, way: this.#way });
    this.#refused = new RefusedUnits(options.clock);
    this.#denied = new KeptDenied({
      clock: options.clock,
      nameOf: (index) => this.#attachment.interfaces.nameOf(index),
      endpointOf: (name) => this.#program?.endpoints.get(name as EndpointId)?.source,
    });
  }

  close(): void {
    this.#options.calls?.close();
    this.#attachment.close();
    this.#maps?.close();
    this.#maps = undefined;
  }

  get maps(): DataplaneMaps {
    invariant(this.#maps !== undefined, "the maps are not open: read first");
    return this.#maps;
  }

  /** What the maps hold, as last read or written. */
  get image(): Image | undefined {
    return this.#image;
  }

  get isFresh(): boolean {
    return this.#isFresh;
  }

  get pending(): number {
    return this.#pending;
  }

  get writes(): number {
    return (this.#maps?.writes ?? 0) + this.#attachment.writes + this.#way.writes;
  }

  get dueMs(): number | undefined {
    return this.#refused.dueMs;
  }

  lower(program: Program, delta: ProgramDelta): void {
    if (delta.settings !== undefined) this.#attachment.changed();
    this.#program = program;
    if (!this.#dirt.add(program, delta)) return;
    this.#version++;
    this.#isFresh = true;
    this.#pending += delta.sets.size + delta.policies.size + delta.endpoints.size;
    // What is wanted has changed: it may fit now.
    this.#refused.hasten();
  }

  *reading(only?: Touched): Steps {
    const { object, pins, ownsTable, calls } = this.#options;
    if (this.#maps === undefined) {
      const of = { sys: this.#sys, object: object(), directory: pins, calls, onlyLooks: ownsTable === undefined };
      this.#maps = yield* DataplaneMaps.opening(of);
      this.#flows = new EbpfFlows({ sys: this.#sys, maps: this.#maps });
    }
    this.#ready = undefined;
    if (only !== undefined && this.#image !== undefined) return this.#look(only);
    this.#image = undefined;
    this.#placement = undefined;
    const image = yield* readingImage(this.#maps);
    yield* this.#attachment.reading();
    this.#image = image;
    if (this.#program === undefined) return;
    const planner = yield* this.#planning(image, () => new Dirt(true));
    this.#ready = { planner, version: this.#version, interfaces: this.#attachment.interfaces.version };
    this.#pending = this.#linesOf(planner, this.#program).length;
  }

  /** undefined until it reads. */
  get flows(): FlowSource | undefined {
    return this.#flows;
  }

  /** At what others have touched. */
  #look(only: Touched): void {
    const settings = this.#program?.settings;
    for (const row of only) {
      const { isMissing, names } = this.#attachment.look(row, settings);
      if (isMissing) this.#pending++;
      for (const name of names) this.#touch(name);
    }
    if (settings !== undefined && !this.#way.hasDevices(this.#attachment.devices(settings))) this.#pending++;
  }

  /** And takes what the path tells of packets. */
  watch(watcher: Watcher, events: DriverEvents): Watch {
    const watch = watchEbpf(this.#sys, watcher, events, this.#attachment.watched);
    const [sys, { clock, report }] = [this.#sys, this.#options];
    const logPrefix = (): string => this.#program?.settings.logPrefix ?? "";
    const closing = new AbortController();
    const denied: PacketLogOptions["denied"] = (events, now) => this.#denied.add(events, now);
    const of = { sys, watcher, maps: () => this.#maps, image: () => this.#image, logPrefix, clock, report, denied };
    void new PacketLog(of).run(closing.signal);
    void this.#way.keeping(closing.signal, () => this.#maps);
    return {
      close: () => {
        closing.abort();
        watch.close();
      },
    };
  }

  plan(): readonly PlannedChange[] {
    const [program, image] = [this.#program, this.#image];
    if (program === undefined || image === undefined) return [];
    const planner = this.#planner(program, image, new Dirt(true));
    for (const step of planner.steps()) invariant(step === undefined, "planning does not wait");
    return this.#linesOf(planner, program);
  }

  #linesOf({ changes }: Planner, { settings }: Program): readonly PlannedChange[] {
    return [
      ...changes.lines,
      ...this.#attachment.plan(settings),
      ...this.#way.plan(changes.state, settings.goesPastStack, this.#attachment.devices(settings)),
    ];
  }

  #planner(program: Program, image: Image, dirt: Dirt): Planner {
    return new Planner({
      program,
      image,
      maps: this.maps,
      lowered: this.#lowered,
      placement: dirt.isWhole ? undefined : this.#placement,
      dirt,
      indexOf: (name) => this.#attachment.interfaces.indexOf(name),
      refusalOf: (unit) => this.#refused.errorOf(unit),
    });
  }

  *committing(): Steps {
    yield undefined;
    if (this.#program === undefined) return;
    if (this.#refused.tryDue()) this.#dirt.isWhole = true;
    this.#isFresh = false;
    let image = this.#image ?? (yield* readingImage(this.maps));
    for (;;) {
      // A commit that fails on its way leaves what only reading shows.
      this.#image = undefined;
      const refused = yield* this.#write(image);
      if (refused === undefined) break;
      this.#refused.refuse(refused);
      this.#dirt.isWhole = true;
      image = yield* readingImage(this.maps);
    }
    image.state = yield* this.#way.settling(this.maps, image.state, this.#program.settings.goesPastStack);
  }

  /** undefined: it is in the kernel. Else nothing is changed but what no packet sees, and the image must be read. */
  *#write(image: Image): Generator<Promise<void> | undefined, RefusedUnit | undefined> {
    const { maps } = this;
    const program = this.#program;
    invariant(program !== undefined, "there is no program to be written");
    // An earlier daemon was ended while it wrote.
    if (image.repairs.length > 0) this.#underWay.mayHaveSwitched();
    yield* this.#underWay.gone(maps);
    for (const repair of image.repairs.splice(0)) {
      repair();
      maps.writes++;
    }
    const isWhole = this.#placement === undefined || this.#dirt.isWhole;
    if (isWhole) yield* this.#attachment.interfaces.refreshing();
    const { changes, placement } = yield* this.#planned(image);
    this.#placement = undefined;
    for (const { unit, run } of changes.prepare) {
      try {
        run();
      } catch (error) {
        if (!(error instanceof KernelError) || !isHeldAlone(unit, error)) throw error;
        return { unit, error };
      }
      yield undefined;
    }
    // Without host endpoints the path does not know the node's own flows.
    if (changes.state.hasHostEndpoints && !image.state.hasHostEndpoints) yield* this.#adopting();
    if (changes.isSwitched) {
      image.state = changes.state;
      maps.writeAll(maps.state, [{ key: ZERO, value: encodeState(changes.state) }]);
      this.#underWay.switched(maps);
    }
    yield* this.#attachment.attaching(program.settings, isWhole, () => this.#adopting());
    for (const run of changes.describe) {
      run();
      yield;
    }
    for (const run of changes.apply) run();
    this.#isInForce(image, placement);
    if (changes.clean.length > 0) yield* this.#underWay.gone(maps);
    for (const run of changes.clean) {
      run();
      yield undefined;
    }
    return undefined;
  }

  /** From here on packets are judged by it; what is left to do takes away what none of them sees. */
  #isInForce(image: Image, placement: Placement): void {
    [this.#image, this.#placement] = [image, placement];
    // What came meanwhile is still to be written.
    this.#pending = this.#isFresh ? this.#dirt.size : 0;
    this.#settle();
  }

  /** What the kernel's table of connections knows, the path knows too. */
  *#adopting(): Steps {
    const indexOf = (name: string): number | undefined => this.#attachment.interfaces.indexOf(name);
    yield* adoptingFlows(
      this.#sys,
      this.maps,
      this.#program === undefined ? [] : sourcePrefixes(this.#program, indexOf),
    );
  }

  /** What is to be written now; nothing that comes later is in it. */
  *#planned(image: Image): Generator<undefined, Planner> {
    const ready = this.#ready;
    this.#ready = undefined;
    const isCurrent = ready?.version === this.#version && ready.interfaces === this.#attachment.interfaces.version;
    const planner = ready !== undefined && isCurrent ? ready.planner : yield* this.#planning(image, () => this.#dirt);
    this.#dirt = new Dirt();
    return planner;
  }

  /** The program may change meanwhile: then it is planned anew. */
  *#planning(image: Image, dirt: () => Dirt): Generator<undefined, Planner> {
    for (let attempt = 1; ; attempt++) {
      const [program, version] = [this.#program, this.#version];
      invariant(program !== undefined, "there is no program to be planned");
      const planner = this.#planner(program, image, dirt());
      for (const step of planner.steps()) {
        invariant(step === undefined, "planning does not wait");
        if (attempt < MOST_PLANS) yield undefined;
      }
      if (version === this.#version) return planner;
      // The placement has been changed by half a plan.
      this.#placement = undefined;
    }
  }

  /** Attaches the programs to a workload's interface that has just been made, before it is up; it is served at once. Throws KernelError. */
  guard(index: number, name: string): void {
    const settings = this.#program?.settings;
    if (this.#maps === undefined || settings === undefined) return;
    this.#attachment.attach(index, name, settings);
    this.#touch(name);
    this.#attachment.serve(settings);
  }

  /** The endpoint's interface has come or gone. */
  #touch(name: string): void {
    if (this.#program?.endpoints.has(name as EndpointId) !== true) return;
    this.#dirt.endpoints.add(name as EndpointId);
    this.#version++;
  }

  #settle(): void {
    const interfaces = [...this.#attachment.interfaces.refused].map(([name, error]) => {
      const object = this.#program?.endpoints.get(name as EndpointId)?.source;
      return { unit: `interface ${name}`, row: `interface ${name}`, object, error };
    });
    this.#refused.settle(this.#placement?.held ?? new Map(), interfaces);
  }

  get failures(): readonly RowStatus[] {
    return [...this.#refused.rows, ...this.#way.faults];
  }

  isProgrammed(endpoint: EndpointId): boolean {
    const placed = this.#placement?.endpoints.get(endpoint);
    if (this.#pending > 0 || this.#maps === undefined || this.#image === undefined || placed === undefined)
      return false;
    if (this.#refusalOf(endpoint) !== undefined) return false;
    return placed.index === EVERY_INDEX || this.#attachment.isServed(placed.index, this.#program?.settings);
  }

  explain(endpoint: EndpointId): string | undefined {
    if (this.isProgrammed(endpoint) || this.#pending > 0) return undefined;
    // A commit is under way, or will take it in.
    if (this.#image === undefined || this.#placement === undefined || this.#dirt.endpoints.has(endpoint))
      return undefined;
    const isThere = this.#attachment.interfaces.indexOf(endpoint) !== undefined;
    return (
      this.#refusalOf(endpoint)?.error ?? `interface ${endpoint} ${isThere ? "has no programs yet" : "does not exist"}`
    );
  }

  #refusalOf(endpoint: EndpointId): RowStatus | undefined {
    const source = this.#program?.endpoints.get(endpoint)?.source;
    return source === undefined ? undefined : this.failures.find(({ object }) => equal(object, source));
  }

  /** Rejects with KernelError. */
  async counters(program: Program): Promise<Counters> {
    const { clock } = this.#options;
    // While a commit writes, it is not known where everything is.
    for (let i = 0; i < MOST_WAITS && (this.#image === undefined || this.#placement === undefined); i++)
      await clock.sleep(WAIT_MS);
    const [maps, image, placement] = [this.#maps, this.#image, this.#placement];
    if (maps === undefined || image === undefined || placement === undefined) return { rules: [], ends: [] };
    return {
      ...countersOf(program, image, placement, maps),
      maps: await fillOf(image, maps, clock),
    };
  }

  /** Those of which the path has told since the driver watches. Throws KernelError. */
  get denied(): DeniedPackets {
    return {
      packets: this.#denied.packets,
      missed: this.#maps === undefined ? 0 : Number(missedEvents(this.#maps)),
    };
  }

  /** Takes programs and rules out of the kernel; the pins go by `removePins`. Nothing may be asked of the driver afterwards. Throws KernelError. */
  *removing(): Steps {
    // Of a driver that never read, too.
    yield* leavingWay(this.#sys, this.#options.pins, () => this.#maps?.waiting());
    yield* this.#attachment.removing();
  }
}
