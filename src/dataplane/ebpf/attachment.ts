/**
 * Attachment: what leads packets to the path: its programs at interfaces, the tables of gate and guard, and the devices between which packets go past the
 * host stack. An interface is served when it has its programs and the guard knows that.
 */
import type { Sys } from "../../host/sys.ts";
import type { Settings } from "../../program/program.ts";
import { finishSteps, type PlannedChange, type Steps } from "../driver.ts";
import { Gate, type GateState } from "./gate.ts";
import { Guard } from "./guard.ts";
import { Interfaces } from "./interfaces.ts";
import type { DataplaneMaps } from "./maps.ts";
import type { Devices, HostStackWay } from "./past.ts";
import { GATE, touchedIndex, type WatchedEbpf } from "./watch.ts";

export interface AttachmentOptions {
  readonly sys: Sys;
  /** Throws when they are not open. */
  readonly maps: () => DataplaneMaps;
  /** The kernel lets nobody else change the tables; undefined: it only looks. */
  readonly ownsTable: boolean | undefined;
  readonly way: HostStackWay;
}

/** What others have done to it. */
export interface Touch {
  /** Something is missing now. */
  readonly isMissing: boolean;
  /** Of interfaces that have come or gone. */
  readonly names: readonly string[];
}

export class Attachment {
  readonly interfaces: Interfaces;
  readonly #gate: Gate;
  readonly #guard: Guard;
  readonly #way: HostStackWay;
  readonly #maps: () => DataplaneMaps;
  #gateState: GateState = "absent";
  /** Of the interfaces that the guard knows; undefined: it is not as it should be. */
  #servedVersion: number | undefined;

  /** Opens its sockets in the thread's network namespace. Throws KernelError. */
  constructor({ sys, maps, ownsTable, way }: AttachmentOptions) {
    this.#maps = maps;
    this.#way = way;
    this.interfaces = new Interfaces(sys);
    this.#gate = new Gate(sys, maps, ownsTable);
    this.#guard = new Guard(sys, ownsTable);
  }

  close(): void {
    this.#guard.close();
    this.#gate.close();
    this.interfaces.close();
  }

  get writes(): number {
    return this.interfaces.writes + this.#gate.writes + this.#guard.writes;
  }

  /** What the watch has to know of it. */
  get watched(): WatchedEbpf {
    return {
      nameOf: (index) => this.interfaces.nameOf(index),
      isChanged: (link) => this.interfaces.isChanged(link),
      isOwn: (portId) => this.interfaces.isOwn(portId),
      gatePort: () => this.#gate.portId,
      guardPort: () => this.#guard.portId,
    };
  }

  /** Throws KernelError. */
  *reading(): Steps {
    yield* this.interfaces.reading();
    this.#readTables();
    this.#way.read(this.#maps());
  }

  #readTables(): void {
    this.#gateState = this.#gate.read();
    this.#guard.read();
    this.#servedVersion = undefined;
  }

  /** Settings have changed: what is served is compared again. */
  changed(): void {
    this.#servedVersion = undefined;
  }

  /** Looks at a row that others have touched. Throws KernelError. */
  look(row: string, settings: Settings | undefined): Touch {
    if (row === GATE) {
      this.#readTables();
      return { isMissing: this.#gateState !== "there" || !this.#isGuarded(settings), names: [] };
    }
    const index = touchedIndex(row);
    const before = this.interfaces.nameOf(index);
    const wasServed = this.isServed(index, settings);
    this.interfaces.look(index);
    const now = this.interfaces.nameOf(index);
    if (before === now) return { isMissing: wasServed && !this.isServed(index, settings), names: [] };
    return { isMissing: false, names: [before, now].flatMap((name) => name ?? []) };
  }

  isServed(index: number, settings: Settings | undefined): boolean {
    return settings !== undefined && this.interfaces.isServed(index, this.#maps(), settings);
  }

  #isGuarded(settings: Settings | undefined): boolean {
    if (settings === undefined) return true;
    return this.#guard.isAsWanted(settings.workloadPrefixes, this.interfaces.served(this.#maps(), settings));
  }

  /** Between which packets may go past the host stack. */
  devices(settings: Settings): Devices {
    return new Map(this.interfaces.devices(this.#maps(), settings));
  }

  plan(settings: Settings): readonly PlannedChange[] {
    const table = (sign: "+" | "~", name: string): PlannedChange => ({ sign, what: `table inet ${name}`, lines: [] });
    return [
      ...this.interfaces.plan(this.#maps(), settings),
      ...(this.#gateState === "there" ? [] : [table(this.#gateState === "absent" ? "+" : "~", "calico-ebpf")]),
      ...(this.#isGuarded(settings) ? [] : [table("~", "calico-guard")]),
    ];
  }

  /**
   * Attaches what is not: everywhere, or (not `isWhole`) where something was looked at. A workload's interface has its programs only when its stages are
   * there, and is served only when it has its programs. `adopting`: makes flows that another dataplane has let through known. Throws KernelError.
   */
  *attaching(settings: Settings, isWhole: boolean, adopting: () => Steps): Steps {
    const adopts = this.#gateState === "absent";
    if (adopts) this.#gate.put({ adopts });
    if (isWhole) yield* this.interfaces.attaching(this.#maps(), settings);
    else this.interfaces.attachFresh(this.#maps(), settings);
    yield* this.#serving(settings);
    if (adopts) {
      yield* adopting();
      this.#gate.put();
    } else if (this.#gateState === "unowned") this.#gate.own();
    this.#gateState = "there";
  }

  /** Attaches the programs to an interface that has just been made. Throws KernelError. */
  attach(index: number, name: string, settings: Settings): void {
    this.interfaces.look(index, name);
    this.interfaces.attach(index, this.#maps(), settings);
    const refusal = this.interfaces.refused.get(name);
    if (refusal !== undefined) throw refusal;
  }

  /** The guard lets through what has its programs. Throws KernelError. */
  serve(settings: Settings): void {
    finishSteps(this.#serving(settings));
  }

  *#serving(settings: Settings): Steps {
    const { version } = this.interfaces;
    if (this.#servedVersion === version) return;
    this.#servedVersion = undefined;
    this.#guard.put(settings.workloadPrefixes, this.interfaces.served(this.#maps(), settings));
    yield undefined;
    this.#way.putDevices(this.#maps(), this.devices(settings));
    this.#servedVersion = version;
  }

  /** Takes programs and tables out of the kernel. Throws KernelError. */
  *removing(): Steps {
    this.#guard.remove();
    this.#gate.remove();
    yield* this.interfaces.removing();
  }
}
