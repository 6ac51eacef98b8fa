/**
 * interfaces: the programs at the two sides of the node's interfaces: which each one should have, which it has, and what others do to them. An interface
 * that has not both is not served (`guard.ts`).
 */
import type { Sys } from "../../host/sys.ts";
import { Attachments, type Side } from "../../kernel/bpf/attach.ts";
import { type Device, DeviceReader } from "../../kernel/bpf/device.ts";
import { ENODEV, KernelError } from "../../kernel/errno.ts";
import { type Link, RouteClient } from "../../kernel/route/client.ts";
import { invariant } from "../../lib/bug.ts";
import { isWorkloadInterface } from "../../program/path.ts";
import type { Settings } from "../../program/program.ts";
import type { PlannedChange, Steps } from "../driver.ts";
import type { DeviceValue } from "./layout.ts";
import type { DataplaneMaps, ProgramName } from "./maps.ts";

/** Where our classifiers are among others of an interface. */
export const PLACE = { priority: 0xca11, handle: 1 } as const;

export const SIDES: readonly Side[] = ["ingress", "egress"];

interface Known {
  readonly name: string;
  /** Number of the program by side. */
  readonly programs: Map<Side, number>;
  readonly device: Device | undefined;
  /** Sides on which others have classifiers. */
  readonly others: ReadonlySet<Side>;
}

/** Interfaces looked at in one step. */
const IN_STEP = 16;

export class Interfaces {
  readonly #routes: RouteClient;
  readonly #attachments: Attachments;
  readonly #devices: DeviceReader;
  readonly #known = new Map<number, Known>();
  readonly #byName = new Map<string, number>();
  /** Looked at, and not given its programs since. */
  readonly #fresh = new Set<number>();
  /** Changes whenever an interface or what it has does. */
  version = 0;
  /** Why an interface cannot have its programs. */
  readonly refused = new Map<string, KernelError>();

  /** In the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys) {
    this.#routes = new RouteClient(sys);
    this.#attachments = new Attachments(sys, PLACE);
    this.#devices = new DeviceReader(sys);
  }

  close(): void {
    this.#devices.close();
    this.#attachments.close();
    this.#routes.close();
  }

  get writes(): number {
    return this.#attachments.writes;
  }

  /** Port ids of the sockets that change something. */
  isOwn(portId: number): boolean {
    return portId !== 0 && portId === this.#attachments.portId;
  }

  /** undefined: there is none of the name. Throws KernelError. */
  indexOf(name: string): number | undefined {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const link = this.#routes.linkByName(name);
    if (link !== undefined) this.look(link.index, name);
    return link?.index;
  }

  nameOf(index: number): string | undefined {
    return this.#known.get(index)?.name;
  }

  /** Looks at all interfaces and their programs. Throws KernelError. */
  *reading(): Steps {
    this.#known.clear();
    this.#byName.clear();
    yield* this.#looking(this.#routes.links());
  }

  /** Hears of interfaces that have come, gone or been renamed. Throws KernelError. */
  *refreshing(): Steps {
    const links = this.#routes.links();
    const indices = new Set(links.map(({ index }) => index));
    for (const index of this.#known.keys()) if (!indices.has(index)) this.#forget(index);
    yield* this.#looking(links.filter(({ index, name }) => this.nameOf(index) !== name));
  }

  *#looking(links: readonly Link[]): Steps {
    let count = 0;
    for (const { index, name } of links) {
      if (name === "lo") continue;
      this.look(index, name);
      if (++count % IN_STEP === 0) yield;
    }
  }

  /** Reads what the interface has now; without a name it is looked up. Throws KernelError. */
  look(index: number, name = this.#routes.linkByIndex(index)?.name): void {
    this.#forget(index);
    if (name === undefined || name === "lo") return;
    const programs = new Map(this.#attachments.attached(index).map(({ side, programId }) => [side, programId]));
    const others = new Set(SIDES.filter((side) => this.#attachments.hasOthers(index, side)));
    this.#known.set(index, { name, programs, others, device: this.#devices.read(index) });
    this.#byName.set(name, index);
    this.#fresh.add(index);
  }

  #forget(index: number): void {
    const known = this.#known.get(index);
    this.version++;
    this.#known.delete(index);
    this.#fresh.delete(index);
    if (known === undefined) return;
    this.refused.delete(known.name);
    if (this.#byName.get(known.name) === index) this.#byName.delete(known.name);
  }

  plan(maps: DataplaneMaps, settings: Settings): PlannedChange[] {
    return [...this.#known].flatMap(([, known]) =>
      lacking(known, maps, settings).map(([side, program]): PlannedChange => ({
        sign: known.programs.has(side) ? "~" : "+",
        what: `program ${program} at ${known.name} ${side}`,
        lines: [],
      })),
    );
  }

  /**
   * Gives every interface what it lacks; what the kernel refuses is noted. First where packets come in, and then it is waited for those under way: what
   * leaves through a program has come in through one.
   */
  *attaching(maps: DataplaneMaps, settings: Settings): Steps {
    let count = 0;
    for (const sides of [["ingress"], SIDES] as const) {
      const { writes } = this;
      for (const index of this.#known.keys()) {
        this.attach(index, maps, settings, sides);
        if (++count % IN_STEP === 0) yield;
      }
      if (sides !== SIDES && this.writes > writes) yield* maps.waiting();
    }
  }

  /** Gives those their programs that were looked at since it was last done. */
  attachFresh(maps: DataplaneMaps, settings: Settings): void {
    for (const index of this.#fresh) this.attach(index, maps, settings);
  }

  /** False: the kernel refuses; it is noted why. */
  attach(index: number, maps: DataplaneMaps, settings: Settings, sides: readonly Side[] = SIDES): boolean {
    const known = this.#known.get(index);
    if (known === undefined) return false;
    try {
      for (const [side, program] of lacking(known, maps, settings)) {
        if (!sides.includes(side)) continue;
        const { fd, id } = programOf(maps, program);
        this.#attachments.attach(index, side, fd, `calico ${program} ${maps.digest}`);
        known.programs.set(side, id);
        this.version++;
      }
      if (lacking(known, maps, settings).length === 0) this.#fresh.delete(index);
      this.refused.delete(known.name);
      return true;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (error.errno === ENODEV) this.#forget(index);
      else this.refused.set(known.name, error);
      return false;
    }
  }

  /** It has all of its programs. */
  isServed(index: number, maps: DataplaneMaps, settings: Settings): boolean {
    const known = this.#known.get(index);
    return known !== undefined && lacking(known, maps, settings).length === 0;
  }

  served(maps: DataplaneMaps, settings: Settings): ReadonlySet<number> {
    return new Set([...this.#known.keys()].filter((index) => this.isServed(index, maps, settings)));
  }

  /** Served interfaces from and to which packets may go past the host stack. */
  *devices(maps: DataplaneMaps, settings: Settings): Generator<readonly [index: number, device: DeviceValue]> {
    for (const [index, { name, device, others }] of this.#known) {
      // What others do with what comes in would be left out.
      if (device === undefined || others.has("ingress") || !this.isServed(index, maps, settings)) continue;
      if (!device.isEthernet || !PLAIN_KINDS.has(device.kind)) continue;
      const isPair = device.kind === "veth" && device.leadsElsewhere && isWorkloadInterface(name, settings);
      const toPeer = isPair && device.isUnqueued && !others.has("egress");
      yield [index, { most: Math.min(device.mtuBytes, MOST_BYTES), toPeer }];
    }
  }

  /** Its packets have another size than was known, or it is up now, or down. */
  isChanged({ index, mtuBytes, up }: Pick<Link, "index" | "mtuBytes" | "up">): boolean {
    const device = this.#known.get(index)?.device;
    return device !== undefined && (device.mtuBytes !== mtuBytes || device.isUp !== up);
  }

  /**
   * Takes ours from all interfaces, first where packets leave: a program there drops what has not come in through one. The queueing discipline stays:
   * taking it from an interface that is up, as adding it, makes the kernel drop what it sends for some milliseconds. Throws KernelError.
   */
  *removing(): Steps {
    yield* this.reading();
    for (const side of ["egress", "ingress"] as const)
      for (const [index, { programs }] of this.#known) {
        if (!programs.has(side)) continue;
        this.#attachments.detach(index, side);
        yield;
      }
  }
}

/** Of the kinds of interfaces, those that send a packet as it is; undefined: physical ones. */
const PLAIN_KINDS: ReadonlySet<string | undefined> = new Set([
  undefined,
  "veth",
  "tun",
  "vlan",
  "bond",
  "team",
  "bridge",
  "macvlan",
  "macvtap",
]);
/** Of an IP packet. */
const MOST_BYTES = 65_535;

function programsFor(name: string, settings: Settings): readonly (readonly [Side, ProgramName])[] {
  return isWorkloadInterface(name, settings)
    ? [
        ["ingress", "from_workload"],
        ["egress", "to_workload"],
      ]
    : [
        ["ingress", "from_network"],
        ["egress", "to_network"],
      ];
}

function lacking(
  { name, programs }: Known,
  maps: DataplaneMaps,
  settings: Settings,
): readonly (readonly [Side, ProgramName])[] {
  return programsFor(name, settings).filter(([side, program]) => programs.get(side) !== programOf(maps, program).id);
}

function programOf(maps: DataplaneMaps, name: ProgramName): { readonly fd: number; readonly id: number } {
  const program = maps.programs.get(name);
  invariant(program !== undefined, `no program ${name}`);
  return program;
}
